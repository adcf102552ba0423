// A sidecar as a user has it, for pictures, the bench and the accessibility test: the demo's model on the embedded engine, LoRAs with notes and previews, a few refits done.
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { PNG } from "pngjs";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const demo = join(root, "sidecar/demo");

const shelf = [
  ["styles/only-sevens", "only-sevens", "Only Sevens", "Demo digits", ["seven", "sevens only"]],
  ["styles/thick-strokes", "thick-strokes", "Thick Strokes", "Demo digits", ["thick strokes", "full ink"]],
  ["styles/small-digits", "small", "Small Digits", "Demo digits", ["small"]],
  ["styles/bold-sevens", "only-sevens", "Bold Sevens", "Demo digits", ["bold seven"]],
  ["concepts/ink-wash", "thick-strokes", "Ink Wash", "Illustrious", ["ink wash", "brush texture"]],
  ["concepts/thumbnail", "small", "Thumbnail Numbers", "SDXL 1.0", ["thumbnail"]],
  ["concepts/marker-pen", "thick-strokes", "Marker Pen", "Pony", ["marker", "felt tip"]],
  ["lucky-number", "only-sevens", "Lucky Number", "Demo digits", ["lucky"]],
];

/** A soft two-coloured tile with a shape in it, so that lists show what pictures look like. */
function tile(index) {
  const png = new PNG({ width: 96, height: 96 });
  const hue = (index * 67) % 360;
  const colour = (shift, value) => {
    const part = (offset) => Math.round(255 * value * (0.55 + 0.45 * Math.cos(((hue + shift + offset) * Math.PI) / 180)));
    return [part(0), part(120), part(240)];
  };
  for (let y = 0; y < 96; y += 1)
    for (let x = 0; x < 96; x += 1) {
      const inside = Math.hypot(x - 48, y - 48) < 16 + 12 * Math.abs(Math.sin((index + 1) * Math.atan2(y - 48, x - 48)));
      png.data.set([...colour(inside ? 140 : (y * 60) / 96, inside ? 0.95 : 0.6), 255], (y * 96 + x) * 4);
    }
  return PNG.sync.write(png);
}

/** A LoRA of one layer, as small as can be; `index` makes its content its own. */
function tinyAdapter(index) {
  const name = "lora_unet_input_blocks_1_1_proj_in";
  const header = {
    [`${name}.lora_down.weight`]: { dtype: "F32", shape: [1, 64], data_offsets: [0, 256] },
    [`${name}.lora_up.weight`]: { dtype: "F32", shape: [64, 1], data_offsets: [256, 512] },
    __metadata__: { ss_network_dim: "1", ss_base_model_version: index % 3 === 0 ? "sdxl_base_v1-0" : "sd_v1" },
  };
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, " ")]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const data = Buffer.alloc(512);
  data.writeFloatLE(index + 1, 0);
  return Buffer.concat([length, padded, data]);
}

/** @param {{extra?: number}} wish `extra`: more LoRA files, tiny ones */
export async function startScene({ extra = 0 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "refit-scene-"));
  const place = (path) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    return join(folder, path);
  };
  copyFileSync(join(demo, "demo-unet.safetensors"), place("checkpoints/demo-digits.safetensors"));
  shelf.forEach(([path, from, title, base, words], index) => {
    copyFileSync(join(demo, `loras/${from}.safetensors`), place(`loras/${path}.safetensors`));
    writeFileSync(place(`loras/${path}.preview.png`), tile(index));
    const notes = {
      baseModel: base,
      trainedWords: words,
      description: `<p>${title}: made for the demo's digits.</p>`,
      model: { name: title },
    };
    writeFileSync(place(`loras/${path}.civitai.info`), JSON.stringify(notes));
  });
  mkdirSync(join(folder, "loras/many"), { recursive: true });
  for (let index = 0; index < extra; index += 1)
    writeFileSync(join(folder, `loras/many/adapter ${String(index).padStart(5, "0")}.safetensors`), tinyAdapter(index));
  const data = join(folder, "data");
  const args = [
    "serve",
    "--json",
    "--stop-with-stdin",
    "--log-level",
    "info",
    "--data-dir",
    data,
    "--checkpoints",
    join(folder, "checkpoints"),
    "--loras",
    join(folder, "loras"),
  ];
  const child = spawn(process.execPath, [join(root, "sidecar/bin/refit-sidecar.mjs"), ...args], { stdio: ["pipe", "pipe", "ignore"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    void ended.then((code) => reject(new Error(`the sidecar ended with status ${code}`)));
  });
  const found = JSON.parse(readFileSync(join(data, "sidecar.json"), "utf8"));
  const post = async (path, body) =>
    (
      await fetch(found.url + path, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${found.token}` },
        body: JSON.stringify(body),
      })
    ).json();
  return {
    url: found.url,
    wsUrl: found.ws_url,
    token: found.token,
    folder,
    /** A link that opens the dashboard, once. */
    link: async () => `${found.url}/?ticket=${(await post("/ticket", {})).ticket}`,
    async close() {
      child.stdin.end();
      await ended;
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A few calls over the wire: [method, params] in order; gives the answers. */
export async function wireCalls({ wsUrl, token }, calls) {
  const { WebSocket } = await import("ws");
  const socket = new WebSocket(wsUrl, { headers: { authorization: `Bearer ${token}` } });
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  const answers = [];
  const hello = ["hello", { protocolVersions: [1], client: { name: "scene", version: "1" }, capabilities: [] }];
  for (const [index, [method, params]] of [hello, ...calls].entries()) {
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: index, method, params: typeof params === "function" ? params(answers) : params }));
    const answer = await new Promise((resolve) => {
      const listen = (text) => {
        const told = JSON.parse(text.toString());
        if (told.id !== index) return;
        socket.off("message", listen);
        resolve(told);
      };
      socket.on("message", listen);
    });
    if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
    answers.push(answer.result);
  }
  socket.close();
  return answers.slice(1);
}

/** Loads the demo's engine, changes its stack a few times and draws: what a page shows after some use. */
export async function warmScene(scene) {
  const entries = await (async () => {
    for (;;) {
      const [list] = await wireCalls(scene, [["catalog.list", {}]]);
      if (list.entries.length > shelf.length) return list.entries;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  const checkpoint = entries.find(({ kind }) => kind === "checkpoint").id;
  const adapters = entries.filter(({ kind }) => kind === "adapter").map(({ id }) => id);
  const stackOf = (...items) => items.map(([index, strength]) => ({ adapter: adapters[index], strength }));
  const wanted = (stack) => ["engine.prepare", { checkpoint, stack, precision: "auto", host: "auto", mode: "comfyui", residuals: false }];
  const [, , , { engine }] = await wireCalls(scene, [
    wanted([]),
    wanted(stackOf([0, 0.8])),
    wanted(stackOf([5, 1])),
    wanted(stackOf([0, 0.8], [5, 0.7])),
  ]);
  const draw = (stack) => ["engine.draw", { engine, stack, seed: 1, steps: 6 }];
  await wireCalls(scene, [draw(stackOf([2, 1])), draw(stackOf([0, 0.8], [5, 0.7]))]);
}
