// The step thread of the embedded host: live weights and ONNX Runtime. In: operations from the host's main thread. Out: one answer each.
// It runs one operation at a time, reads no file but graphs, and decides nothing.

import { parentPort } from "node:worker_threads";
import { isHostErrorCode } from "@refit-sidecar/protocol";
import { asHostFailure } from "../host-failure.ts";
import { Serial } from "../serial.ts";
import { HeldEngine } from "./held-engine.ts";
import { Sessions } from "./sessions.ts";
import { buffersOf, loadedId, type Answer, type OperationName, type Operations, type Request } from "./messages.ts";

const port = parentPort;
if (port === null) throw new TypeError("worker.ts runs in a worker thread of the host");

const engines = new Map<string, HeldEngine>();
const sessions = new Sessions();
const queue = new Serial();

function find(engine: string): HeldEngine {
  const held = engines.get(engine);
  if (held === undefined) throw new TypeError(`engine ${engine} is not open in the step thread`);
  return held;
}

const operations: {
  readonly [O in OperationName]: (
    engine: string,
    request: Operations[O]["request"],
  ) => Operations[O]["answer"] | Promise<Operations[O]["answer"]>;
} = {
  open: (engine, { dtype, layouts }) => {
    engines.set(engine, new HeldEngine(dtype, layouts));
    return null;
  },
  ready: async (_engine, { path, options }) => {
    await sessions.prepare(path, options);
    return null;
  },
  session: async (engine, { name, path, options }) => {
    const held = find(engine);
    return held.open(name, await sessions.open(path, options));
  },
  swap: (engine, { buffers }) => find(engine).swap(buffers),
  take: (engine, { parameters }) => find(engine).take(parameters),
  run: (engine, { session, inputs }) => find(engine).run(session, inputs),
  read: (engine, { parameters }) => find(engine).read(parameters),
  checksums: (engine, { parameters }) => find(engine).checksums(parameters),
  close: async (engine) => {
    const held = find(engine);
    engines.delete(engine);
    await held.close();
    return null;
  },
};

async function answer({ id, engine, operation, request }: Request): Promise<Answer> {
  try {
    // The table ties each operation to its request; TypeScript cannot follow a union through the lookup.
    const run = operations[operation] as (engine: string, request: unknown) => unknown;
    return { id, answer: await run(engine, request) };
  } catch (error) {
    const { code, message, evidence } = asHostFailure(error);
    return { id, failure: { code: isHostErrorCode(code) ? code : "HOST_INTERNAL", message, evidence } };
  }
}

port.on("message", (request: Request) => {
  void queue.run(async () => {
    const message = await answer(request);
    port.postMessage(message, buffersOf(message));
    // While the answer is on its way: the first step on new weights does not pay for their tensors.
    if (request.operation === "swap") engines.get(request.engine)?.bind();
  });
});

// All libraries are loaded: see `Runner.loaded`.
port.postMessage({ id: loadedId, answer: null } satisfies Answer);
