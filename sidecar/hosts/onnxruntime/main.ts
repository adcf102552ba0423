// The engine host `onnxruntime`: a child process of the sidecar that holds weights and runs steps. In: frames on stdin. Out: frames on stdout, log lines on stderr.
// It never outlives the sidecar (end of stdin ends it), never reads a file that the sidecar did not name, and never answers from weights that it cannot name.

import { startStepThread } from "./runner/step-thread.ts";

// stdout carries frames only: whatever a library prints must not end up between them.
console.log = console.info = console.debug = console.error;

// The step thread loads ONNX Runtime while this one loads everything else: whoever waits for a host to come back waits for the longer of the two, not for both.
const thread = startStepThread();
const { serve } = await import("./serve.ts");
serve(thread);
