// Runs merges for the Python oracles: one JSON job a line on stdin, one JSON result a line on stdout.
// Job: {base, adapters: [[path, strength], …], family, mode, out, dtype?}. The merged file carries the base's own keys, each tensor in f32 unless `dtype` is "keep".
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { native, writeSafetensors } from "@refit-sidecar/native";
import { ensureDelta } from "../../../sidecar/dist/src/delta/index.js";
import { canonicalNames, f32Factors, mergeParameter, openDelta } from "../../../sidecar/dist/src/terms/index.js";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

async function merge({ base, adapters, family, mode, out, dtype = "f32" }) {
  const file = await native.openTensorFile(base);
  const { entries } = file.header;
  const names = canonicalNames(new Map([...entries].map(([key, { shape }]) => [key, shape])));
  const parameters = new Map([...names.parameters].map(([name, { shape }]) => [name, shape]));
  const structure = sha256(JSON.stringify([...parameters]));
  const reports = [];
  const stack = [];
  for (const [path, strength] of adapters) {
    const request = {
      adapter: { path, sha256: sha256(readFileSync(path)) },
      target: { family, structure, parameters },
      mode,
      folder: join(dirname(out), "deltas"),
    };
    const ready = await ensureDelta(request, native);
    const delta = await openDelta(await native.openTensorFile(ready.path));
    reports.push({ ...ready.header.report, warnings: ready.header.warnings });
    stack.push({ delta, strength, factors: f32Factors((name) => delta.factor(name), native) });
  }
  const tensors = [];
  const skipped = [];
  for (const [name, { parts, shape }] of names.parameters) {
    if (parts.length !== 1) throw new Error(`${name}: the oracles' bases have whole parameters`);
    const { key } = parts[0];
    const stored = entries.get(key);
    const addends = stack.flatMap(({ delta, strength, factors }) =>
      delta.header.terms.filter((term) => term.target.parameter === name).map((term) => ({ term, strength, factors })),
    );
    const outDtype = dtype === "keep" ? stored.dtype : "F32";
    const outcome = await mergeParameter({
      base: { data: await file.read(key), dtype: stored.dtype, shape },
      addends,
      out: { dtype: outDtype },
      kernels: native,
    });
    skipped.push(...outcome.skipped.map(({ reason }) => reason));
    tensors.push({ name: key, dtype: outDtype, shape: outcome.shape, data: outcome.data });
  }
  await writeSafetensors(out, tensors);
  for (const { delta } of stack) await delta.close();
  await file.close();
  return { reports, skipped };
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === "") continue;
  let answer;
  try {
    answer = { ok: true, ...(await merge(JSON.parse(line))) };
  } catch (error) {
    answer = { ok: false, code: error.code ?? null, message: error.message };
  }
  console.log(JSON.stringify(answer));
}
