import { totalmem } from "node:os";
import { parseArgs } from "node:util";

export interface HostOptions {
  /** Execution provider of ONNX Runtime; whatever it does not run falls to the CPU provider. */
  readonly provider: string;
  /** Threads inside one operator; 0 lets ONNX Runtime decide. */
  readonly threads: number;
  /** A refit that writes more than this is committed in place; as much is kept for reuse. */
  readonly stagingBytes: number;
  /** Memory beyond what is free right now that a load may count on (page cache that the system gives back). */
  readonly spareBytes: number;
  /** Graphs whose sessions are opened before anybody asks: what the sidecar will load here, should it. */
  readonly warmGraphs: readonly { readonly folder: string; readonly variant: string }[];
}

const providers = ["cpu", "cuda", "dml", "webgpu", "coreml"] as const;

/** What every library counts the threads of a processor by, also the other hosts' PyTorch; ONNX Runtime itself does not read it. Zero where it is no number. */
const ompThreads = (text: string | undefined): string => (text !== undefined && /^[1-9]\d{0,2}$/.test(text) ? text : "0");

/** Throws TypeError with the list of what is possible. */
export function parseOptions(args: readonly string[], environment: NodeJS.ProcessEnv = process.env): HostOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      provider: { type: "string", default: "cpu" },
      "warm-graph": { type: "string", multiple: true, default: [] },
      threads: { type: "string", default: ompThreads(environment["OMP_NUM_THREADS"]) },
      "staging-mib": { type: "string", default: String(Math.max(256, Math.floor(totalmem() / 8 / 2 ** 20))) },
    },
  });
  if (!providers.some((provider) => provider === values.provider))
    throw new TypeError(`expected --provider to be one of ${providers.join(", ")}, got ${values.provider}`);
  return {
    provider: values.provider,
    threads: whole("threads", values.threads, 1024),
    stagingBytes: whole("staging-mib", values["staging-mib"], 1024 * 1024) * 2 ** 20,
    spareBytes: totalmem() / 2,
    warmGraphs: values["warm-graph"].map(warmGraph),
  };
}

function warmGraph(text: string): { readonly folder: string; readonly variant: string } {
  const at = text.indexOf(":");
  if (at <= 0) throw new TypeError(`expected --warm-graph VARIANT:FOLDER, got ${text}`);
  return { variant: text.slice(0, at), folder: text.slice(at + 1) };
}

function whole(option: string, text: string, max: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new TypeError(`expected --${option} to be a whole number from 0 to ${max}, got ${text}`);
  return value;
}
