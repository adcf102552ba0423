import { onnxruntimeHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";

// One thread: several hosts run at the same time, and threads of ONNX Runtime wait by spinning.
// The kernels do not matter to what the churn looks for, so the slow ones run less of it.
const churn = process.env["REFIT_NATIVE"] === "off" ? { steps: 50, changes: 20 } : { steps: 500, changes: 200 };
hostConformance("onnxruntime", onnxruntimeHost("--threads", "1"), { churn });
hostConformance("onnxruntime, every commit in place", onnxruntimeHost("--threads", "1", "--staging-mib", "0"), { churn: { steps: 50, changes: 20 } });
