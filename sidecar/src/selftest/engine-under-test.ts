import { totalmem } from "node:os";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { startHost } from "../host/index.ts";
import type { Host, HostCommand } from "../host/index.ts";
import { Engines } from "../refit/index.ts";
import type { EngineLease, EngineSpec, Wanted } from "../refit/index.ts";

/** One engine in a host process of its own, through the same states, plans and recovery as in a running sidecar. */
export interface EngineUnderTest {
  readonly host: () => Promise<Host>;
  /** Brings the engine to a state; answers the ms that it took. */
  readonly bring: (wanted: Wanted) => Promise<number>;
  /** One denoiser call on what it holds; the first output, and the ms seen from here. */
  readonly step: (
    inputs: readonly FrameTensor[],
  ) => Promise<{ readonly bytes: Buffer; readonly dtype: FrameTensor["dtype"]; readonly ms: number }>;
  /** SHA-256 of the weights that the engine holds, by the host; of all, or of the named parameters. */
  readonly weights: (parameters?: readonly string[]) => Promise<string>;
  readonly writesOfLastRefit: () => number;
  readonly builds: () => number;
  /** How steps run now, by the host's own word; null for a host with one way. */
  readonly tier: () => Promise<string | null>;
  /** A faster way is being built in the background. */
  readonly compiling: () => Promise<boolean>;
  /** What the engine takes on its device, by the host's own word; of the host's process on a CPU. */
  readonly memoryBytes: () => Promise<number>;
  readonly close: () => Promise<void>;
}

/** Loads nothing before the first `bring`. Throws what starting a host throws, on first use. */
export async function openEngine(command: HostCommand, spec: EngineSpec, onLog: (line: string) => void): Promise<EngineUnderTest> {
  const engines = new Engines({
    startHost: () => startHost(command, { onLog }),
    budgetBytes: () => totalmem() * 4,
    emit: () => undefined,
  });
  const lease: EngineLease = await engines.acquire(spec);
  const { engine } = lease;
  const host = () => engines.host(spec.hostKind);
  const placement = async () => (await (await host()).call("status", {})).engines.find((row) => row.engine === engine.id)?.placement;
  return {
    host,
    async bring(wanted) {
      const began = performance.now();
      await engine.bring(wanted);
      return performance.now() - began;
    },
    async step(inputs) {
      const began = performance.now();
      const { tensors } = await engine.step(engine.generation, inputs);
      const [output] = tensors;
      if (output === undefined) throw new TypeError("the step's answer holds no tensor");
      return { bytes: Buffer.from(output.data), dtype: output.dtype, ms: performance.now() - began };
    },
    async weights(parameters) {
      const { sha256 } = await (
        await host()
      ).call("checksums", { engine: engine.id, ...(parameters === undefined ? {} : { parameters: [...parameters] }) });
      return JSON.stringify(Object.entries(sha256).toSorted(([a], [b]) => (a < b ? -1 : 1)));
    },
    writesOfLastRefit: () => engines.status.history.at(-1)?.writes ?? 0,
    builds: () => engines.status.engineBuilds,
    tier: async () => (await placement())?.tier ?? null,
    compiling: async () => (await placement())?.["compiling"] === true,
    async memoryBytes() {
      const { memory } = await (await host()).call("status", {});
      const onDevice = (await placement())?.["deviceBytes"];
      return typeof onDevice === "number" ? onDevice : memory.processBytes;
    },
    async close() {
      lease.release();
      await engines.close();
    },
  };
}
