import { onnxruntimeHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";

// One thread: several hosts run at the same time, and threads of ONNX Runtime wait by spinning. The full churn (500 steps, 200 changes), the vectors with every commit in place,
// and all of them without the native addon, are in test:e2e.
const churn = { steps: 40, changes: 15 };
hostConformance("onnxruntime", onnxruntimeHost("--threads", "1"), { churn });
hostConformance("onnxruntime, every commit in place", onnxruntimeHost("--threads", "1", "--staging-mib", "0"), { churn, vectors: false });
