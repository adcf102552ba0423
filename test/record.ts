// Results of reliability tests, committed: docs/operate/reliability.md is generated from them.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";

const resultsPath = fileURLToPath(new URL("faults/results/", import.meta.url));

/** Keeps the last result of a promise, one file each. Long tests do so always; those of `npm test` with REFIT_RECORD=1, so that an ordinary run changes no file. */
export function record(id: string, row: { readonly promise: string; readonly figure: string; readonly test: string }): void {
  mkdirSync(resultsPath, { recursive: true });
  const machine = `${cpus().length} x ${cpus()[0]?.model.trim() ?? "unknown"}, ${process.platform}, Node ${process.versions.node}`;
  const path = `${resultsPath}${id}.json`;
  writeFileSync(`${path}.tmp`, `${JSON.stringify({ ...row, date: new Date().toISOString().slice(0, 10), machine }, null, 2)}\n`);
  renameSync(`${path}.tmp`, path);
  console.log(`${id}: ${JSON.parse(readFileSync(path, "utf8")).figure}`);
}
