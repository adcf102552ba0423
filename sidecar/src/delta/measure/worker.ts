// Entry of the worker thread that measures one delta: its sums stay off the sidecar's event loop.

import { parentPort, workerData } from "node:worker_threads";
import { native } from "@refit-sidecar/native";
import { measureDelta } from "./measure-delta.ts";

const { path } = workerData as { readonly path: string };
parentPort?.postMessage(await measureDelta(path, native, () => performance.now()));
