// What an adapter changes, for the Python oracles: one job {"family", "base", "adapter"} a line on stdin, one {"map": {name: [parameter, start, length, swap]}, "parameters", "targets"} a line.
import { createInterface } from "node:readline";
import { native } from "@refit-sidecar/native";
import { recogniseAdapter } from "../../../sidecar/dist/src/delta/recognise/recognise-adapter.js";
import { readAdapterTensors } from "../../../sidecar/dist/src/delta/read/adapter-tensors.js";
import { canonicalNames, keyMap, targetsDigest } from "../../../sidecar/dist/src/terms/index.js";

const bases = new Map();
async function base(path, family) {
  const key = `${family} ${path}`;
  if (!bases.has(key)) {
    const file = await native.openTensorFile(path);
    const shapes = new Map([...file.header.entries].map(([name, { shape }]) => [name, shape]));
    await file.close();
    const parameters = new Map([...canonicalNames(shapes, family).parameters].map(([name, { shape }]) => [name, shape]));
    bases.set(key, { parameters, map: keyMap(family, parameters) });
  }
  return bases.get(key);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { family, base: path, adapter } = JSON.parse(line);
  const { parameters, map } = await base(path, family);
  const file = await native.openTensorFile(adapter);
  const tensors = await readAdapterTensors(file, native.kernels ?? native);
  const { targets } = recogniseAdapter({ tensors, metadata: file.header.metadata, family, parameters, mode: "comfyui" });
  await file.close();
  console.log(
    JSON.stringify({
      map: [...map].map(([name, { parameter, slice, swapHalves }]) => [
        name,
        parameter,
        slice ? [slice.start, slice.length] : null,
        swapHalves === true,
      ]),
      parameters: [...parameters.keys()],
      targets: targetsDigest(targets),
      listed: targets.map(
        ({ parameter, slice, swapHalves }) => `${parameter} ${slice ? `${slice.start},${slice.length}` : ""} ${swapHalves === true}`,
      ),
    }),
  );
}
