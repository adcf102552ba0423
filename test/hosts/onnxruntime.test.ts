import { onnxruntimeHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";

hostConformance("onnxruntime", onnxruntimeHost());
hostConformance("onnxruntime, every commit in place", onnxruntimeHost("--staging-mib", "0"));
