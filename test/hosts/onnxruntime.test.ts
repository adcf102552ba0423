import { onnxruntimeHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";

// One thread: several hosts run at the same time, and threads of ONNX Runtime wait by spinning. The full churn (500 steps, 200 changes), and the vectors with every commit in
// place, are in test:e2e.
const churn = { steps: 40, changes: 15 };
hostConformance("onnxruntime", onnxruntimeHost("--threads", "1"), { churn });
// Where a commit writes is no matter of the native kernels.
if (process.env["REFIT_NATIVE"] !== "off")
  hostConformance("onnxruntime, every commit in place", onnxruntimeHost("--threads", "1", "--staging-mib", "0"), { churn, vectors: false });
