// `cache` and `engine` as an operator runs them, on a store with a graph and a compiled engine.

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { openStore } from "../../../sidecar/src/store/index.ts";
import type { EngineKey } from "../../../sidecar/src/store/index.ts";

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "refit-cache-"));
const data = join(folder, "data");
const engines = join(data, "engines");

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly last: Record<string, unknown>;
}
function run(...args: string[]): Ran {
  const { status, stdout } = spawnSync(process.execPath, [cli, ...args], {
    encoding: "utf8",
    cwd: folder,
    env: { ...process.env, REFIT_DATA_DIR: data },
  });
  const line = stdout.trim().split("\n").at(-1) ?? "";
  return { status, stdout, last: line.startsWith("{") ? (JSON.parse(line) as Record<string, unknown>) : {} };
}

const compiled: EngineKey = {
  structure: "c".repeat(64),
  precision: "f16",
  profile: "any",
  host: "torch",
  library: "torch 2.11",
  capability: "sm90",
  driverBranch: "580",
};
const graph: EngineKey = {
  structure: "g".repeat(64),
  precision: "any",
  profile: "any",
  host: "graph",
  library: "graph 1",
  capability: "any",
  driverBranch: "",
};
const entries: Record<string, string> = {};

beforeAll(async () => {
  const store = await openStore({ folder: engines, writable: true, maxBytes: 1e9 });
  for (const [name, key, mebibytes] of [
    ["compiled", compiled, 3],
    ["graph", graph, 1],
  ] as const) {
    const staging = await store.stage();
    await writeFile(join(staging.folder, "engine.bin"), Buffer.alloc(mebibytes * 2 ** 20, 1));
    entries[name] = (await staging.publish(key, { libraryVersion: "1", driver: "", device: "card" })).entry;
  }
  utimesSync(join(engines, entries["compiled"] ?? "", "manifest.json"), new Date(1e12), new Date(1e12));
  utimesSync(join(engines, entries["graph"] ?? "", "manifest.json"), new Date(1.1e12), new Date(1.1e12));
});
const short = (name: string) => (entries[name] ?? "").slice(0, 12);

/** A Python that answers what `refit_host.about` would on such a computer. */
function pythonOf(engine: Partial<EngineKey>): string {
  const path = join(folder, "python");
  const { host, library, capability, driverBranch } = { ...compiled, ...engine };
  const about = {
    python: "3.11",
    executable: path,
    versions: {},
    device: { type: "cuda", name: "card" },
    engines: [{ host, library, capability, driverBranch }],
  };
  writeFileSync(path, `#!/bin/sh\ncat <<'END'\n${JSON.stringify(about)}\nEND\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("refit-sidecar cache and engine", () => {
  it("ls shows graphs and compiled engines, least recently used first, with sizes and pins", () => {
    expect(run("cache", "pin", short("compiled"), "--json").last).toEqual({ ok: true, entry: entries["compiled"], pinned: true });
    const { last, stdout } = { ...run("cache", "ls", "--json") };
    expect(last["entries"]).toMatchObject([
      {
        entry: entries["compiled"],
        host: "torch",
        precision: "f16",
        library: "torch 2.11",
        capability: "sm90",
        origin: "own",
        size_bytes: 3 * 2 ** 20,
        pinned: true,
        problem: null,
      },
      { entry: entries["graph"], host: "graph", size_bytes: 2 ** 20, pinned: false },
    ]);
    expect(stdout.trim().split("\n")).toHaveLength(1);
    expect(run("cache", "ls").stdout).toMatch(/3\.1 MB .*pinned torch f16/);
  });

  it("export and import move a compiled engine, signed, to a computer that fits, and to no other", { timeout: 240_000 }, ({ skip }) => {
    if (process.platform === "win32") skip("the stand-in for Python is a shell script");
    for (const name of ["maker", "stranger"]) expect(run("engine", "keygen", name, "--json").status).toBe(0);
    expect(run("engine", "export", short("compiled"), "--out", "e.refit", "--sign-key", "maker.key.pem", "--json")).toMatchObject({
      status: 0,
      last: { ok: true, entry: entries["compiled"] },
    });
    const take = (trust: readonly string[], python: string): Ran =>
      run(
        "engine",
        "import",
        "e.refit",
        "--engine-store",
        join(folder, "elsewhere"),
        ...trust.flatMap((key) => ["--trust", key]),
        "--python",
        python,
        "--json",
      );
    expect(take([], pythonOf({}))).toMatchObject({ status: 1, last: { error: { code: "BUNDLE_UNTRUSTED" } } });
    expect(take(["stranger.pub.pem"], pythonOf({}))).toMatchObject({ status: 1, last: { error: { code: "BUNDLE_UNTRUSTED" } } });
    for (const other of [{ capability: "sm89" }, { library: "torch 2.12" }, { driverBranch: "570" }, { host: "tensorrt" }]) {
      expect(take(["maker.pub.pem"], pythonOf(other)), JSON.stringify(other)).toMatchObject({
        status: 1,
        last: { error: { code: "BUNDLE_UNFIT" } },
      });
    }
    expect(run("cache", "ls", "--engine-store", join(folder, "elsewhere"), "--json").last["entries"]).toEqual([]);
    expect(take(["stranger.pub.pem", "maker.pub.pem"], pythonOf({}))).toMatchObject({
      status: 0,
      last: { ok: true, entry: entries["compiled"], host: "torch" },
    });
    expect(run("cache", "ls", "--engine-store", join(folder, "elsewhere"), "--json").last["entries"]).toMatchObject([
      { entry: entries["compiled"], origin: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
    ]);
    expect(readFileSync(join(folder, "elsewhere", entries["compiled"] ?? "", "engine.bin"))).toEqual(
      readFileSync(join(engines, entries["compiled"] ?? "", "engine.bin")),
    );
  });

  it("prune obeys the configured size and pins", () => {
    writeFileSync(join(folder, "refit.toml"), "engine-store-size = 64\n");
    expect(run("cache", "prune", "--config", "refit.toml", "--json").last).toEqual({ ok: true, removed: [] });
    expect(run("cache", "prune", "--max-mib", "-1", "--json")).toMatchObject({ status: 2, last: { error: { code: "CLI_ARGUMENTS" } } });
    expect(run("cache", "prune", "--max-mib", "2", "--json").last).toMatchObject({ ok: true, removed: [{ entry: entries["graph"] }] });
    expect(existsSync(join(engines, entries["compiled"] ?? ""))).toBe(true);
  });

  it("verify names what is damaged; export refuses it; rm removes it", () => {
    expect(run("cache", "verify", "--json")).toMatchObject({ status: 0, last: { ok: true, checked: 1, damaged: [] } });
    truncateSync(join(engines, entries["compiled"] ?? "", "engine.bin"), 5);
    expect(run("cache", "verify", "--json")).toMatchObject({
      status: 1,
      last: { ok: false, checked: 1, damaged: [{ entry: entries["compiled"] }] },
    });
    expect(run("engine", "export", short("compiled"), "--out", "bad.refit", "--sign-key", "maker.key.pem", "--json")).toMatchObject({
      status: 1,
      last: { error: { code: "STORE_DAMAGED" } },
    });
    expect(existsSync(join(folder, "bad.refit"))).toBe(false);
    expect(run("cache", "rm", short("compiled"), "--json")).toMatchObject({ status: 0, last: { ok: true } });
    expect(run("cache", "ls", "--json").last).toEqual({ ok: true, entries: [] });
  });
});
