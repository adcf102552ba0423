// A host that is the embedded one except for one planted fault, named by the first argument: what a self-test has to notice.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { encodeFrameParts, FrameReader } from "../../../protocol/dist/index.js";

const [fault] = process.argv.slice(2);
const real = spawn(process.execPath, [fileURLToPath(new URL("../../../sidecar/dist/hosts/onnxruntime/main.js", import.meta.url))], {
  stdio: ["pipe", "pipe", "inherit"],
});
const methods = new Map();
let commits = 0;
const asked = new FrameReader();
const answered = new FrameReader();

function changed(message, tensors) {
  const method = methods.get(message.id);
  if (message.result === undefined) return { message, tensors };
  if (method === "commit") commits += 1;
  // Bits of an earlier state stay behind from the third refit on.
  if (fault === "leaves-bits" && method === "checksums" && commits >= 3) {
    const [first] = Object.keys(message.result.sha256);
    return { message: { ...message, result: { sha256: { ...message.result.sha256, [first]: "0".repeat(64) } } }, tensors };
  }
  if (fault === "wrong-numbers" && method === "step")
    return {
      message,
      tensors: tensors.map((tensor) => ({
        ...tensor,
        data: Uint8Array.from(tensor.data, (byte, index) => (index % 4 === 3 ? byte ^ 0x80 : byte)),
      })),
    };
  if (fault === "builds-again" && method === "prepare")
    return {
      message: {
        jsonrpc: "2.0",
        id: message.id,
        error: { code: -32021, message: "this engine cannot change", data: { code: "HOST_NOT_REFITTABLE", evidence: {} } },
      },
      tensors: [],
    };
  return { message, tensors };
}

process.stdin.on("data", (chunk) => {
  for (const { message } of asked.push(chunk)) methods.set(message.id, message.method);
  real.stdin.write(chunk);
});
process.stdin.on("end", () => real.stdin.end());
real.stdout.on("data", (chunk) => {
  for (const frame of answered.push(chunk)) {
    const { message, tensors } = changed(frame.message, frame.tensors);
    for (const part of encodeFrameParts(message, tensors)) process.stdout.write(part);
  }
});
real.on("exit", (code) => process.exit(code ?? 1));
