// One picture of a sidecar that runs on the data folder, over HTTP, once a device of it serves; prints its status, devices and a hash of the latents. Usage: ask-service.mjs DATA_DIR
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { readDemoAssets } from "../../sidecar/dist/src/demo/index.js";

const running = async () => JSON.parse(await readFile(join(process.argv[2], "sidecar.json"), "utf8"));
async function call(path, init = {}) {
  const { url, token } = await running();
  return fetch(`${url}${path}`, { ...init, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" } });
}
const devices = async () => (await (await call("/status")).json()).devices;
const serves = async () => (await devices()).some(({ state }) => state !== "down");
while (!(await serves().catch(() => false))) await pause(250);

const { conditioning } = await readDemoAssets();
const data = Buffer.from(conditioning.buffer, conditioning.byteOffset, conditioning.byteLength).toString("base64");
const picture = {
  checkpoint: "base.safetensors",
  stack: [{ adapter: "small.safetensors", strength: 0.8 }],
  ...{ sampler: "euler", schedule: { steps: 4 }, seeds: [1], size: [8, 8] },
  tensors: [{ name: "positive.encoder_hidden_states", dtype: "f32", shape: [1, 4, 768], data }],
};
const answer = await call("/sample", { method: "POST", body: JSON.stringify(picture) });
const body = await answer.json();
const latents = body.tensors?.[0]?.data ?? "";
const names = (await devices()).map(({ name }) => name);
console.log(
  JSON.stringify({
    status: answer.status,
    error: body.error ?? null,
    engine: body.engine,
    devices: names,
    latents: createHash("sha256").update(latents).digest("hex"),
  }),
);
