import { onnxruntimeHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";
import { closeSharedHost } from "./conformance/shared-host.ts";
import { steps } from "./conformance/steps.ts";

// What the project promises of the embedded host, in full: every output equals exactly one requested stack.
const command = onnxruntimeHost();
closeSharedHost(command);
steps(command, 1e-3, { steps: 500, changes: 200 });
hostConformance("onnxruntime, every commit in place", onnxruntimeHost("--threads", "1", "--staging-mib", "0"));
