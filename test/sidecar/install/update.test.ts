import { cpSync, existsSync, mkdtempSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { sortStores } from "../../../sidecar/src/cli/update/stores.ts";
import { deltaFileName } from "../../../sidecar/src/delta/index.ts";
import type { DeltaRequest } from "../../../sidecar/src/delta/index.ts";
import { originOf, planUpdate } from "../../../sidecar/src/install/update/index.ts";
import { main } from "../../../sidecar/src/main.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-update-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("originOf", () => {
  const plain = (path: string) => path.replaceAll("\\", "/");
  /** With forward slashes, whatever this system writes. */
  const at = (root: string, present: readonly string[], environment: Record<string, string> = {}, platform: NodeJS.Platform = "linux") =>
    JSON.parse(
      plain(JSON.stringify(originOf(root, environment, platform, (path) => present.includes(plain(path)))).replaceAll("\\\\", "\\")),
    );
  it("tells a checkout, a UI's archive, a wheel, a project's and a global npm package apart", () => {
    expect(at("/c/sidecar", ["/c/package-lock.json", "/c/native/binding.gyp"])).toEqual({ kind: "checkout", folder: "/c" });
    expect(
      at("/ui/custom_nodes/refit-sidecar/sidecar", [
        "/ui/custom_nodes/refit-sidecar/refit_sidecar_plugin",
        "/ui/custom_nodes/refit-sidecar/pyproject.toml",
      ]),
    ).toMatchObject({ kind: "archive" });
    expect(at("/v/lib/python3.12/site-packages/refit_sidecar/package", ["/v/bin/python3"])).toEqual({
      kind: "wheel",
      python: "/v/bin/python3",
    });
    expect(at("/v/lib/python3.12/site-packages/refit_sidecar/package", [], { REFIT_WHEEL_PYTHON: "/p/python" })).toEqual({
      kind: "wheel",
      python: "/p/python",
    });
    for (const python of ["/portable/python_embeded/python.exe", "/ui/venv/Scripts/python.exe"])
      expect(
        at(`${python.replace(/(\/Scripts)?\/python.exe/, "")}/Lib/site-packages/refit_sidecar/package`, [python], {}, "win32"),
      ).toEqual({
        kind: "wheel",
        python,
      });
    expect(at("/roaming/npm/node_modules/refit-sidecar", [], {}, "win32")).toEqual({ kind: "npm", project: null, prefix: "/roaming/npm" });
    expect(at("/p/node_modules/refit-sidecar", ["/p/package.json"])).toEqual({ kind: "npm", project: "/p", prefix: "/p" });
    expect(at("/usr/lib/node_modules/refit-sidecar", [])).toEqual({ kind: "npm", project: null, prefix: "/usr" });
  });
});

describe("planUpdate", () => {
  it("uses the package manager that installed it, with a file when one is given", () => {
    expect(planUpdate({ kind: "npm", project: null, prefix: "/usr" }, null).command?.join(" ")).toBe(
      "npm install --global --prefix /usr --no-audit --no-fund refit-sidecar@latest",
    );
    expect(planUpdate({ kind: "npm", project: "/p", prefix: "/p" }, "/d/r.tgz")).toMatchObject({
      cwd: "/p",
      command: expect.arrayContaining(["/d/r.tgz"]) as string[],
    });
    expect(planUpdate({ kind: "wheel", python: "/p/python" }, null).command?.join(" ")).toBe(
      "/p/python -m pip install --upgrade refit-sidecar",
    );
  });
  it("says what only the user can do, and refuses a file of another kind", () => {
    expect(planUpdate({ kind: "archive", folder: "/ui" }, null)).toMatchObject({
      command: null,
      note: expect.stringContaining("manager") as string,
    });
    expect(() => planUpdate({ kind: "npm", project: null, prefix: "/usr" }, "/d/r.whl")).toThrow(
      expect.objectContaining({ code: "CLI_UPDATE_FILE" }),
    );
    expect(() => planUpdate({ kind: "wheel", python: null }, null)).toThrow(expect.objectContaining({ code: "CLI_UPDATE_PYTHON" }));
  });
});

describe("sortStores", () => {
  const copyOf010 = (name: string) => {
    const data = join(folder, name);
    cpSync(join(import.meta.dirname, "..", "..", "golden", "data-0.1.0"), data, { recursive: true });
    return data;
  };
  /** The delta of 0.1.0 under the name that this version would give it. */
  const packedNow = (data: string) => {
    const [name = ""] = readdirSync(join(data, "deltas"));
    const [sha256 = "", structure = ""] = name.split("-");
    const now = deltaFileName({
      adapter: { sha256 } as DeltaRequest["adapter"],
      target: { structure } as DeltaRequest["target"],
      mode: "comfyui",
    });
    renameSync(join(data, "deltas", name), join(data, "deltas", now));
  };
  it("keeps what this version reads of a data folder of 0.1.0; the delta of another packing is made again", async () => {
    const data = copyOf010("kept");
    writeFileSync(join(data, "deltas", `${readdirSync(join(data, "deltas"))[0]}.used`), "");
    const rows = await sortStores(data);
    expect(rows.map(({ store, kept, removed }) => [store, kept, removed])).toEqual([
      ["catalog", 1, 0],
      ["deltas", 0, 1],
      ["engines", 0, 0],
      ["last-used", 1, 0],
      ["hosts", 0, 0],
    ]);
    expect(readdirSync(data, { recursive: true }).sort()).toEqual(["catalog.json", "deltas", "last-used.json"]);
  });
  it("removes what is of another format, says so, and leaves the rest", async () => {
    const data = copyOf010("mixed");
    packedNow(data);
    const catalog = join(data, "catalog.json");
    writeFileSync(catalog, readFileSync(catalog, "utf8").replace("refit-catalog-1", "refit-catalog-0"));
    writeFileSync(join(data, "deltas", "old.delta"), "not of this format");
    mkdirSync(join(data, "engines", "a".repeat(64)), { recursive: true });
    writeFileSync(join(data, "engines", "a".repeat(64), "manifest.json"), '{"formatVersion":99}');
    const rows = await sortStores(data);
    expect(rows.map(({ store, kept, removed }) => [store, kept, removed])).toEqual([
      ["catalog", 0, 1],
      ["deltas", 1, 1],
      ["engines", 0, 1],
      ["last-used", 1, 0],
      ["hosts", 0, 0],
    ]);
    expect(existsSync(catalog)).toBe(false);
    expect(rows[0]?.text).toContain("read again");
  });
  it("is what `update --stores` does, and not beside a running sidecar", async () => {
    const data = copyOf010("running");
    expect(await main(["update", "--stores", "--json", "--data-dir", data])).toBe(0);
    writeFileSync(
      join(data, "sidecar.json"),
      JSON.stringify({ url: "http://127.0.0.1:1", ws_url: "ws://127.0.0.1:1", token: "t", pid: process.pid, version: "0.0.9" }),
    );
    expect(await main(["update", "--stores", "--json", "--data-dir", data])).toBe(1);
  });
});
