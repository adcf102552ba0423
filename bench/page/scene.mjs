// A sidecar as a user has it, for pictures, the bench and the accessibility test: the demo's model on the embedded engine, LoRAs with notes and previews, a few refits done.
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PNG } from "pngjs";
import { readDiscovery } from "../../sidecar/dist/src/client/index.js";
import { demo, pause, serve } from "../support/serve.mjs";

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
  let many = 0;
  /** More LoRAs, as files that come while the sidecar runs. */
  function add(count) {
    for (const end = many + count; many < end; many += 1)
      writeFileSync(join(folder, `loras/many/adapter ${String(many).padStart(5, "0")}.safetensors`), tinyAdapter(many));
  }
  add(extra);
  const sidecar = await serve({ folder }, ["--log-level", "info"], []);
  const { url, token } = await readDiscovery(join(folder, "data"));
  return {
    url,
    open: sidecar.open,
    add,
    /** How many LoRAs it has without more. */
    shelf: shelf.length,
    /** Waits until the catalog has so many LoRAs. */
    async whole(adapters) {
      for (;;) {
        const { result } = await sidecar.client.call("status", {});
        if (result.catalog.adapters >= adapters) return;
        await pause(200);
      }
    },
    /** A link that opens the dashboard, once. */
    async link() {
      const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
      const { ticket } = await (await fetch(`${url}/ticket`, { method: "POST", headers, body: "{}" })).json();
      return `${url}/?ticket=${ticket}`;
    },
    async close() {
      await sidecar.close();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Loads the demo's engine, changes its stack a few times and draws: what a page shows after some use. */
export async function warmScene({ open }) {
  let client = await open();
  const call = async (method, params) => (await client.call(method, params)).result;
  const known = async () => (await call("catalog.list", {})).entries;
  let entries = await known();
  for (; entries.length <= shelf.length; entries = await known()) await pause(200);
  const checkpoint = entries.find(({ kind }) => kind === "checkpoint").id;
  const adapters = entries.filter(({ kind }) => kind === "adapter").map(({ id }) => id);
  const stackOf = (...items) => items.map(([index, strength]) => ({ adapter: adapters[index], strength }));
  const wanted = (stack) => ({ checkpoint, stack, precision: "auto", host: "auto", mode: "comfyui", residuals: false });
  for (const stack of [stackOf(), stackOf([0, 0.8]), stackOf([5, 1])]) await call("engine.prepare", wanted(stack));
  const { engine } = await call("engine.prepare", wanted(stackOf([0, 0.8], [5, 0.7])));
  // With its client a run gives its engine back.
  await client.close();
  client = await open();
  for (const stack of [stackOf([2, 1]), stackOf([0, 0.8], [5, 0.7])]) await call("engine.draw", { engine, stack, seed: 1, steps: 6 });
  await client.close();
}
