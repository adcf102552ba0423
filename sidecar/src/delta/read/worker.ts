// Entry of the worker thread that makes deltas: reading, checking and writing stay off the sidecar's event loop.

import { parentPort } from "node:worker_threads";
import { native } from "@refit-sidecar/native";
import { ensureDelta } from "./ensure-delta.ts";
import { encodeFailure, type FromWorker, type ToWorker } from "./worker-messages.ts";

const verified = new Map<string, string>();
const running = new Map<number, AbortController>();

async function make({ id, request }: Extract<ToWorker, { type: "make" }>): Promise<FromWorker> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    return { id, ready: await ensureDelta(request, native, controller.signal, verified) };
  } catch (error) {
    return encodeFailure(id, error);
  } finally {
    running.delete(id);
  }
}

parentPort?.on("message", (message: ToWorker) => {
  if (message.type === "cancel") running.get(message.id)?.abort();
  else void make(message).then((answer) => parentPort?.postMessage(answer));
});
