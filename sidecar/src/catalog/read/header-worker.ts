// Entry of the worker thread that reads headers: checking and summing up thousands of them stays off the sidecar's event loop.

import { parentPort } from "node:worker_threads";
import { native } from "@refit-sidecar/native";
import type { FileKind } from "../../arrivals/types.ts";
import type { ContentFile, Reading } from "../reader.ts";
import { readContent } from "./content.ts";

export interface ContentRequest {
  readonly id: number;
  readonly files: readonly ContentFile[];
  readonly placed: FileKind;
  readonly table: string | null;
}

export interface ContentAnswer {
  readonly id: number;
  readonly reading: Reading;
}

parentPort?.on("message", ({ id, files, placed, table }: ContentRequest) => {
  void readContent(files, placed, table, (path) => native.readHeaderSync(path)).then((reading) =>
    parentPort?.postMessage({ id, reading } satisfies ContentAnswer),
  );
});
