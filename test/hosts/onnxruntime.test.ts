import { expect, it } from "vitest";
import { parseOptions } from "../../sidecar/hosts/onnxruntime/options.ts";
import { onnxruntimeHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";

// One thread: several hosts run at the same time, and threads of ONNX Runtime wait by spinning. The full churn (500 steps, 200 changes), the whole suite with every commit in
// place, and all of it without the native addon, are in test:e2e.
hostConformance("onnxruntime", onnxruntimeHost("--threads", "1"));
hostConformance("onnxruntime, every commit in place", onnxruntimeHost("--threads", "1", "--staging-mib", "0"), {
  vectors: false,
  weightsOnly: true,
});

it.each([
  [[], {}, 0],
  [[], { OMP_NUM_THREADS: "3" }, 3],
  [[], { OMP_NUM_THREADS: "4,2" }, 0],
  [["--threads", "0"], { OMP_NUM_THREADS: "3" }, 0],
])("%j with %j runs on %i threads (0: ONNX Runtime decides)", (args, environment, threads) => {
  expect(parseOptions(args, environment).threads).toBe(threads);
});
