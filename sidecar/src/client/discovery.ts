import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../failure/index.ts";

/** What a running sidecar tells programs of the same user, in `sidecar.json` of its data folder. */
export interface Discovery {
  readonly url: string;
  readonly wsUrl: string;
  readonly token: string;
  readonly pid: number;
  readonly version: string;
}

function text(fields: Record<string, unknown>, name: string): string {
  const value = fields[name];
  if (typeof value === "string") return value;
  throw new Failure("CLIENT_DISCOVERY", `sidecar.json has no ${name}; stop the sidecar, remove the file and start it again`, {});
}

/** Throws Failure CLIENT_NOT_RUNNING when no sidecar uses this data folder, CLIENT_DISCOVERY when the file is not one of ours. */
export async function readDiscovery(dataFolder: string): Promise<Discovery> {
  let content: string;
  try {
    content = await readFile(join(dataFolder, "sidecar.json"), "utf8");
  } catch (cause) {
    throw new Failure(
      "CLIENT_NOT_RUNNING",
      'no sidecar runs on this data folder; start one with "refit-sidecar serve", or name the folder with --data-dir',
      {},
      { cause },
    );
  }
  let fields: unknown;
  try {
    fields = JSON.parse(content);
  } catch {
    fields = null;
  }
  if (typeof fields !== "object" || fields === null)
    throw new Failure("CLIENT_DISCOVERY", "sidecar.json is not JSON; stop the sidecar, remove the file and start it again", {});
  const record = fields as Record<string, unknown>;
  return {
    url: text(record, "url"),
    wsUrl: text(record, "ws_url"),
    token: text(record, "token"),
    pid: Number(record["pid"]),
    version: text(record, "version"),
  };
}
