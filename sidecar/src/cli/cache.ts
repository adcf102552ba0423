import { delimiter, join, resolve } from "node:path";
import type { Command } from "commander";
import { Failure } from "../failure/index.ts";
import { environmentSource, fileSource, mebibyte, resolveOptions } from "../options/index.ts";
import type { Options, Source } from "../options/index.ts";
import { openStore } from "../store/index.ts";
import type { EntryInfo, Store } from "../store/index.ts";
import { defaultDataDir } from "./data-dir.ts";
import { codedText, exitCode } from "./exit.ts";

export interface StoreFlags {
  readonly dataDir?: string;
  readonly engineStore?: string;
  readonly config?: string;
}

/** Options as `serve` would have them from the same flags, environment and configuration file. */
async function storeOptions({ dataDir, engineStore, config = process.env["REFIT_CONFIG"] }: StoreFlags): Promise<Options> {
  const values = {
    ...(dataDir === undefined ? {} : { "data-dir": resolve(dataDir) }),
    ...(engineStore === undefined ? {} : { "engine-store": resolve(engineStore) }),
  };
  const sources: Source[] = [{ label: (name) => `--${name}`, values }, environmentSource(process.env, delimiter)];
  if (config !== undefined) sources.push(await fileSource(config));
  return resolveOptions(sources);
}

/** The engine store that `serve` with the same folders uses. */
export async function ownStore(flags: StoreFlags, writable = true): Promise<Store> {
  const options = await storeOptions(flags);
  return openStore({
    folder: options["engine-store"] ?? join(options["data-dir"] ?? defaultDataDir(), "engines"),
    writable,
    maxBytes: options["engine-store-size"] * mebibyte,
  });
}

/** The one entry whose name starts with `prefix`. Throws CLI_STORE_ENTRY when there is none or more than one. */
export async function entryBy(store: Store, prefix: string): Promise<EntryInfo> {
  const found = (await store.list()).filter((info) => info.entry.startsWith(prefix));
  const [only] = found;
  if (only && found.length === 1) return only;
  throw new Failure(
    "CLI_STORE_ENTRY",
    `expected the start of one engine's name, ${found.length === 0 ? "none" : "several"} start with ${JSON.stringify(prefix)}; "refit-sidecar cache ls" lists them`,
    {},
  );
}

const shown = ({ entry, manifest, sizeBytes, usedAt, pinned, problem }: EntryInfo) => ({
  entry,
  structure: manifest?.key.structure ?? null,
  host: manifest?.key.host ?? null,
  precision: manifest?.key.precision ?? null,
  library: manifest?.key.library ?? null,
  capability: manifest?.key.capability ?? null,
  origin: manifest?.origin ?? null,
  size_bytes: sizeBytes,
  used_at: usedAt,
  pinned,
  problem,
});

function line(info: EntryInfo): string {
  const row = shown(info);
  return `${row.entry.slice(0, 12)}  ${(row.size_bytes / 1e6).toFixed(1).padStart(9)} MB  ${row.used_at.slice(0, 16).replace("T", " ")}  ${row.pinned ? "pinned " : ""}${row.host ?? "?"} ${row.precision ?? "?"} ${row.structure?.slice(0, 16) ?? ""}${row.problem === null ? "" : `  ${row.problem}`}`;
}

interface CacheFlags extends StoreFlags {
  readonly json?: boolean;
  readonly maxMib?: string;
}

export function addCache(program: Command, done: (code: number) => void): void {
  const cache = program.command("cache").description("the engine store: engines and graphs made on this computer");
  const sub = (words: string, description: string) =>
    cache
      .command(words)
      .description(description)
      .option("--data-dir <dir>", "data folder of the sidecar")
      .option("--engine-store <dir>", "the store's own folder")
      .option("--config <file>", "configuration file that serve reads")
      .option("--json", "print one JSON object");
  const run = async (
    flags: CacheFlags,
    work: () => Promise<{ readonly json: Record<string, unknown>; readonly lines: readonly string[]; readonly ok?: boolean }>,
  ) => {
    const { json, lines, ok = true } = await work();
    if (flags.json === true) console.log(JSON.stringify({ ok, ...json }));
    else for (const text of lines) console.log(text);
    done(ok ? exitCode.ok : exitCode.failed);
  };
  sub("ls", "list engines, least recently used first").action((flags: CacheFlags) =>
    run(flags, async () => {
      const entries = (await (await ownStore(flags, false)).list()).toSorted((a, b) => (a.usedAt < b.usedAt ? -1 : 1));
      return { json: { entries: entries.map(shown) }, lines: entries.length === 0 ? ["the store is empty"] : entries.map(line) };
    }),
  );
  sub("verify", "check every file of every engine against its checksum").action((flags: CacheFlags) =>
    run(flags, async () => {
      const store = await ownStore(flags, false);
      const bad: { entry: string; message: string }[] = [];
      const entries = await store.list();
      for (const { entry } of entries) {
        const problem = await store.verify(entry);
        if (problem !== null) bad.push({ entry, message: codedText(problem) });
      }
      return {
        ok: bad.length === 0,
        json: { checked: entries.length, damaged: bad },
        lines: [`${entries.length} engines checked, ${bad.length} damaged`, ...bad.map(({ message }) => `  ${message}`)],
      };
    }),
  );
  sub("prune", "remove the least recently used engines until the rest fits; pinned ones stay")
    .option("--max-mib <number>", "space that may stay in use (default: engine-store-size)")
    .action((flags: CacheFlags) =>
      run(flags, async () => {
        const limit = flags.maxMib === undefined ? (await storeOptions(flags))["engine-store-size"] : Number(flags.maxMib);
        if (!Number.isFinite(limit) || limit < 0)
          throw new Failure("CLI_ARGUMENTS", `--max-mib expects a number of MiB, got ${JSON.stringify(flags.maxMib)}`, {});
        const gone = await (await ownStore(flags)).prune(limit * mebibyte);
        return { json: { removed: gone.map(shown) }, lines: [`${gone.length} engines removed`] };
      }),
    );
  sub("rm <entry>", "remove one engine, by the start of its name").action((entry: string, flags: CacheFlags) =>
    run(flags, async () => {
      const store = await ownStore(flags);
      const info = await entryBy(store, entry);
      return { ok: await store.remove(info.entry), json: { removed: shown(info) }, lines: [`removed ${info.entry.slice(0, 12)}`] };
    }),
  );
  for (const pinned of [true, false]) {
    sub(
      `${pinned ? "pin" : "unpin"} <entry>`,
      pinned ? "keep an engine whatever the space" : "let an engine go when space is needed",
    ).action((entry: string, flags: CacheFlags) =>
      run(flags, async () => {
        const store = await ownStore(flags);
        const info = await entryBy(store, entry);
        await store.pin(info.entry, pinned);
        return { json: { entry: info.entry, pinned }, lines: [`${pinned ? "pinned" : "unpinned"} ${info.entry.slice(0, 12)}`] };
      }),
    );
  }
}
