import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import type { FrameTensor, HostParams } from "../../../protocol/src/index.ts";
import type { Host, HostCommand, StepTensor } from "../../../sidecar/src/host/index.ts";
import { leaveHost, sharedHost } from "./shared-host.ts";
import { demoGraph, demoStates, goldenSteps, readSteps } from "../demo-model.ts";

/** Conditioning goes to a host that keeps inputs once, and the step is the same. */
export function keptInputs(command: HostCommand): void {
  describe("kept inputs", () => {
    let host: Host;
    let scratch = "";
    const { inputs } = readSteps(goldenSteps);
    const conditioning = inputs.find(({ name }) => name === "encoder_hidden_states") as FrameTensor;
    const others = inputs.filter((tensor) => tensor !== conditioning);
    const halved: FrameTensor = { ...conditioning, data: new Uint8Array(half(conditioning.data)) };
    beforeAll(async () => {
      scratch = await mkdtemp(join(tmpdir(), "refit-kept-"));
      host = await sharedHost(command);
      const { checkpoint } = (await demoStates(scratch))([]);
      await host.call("load", {
        engine: "keeps",
        graph: { folder: demoGraph, variant: "fp32" },
        weightDtype: "f32",
        checkpoint,
        stack: [],
      });
    });
    afterAll(async () => {
      await leaveHost(host);
      await rm(scratch, { recursive: true, force: true });
    });
    const step = async (tensors: readonly StepTensor[], more: Partial<HostParams<"step">> = {}): Promise<Buffer> =>
      Buffer.from((await host.call("step", { engine: "keeps", generation: 1, ...more }, { tensors })).tensors[0]?.data ?? []);
    const keepsThem = ({ skip }: TestContext): void =>
      skip(host.about.keepsInputs !== true, "this host keeps no inputs: they are sent at every step");

    it("an input by its key gives the same step, bit for bit, whatever came between", async () => {
      const [one, two] = [await step(inputs), await step([...others, halved])];
      expect(Buffer.compare(one, two)).not.toBe(0);
      for (const [content, key, expected] of [
        [conditioning, "one", one],
        [halved, "two", two],
        [conditioning, "one", one],
        [halved, "two", two],
      ] as const)
        expect(Buffer.compare(await step([...others, { ...content, key }]), expected)).toBe(0);
    });

    it("keeps a copy: the next step's tensors do not reach it", async (context) => {
      keepsThem(context);
      const expected = await step([...others, { ...conditioning, key: "copied" }]);
      await step([...others, halved]);
      expect(Buffer.compare(await step(others, { use: { encoder_hidden_states: "copied" } }), expected)).toBe(0);
    });

    it("says what it does not keep, and refuses an input that comes twice or not at all", async (context) => {
      keepsThem(context);
      const use = { encoder_hidden_states: "never" };
      await expect(step(others, { use })).rejects.toMatchObject({ code: "HOST_INPUT_FORGOTTEN" });
      await step([...others, { ...conditioning, key: "known" }]);
      await expect(step(inputs, { use: { encoder_hidden_states: "known" } })).rejects.toMatchObject({ code: "HOST_INPUT_INVALID" });
      await expect(step(others, { keep: { encoder_hidden_states: "new" } })).rejects.toMatchObject({ code: "HOST_INPUT_INVALID" });
    });

    it("what a host has let go is sent again by itself", async (context) => {
      keepsThem(context);
      const expected = await step([...others, { ...conditioning, key: "gone" }]);
      // Another engine that comes and goes leaves the device's memory alone; one that is offloaded takes the kept inputs along.
      await host.call("offload", { engine: "keeps" });
      expect(Buffer.compare(await step([...others, { ...conditioning, key: "gone" }]), expected)).toBe(0);
    });
  });
}

function half(data: Uint8Array): ArrayBuffer {
  const values = new Float32Array(data.slice().buffer);
  return values.map((value) => value / 2).buffer;
}
