#!/usr/bin/env node
// What it costs that the sidecar's plan travels with a refit, beside a message that holds the desired stack alone (the host would then list the writes itself, which it
// computes anyway to check the plan). SDXL's parameters; one LoRA of 722 layers gives way to another. Both ways in turns through a pipe to a Python process that reads,
// checks and parses as the hosts do.   npm run bench -- refit-plan [--rounds 200]
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { planRefit } from "../sidecar/dist/src/plan/index.js";
import { testPython } from "../tools/python-env.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({ options: { rounds: { type: "string", default: "200" } } });
const rounds = Number(values.rounds);
const shapes = JSON.parse(gunzipSync(readFileSync(join(root, "bench/gpu/sdxl-shapes.json.gz"))).toString());
const names = Object.keys(shapes);
const touched = names
  .filter((name) => shapes[name].length > 1 && name.endsWith(".weight") && !/norm|emb|^out\.|^input_blocks\.0\./.test(name))
  .slice(0, 722);
const [one, two] = ["a", "b"].map((letter) => letter.repeat(64));
const touches = new Map([one, two].map((sha256) => [sha256, { parameters: touched, reshapes: [] }]));
const engine = { names, fixed: new Set() };
const state = (sha256) => ({ checkpoint: `${"c".repeat(32)}-${"d".repeat(16)}`, stack: [{ sha256, strength: 0.8 }] });
const file = (sha256) => ({ delta: `/data/deltas/${sha256}-${"e".repeat(16)}-comfyui-9.delta`, sha256, strength: 0.8 });
const message = (from, to, writes) =>
  JSON.stringify({
    jsonrpc: "2.0",
    id: 1,
    method: "prepare",
    params: {
      engine: "torch/0123456789abcdef/f16/any/fp16",
      generation: 7,
      plan: { from: state(from), to: state(to), full: false, writes },
      checkpoint: null,
      stack: [file(to)],
      verify: false,
    },
  });
const ways = {
  "plan of 722 writes in the message": (from, to) => {
    const result = planRefit(state(from), state(to), touches, engine);
    return message(from, to, result.plan.writes);
  },
  "plan of all 1680 writes in the message": (from, to) => {
    const result = planRefit(null, state(to), touches, engine);
    return message(from, to, result.plan.writes);
  },
  "desired stack alone": (from, to) => message(from, to, []),
};

const child = spawn(testPython(root), [join(root, "bench/refit-plan.py"), JSON.stringify(names)], { stdio: ["pipe", "pipe", "inherit"] });
child.stdin.on("error", () => undefined); // said below, by its end
const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
const times = Object.fromEntries(Object.keys(ways).map((way) => [way, { sidecar: [], host: [], whole: [], bytes: 0 }]));
await answers.next();
for (let round = 0; round < rounds + 20; round += 1) {
  const pair = round % 2 === 0 ? [one, two] : [two, one];
  for (const [way, make] of Object.entries(ways)) {
    const started = performance.now();
    const text = Buffer.from(make(...pair));
    const made = performance.now();
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.byteLength);
    child.stdin.write(length);
    child.stdin.write(text);
    const { value, done } = await answers.next();
    if (done) throw new Error("the host's end of the pipe ended");
    const ended = performance.now();
    if (round < 20) continue;
    const kept = times[way];
    kept.sidecar.push(made - started);
    kept.host.push(Number(value));
    kept.whole.push(ended - started);
    kept.bytes = text.byteLength;
  }
}
child.stdin.end();
const median = (list) => Number(list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)].toFixed(3));
const results = Object.entries(times).flatMap(([way, kept]) => [
  { name: `${way}: message`, value: kept.bytes, unit: "bytes" },
  { name: `${way}: made in the sidecar`, value: median(kept.sidecar), unit: "ms" },
  { name: `${way}: read, checked and parsed in the host`, value: median(kept.host), unit: "ms" },
  { name: `${way}: from nothing to parsed, pipe included`, value: median(kept.whole), unit: "ms" },
]);
console.log(JSON.stringify({ bench: "refit-plan", writes: touched.length, parameters: names.length, rounds, results }));
