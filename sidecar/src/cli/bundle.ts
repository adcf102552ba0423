// `refit-sidecar bundle`: one file for support, from a running sidecar. It holds what read calls tell, and no token, path or file name.

import { writeFile } from "node:fs/promises";
import { arch, cpus, platform, release, totalmem } from "node:os";
import type { Command } from "commander";
import { connect, readDiscovery } from "../client/index.ts";
import type { Client } from "../client/index.ts";
import { withoutPaths } from "../wire/index.ts";
import { exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";
import { wholeCatalog } from "./state.ts";

interface BundleFlags {
  readonly dataDir?: string;
  readonly out: string;
}

/** Names of files tell what a user does; a number tells as much to support. */
export function redacted(value: unknown, names: ReadonlyMap<string, string>, secrets: readonly string[]): unknown {
  if (typeof value === "string") {
    let text = withoutPaths(value);
    for (const [name, label] of names) text = text.replaceAll(name, label);
    for (const secret of secrets) text = text.replaceAll(secret, "(token)");
    return text;
  }
  if (Array.isArray(value)) return value.map((item) => redacted(item, names, secrets));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, redacted(item, names, secrets)]));
}

async function gathered(client: Client) {
  const read = async <Value>(ask: Promise<{ readonly result: Value }>) => (await ask).result;
  const entries = await wholeCatalog(client);
  const topics = ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"] as const;
  return {
    names: entries.map(({ name }) => name),
    facts: {
      status: await read(client.call("status", {})),
      settings: (await read(client.call("settings.list", {}))).settings.map(({ name, value, changed }) => ({ name, value, changed })),
      figures: (await read(client.call("telemetry.figures", {}))).figures,
      refits: (await read(client.call("engine.history", { limit: 200 }))).records,
      caches: (await read(client.call("cache.list", {}))).parts,
      jobs: (await read(client.call("jobs.list", {}))).jobs,
      events: (await read(client.call("events.history", { topics: [...topics], limit: 200 }))).events,
      log: (await read(client.call("telemetry.log", { limit: 500 }))).lines,
      catalog: entries.map(({ kind, name, family, variant, kinds, sizeBytes, delta, problem }) => ({
        kind,
        name,
        family,
        variant,
        kinds,
        sizeBytes,
        delta,
        problem,
      })),
    },
  };
}

export function addBundle(program: Command, done: (code: number) => void): void {
  program
    .command("bundle")
    .description(
      "write one file for support: state, settings, times, events and log of a running sidecar, without tokens, paths and file names",
    )
    .requiredOption("--out <file>", "where to write it; nothing that exists is written over")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .action(async (flags: BundleFlags) => {
      const discovery = await readDiscovery(dataDirOf(flags));
      const client = await connect(discovery, "bundle");
      const { names, facts } = await gathered(client).finally(() => client.close());
      // Longer names first: one may be a part of another.
      const labels = new Map(
        names
          .map((name, index) => [name, `file-${index + 1}.safetensors`] as const)
          .flatMap(([name, label]) => [[name, label] as const, [name.slice(name.lastIndexOf("/") + 1), label] as const])
          .sort(([a], [b]) => b.length - a.length),
      );
      const computer = {
        platform: platform(),
        release: release(),
        arch: arch(),
        node: process.version,
        processor: cpus()[0]?.model ?? "",
        memoryBytes: totalmem(),
      };
      const secrets = Object.entries(discovery).flatMap(([key, value]) =>
        key.includes("token") && typeof value === "string" ? [value] : [],
      );
      const bundle = redacted({ formatVersion: 1, madeAt: new Date().toISOString(), computer, ...facts }, labels, secrets);
      await writeFile(flags.out, `${JSON.stringify(bundle, null, 2)}\n`, { flag: "wx", mode: 0o600 });
      console.log(`wrote ${flags.out}; look at it before you send it`);
      done(exitCode.ok);
    });
}
