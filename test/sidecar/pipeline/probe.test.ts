import { expect, it } from "vitest";
import { probeInputs } from "../../../sidecar/src/pipeline/probe.ts";

const ports = [
  { name: "sample", dtype: "float", shape: ["batch", 4, "height", "width"] },
  { name: "timestep", dtype: "f32", shape: ["batch"] },
  { name: "encoder_hidden_states", dtype: "float", shape: ["batch", "tokens", 768] },
];
const shapes = (inputs: ReturnType<typeof probeInputs>) => Object.fromEntries(inputs.map(({ name, shape }) => [name, shape]));

it("without a step before: the smallest that every UNet takes, in the engine's dtype", () => {
  const inputs = probeInputs(ports, "f16", null);
  expect(shapes(inputs)).toEqual({ sample: [1, 4, 16, 16], timestep: [1], encoder_hidden_states: [1, 77, 768] });
  expect(inputs.map(({ dtype, data }) => [dtype, data.byteLength])).toEqual([["f16", 2048], ["f32", 4], ["f16", 77 * 768 * 2]]);
});

it("after one: its sizes, where they fit the graph", () => {
  const last = { sample: [2, 4, 64, 96], timestep: [2], encoder_hidden_states: [2, 154, 1024] };
  expect(shapes(probeInputs(ports, "f32", last))).toEqual({ sample: [2, 4, 64, 96], timestep: [2], encoder_hidden_states: [1, 77, 768] });
});
