import { Worker } from "node:worker_threads";

/** A leaf, so that the thread can start before anything else is loaded. The host runs from its build, so the file beside this one is JavaScript. */
export const startStepThread = (): Worker => new Worker(new URL("./worker.js", import.meta.url), { stdout: true });
