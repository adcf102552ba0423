import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { installedHost, installHost, pythonOf, removeHost } from "../../../sidecar/src/install/host/index.ts";
import type { HostWish, InstallParts } from "../../../sidecar/src/install/host/index.ts";
import { pythonRun } from "../../../sidecar/src/host/index.ts";
import { hostPythons } from "../../../sidecar/src/pipeline/index.ts";
import { testPython } from "../../../tools/python-env.mjs";
import { folderHash, makeWheels, must } from "./wheels.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const python = testPython(root);
const binary = process.platform === "win32" ? ["Scripts", "python.exe"] : ["bin", "python"];
let scratch: string;
let wheels: string;
let ui: string;
let data: string;

const sources = () => ({ indexUrl: null, extraIndexUrls: [], findLinks: [wheels], noIndex: true });
const own = (requirements: readonly string[] = ["tiny==1.0"], over: Partial<HostWish> = {}): HostWish => ({
  kind: "torch",
  dataDir: data,
  place: { mode: "own", python },
  requirements,
  wheels: "cpu",
  needBytes: 0,
  sources: sources(),
  ...over,
});
const reuse = (requirements: readonly string[], over: Partial<HostWish> = {}): HostWish =>
  own(requirements, { place: { mode: "reuse", python: ui }, wheels: "reused", ...over });
const edges = (over: Partial<InstallParts> = {}): InstallParts & { readonly lines: string[] } => {
  const lines: string[] = [];
  return {
    lines,
    told: (line) => void lines.push(line),
    probe: () => Promise.resolve({ versions: { probed: "yes" }, deviceType: "cpu", device: "test" }),
    ...over,
  };
};
const install = (wish: HostWish, over: Partial<InstallParts> = {}) => installHost(wish, edges(over));
const folders = () =>
  readdirSync(join(data, "hosts"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
const valueOf = (name: "torch" | "tensorrt", expression: string): string => {
  const found = hostPythons(data, () => null)(name);
  if (found === null) throw new Error("no host is installed");
  const { command, env } = pythonRun(found, "none");
  return must(
    command,
    ["-c", `import os, sys; sys.path[:0] = [p for p in os.environ["REFIT_PYTHON_PATH"].split(os.pathsep) if p]; print(${expression})`],
    env,
  ).trim();
};

beforeAll(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "refit-host-install-")));
  wheels = join(scratch, "wheels");
  mkdirSync(wheels);
  makeWheels(python, wheels, [
    { name: "tiny", version: "1.0" },
    { name: "tiny", version: "2.0" },
    { name: "slow", version: "1.0", padding: 4000, requires: ["tiny==1.0"] },
    { name: "torch", version: "2.7.0" },
    { name: "torch", version: "2.9.0" },
    { name: "diffusers", version: "0.42", requires: ["torch", "tiny>=2.0", "shared-thing"] },
    { name: "shared-thing", version: "1.0" },
    { name: "hungry", version: "1.0", requires: ["torch>=2.8"] },
    { name: "sneaky", version: "1.0", requires: ["nvidia-runtime"] },
    { name: "nvidia-runtime", version: "1.0" },
    { name: "accelerator", version: "1.0", requires: ["torch"] },
  ]);
  const environment = join(scratch, "ui");
  must(python, ["-m", "venv", environment]);
  ui = join(environment, ...binary);
  must(ui, [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--no-index",
    "--find-links",
    wheels,
    "torch==2.7.0",
    "tiny==1.0",
    "shared-thing",
  ]);
});
beforeEach(() => {
  data = mkdtempSync(join(scratch, "data-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("host install into an environment of its own", () => {
  test("is found by the sidecar, is replaced as a whole, and is removed", async () => {
    expect(hostPythons(data, () => null)("torch")).toBeNull();
    const host = await install(own());
    expect(host).toMatchObject({
      mode: "own",
      versions: { tiny: "1.0", probed: "yes" },
      device: "test",
      folders: [expect.stringMatching(/^torch-/) as string],
    });
    expect(valueOf("torch", "__import__('tiny').version")).toBe("1.0");
    expect(hostPythons(data, () => "/named/python")("torch")).toEqual({ python: "/named/python", paths: [] });
    await install(own(["tiny==2.0"]));
    expect(valueOf("torch", "__import__('tiny').version")).toBe("2.0");
    expect(folders()).toHaveLength(1);
    expect(existsSync(join(data, "hosts", folders()[0] ?? "", "installing.json"))).toBe(false);
    await removeHost(data, "torch");
    expect(installedHost(data, "torch")).toBeNull();
    expect(folders()).toEqual([]);
    await expect(removeHost(data, "torch")).rejects.toMatchObject({ code: "INSTALL_HOST_ABSENT" });
  });

  test("a trial run that fails keeps what serves, and says why", async () => {
    await install(own());
    const probe = () => Promise.reject(new Error("the card fell out."));
    await expect(install(own(["tiny==2.0"]), { probe })).rejects.toMatchObject({
      code: "INSTALL_PROBE_FAILED",
      message: expect.stringContaining("the card fell out.") as string,
    });
    expect(valueOf("torch", "__import__('tiny').version")).toBe("1.0");
    await expect(install(own(["tiny==2.0"], { wheels: "cuda" }))).rejects.toMatchObject({
      code: "INSTALL_PROBE_FAILED",
      message: expect.stringContaining("--index-url") as string,
    });
    const again = edges();
    await installHost(own(["tiny==2.0"]), again);
    expect(again.lines[0]).toContain("did not end");
    expect(folders()).toHaveLength(1);
  });

  test("what is in the way is named: package, index, Python, room, another installation", async () => {
    await expect(install(own(["no-such-package==1.0"]))).rejects.toMatchObject({
      code: "INSTALL_NO_WHEEL",
      message: expect.stringContaining("no-such-package") as string,
    });
    const offline = { indexUrl: "http://user:secret@127.0.0.1:9/simple", extraIndexUrls: [], findLinks: [], noIndex: false };
    const failure = await install(own(["other==1.0"], { sources: offline })).catch((error: Error) => error);
    expect(failure).toMatchObject({ code: "INSTALL_OFFLINE", message: expect.stringContaining("--find-links DIR --no-index") as string });
    expect(JSON.stringify([(failure as Error).message, (failure as unknown as { evidence: unknown }).evidence])).not.toContain("secret");
    await expect(install(own([], { place: { mode: "own", python: join(scratch, "none") } }))).rejects.toMatchObject({
      code: "INSTALL_NO_PYTHON",
      message: expect.stringContaining("could not be started") as string,
    });
    await expect(install(own([], { needBytes: 2 ** 60 }))).rejects.toMatchObject({ code: "INSTALL_NO_SPACE" });
    writeFileSync(join(data, "hosts", "install.lock"), String(process.pid));
    await expect(install(own())).rejects.toMatchObject({ code: "INSTALL_BUSY" });
    unlinkSync(join(data, "hosts", "install.lock"));
    writeFileSync(join(data, "hosts", "torch.json"), "{");
    expect(() => installedHost(data, "torch")).toThrow(expect.objectContaining({ code: "INSTALL_HOST_DAMAGED" }) as Error);
  }, 120_000);

  test("a Python without venv, or too old, is refused with what to do", async () => {
    const without = (version: string, venv: boolean) => {
      const path = join(scratch, `python-${version}-${venv}`);
      const facts = JSON.stringify({ executable: path, version: version.split(".").map(Number), bits: 64, venv, pip: null, packages: {} });
      writeFileSync(path, `#!/bin/sh\necho '${facts}'\n`, { mode: 0o755 });
      return path;
    };
    if (process.platform === "win32") return console.log("skip: needs a shell script as interpreter, which Windows does not run");
    await expect(install(own([], { place: { mode: "own", python: without("3.12.0", false) } }))).rejects.toMatchObject({
      code: "INSTALL_NO_VENV",
      message: expect.stringContaining("python3-venv") as string,
    });
    await expect(install(own([], { place: { mode: "own", python: without("3.9.1", true) } }))).rejects.toMatchObject({
      code: "INSTALL_NO_PYTHON",
      message: expect.stringContaining("3.9.1") as string,
    });
  });

  test("killed in the middle of pip, nothing is half visible, no pip goes on, and the same command ends it", async () => {
    await install(own());
    const wish = own(["slow==1.0", "tiny==1.0"]);
    for (const moment of ["making an environment", "Processing", "Installing collected packages"]) {
      await killedAt(wish, moment);
      expect(valueOf("torch", "__import__('tiny').version")).toBe("1.0");
      expect(installedHost(data, "torch")?.versions["slow"]).toBeUndefined();
    }
    const again = edges();
    const host = await installHost(wish, again);
    expect(again.lines[0]).toContain("did not end");
    expect(host.versions["slow"]).toBe("1.0");
    expect(
      valueOf(
        "torch",
        "len([p for p in __import__('importlib.metadata').metadata.files('slow') if p.name.startswith('part') and p.suffix == '.py' and p.locate().exists()])",
      ),
    ).toBe("4000");
    expect(folders()).toHaveLength(1);
  }, 180_000);
});

function processesNaming(text: string): string[] {
  const commandOf = (pid: string): string => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      return "";
    }
  };
  return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(text));
}

/** Kills an installing process at the first progress line that holds `moment`. */
async function killedAt(wish: HostWish, moment: string): Promise<void> {
  const child = spawn(process.execPath, [fileURLToPath(new URL("install-child.mjs", import.meta.url)), JSON.stringify(wish)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => void child.once("close", () => resolve()));
  const seen: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    seen.push(line);
    if (line.includes(moment)) child.kill("SIGKILL");
  });
  await ended;
  expect(
    seen.some((line) => line.includes(moment)),
    seen.join("\n"),
  ).toBe(true);
  expect(seen.some((line) => line.startsWith("installed "))).toBe(false);
  // Its pip has to end by itself: the next installation takes the folder over.
  if (process.platform !== "linux") return console.log("skip: whether a pip was left behind is read from /proc, which this platform lacks");
  await expect.poll(() => processesNaming(wish.dataDir), { timeout: 20_000 }).toEqual([]);
}

describe("host install beside a UI's packages", () => {
  test("puts only what is missing or too old into the side folder; the UI's packages stay as they are, byte for byte", async () => {
    const before = folderHash(join(scratch, "ui"));
    const host = await install(reuse(["diffusers==0.42", "shared-thing"]));
    expect(folderHash(join(scratch, "ui"))).toBe(before);
    expect(host).toMatchObject({ mode: "reuse", python: ui, versions: { torch: "2.7.0", diffusers: "0.42" } });
    const site = pythonOf(data, host)?.paths[0] ?? "";
    expect(
      readdirSync(site)
        .filter((name) => name.endsWith(".dist-info"))
        .toSorted(),
    ).toEqual(["diffusers-0.42.dist-info", "tiny-2.0.dist-info"]);
    expect(valueOf("torch", "[__import__(n).version for n in ('diffusers', 'tiny', 'torch')]")).toBe("['0.42', '2.0', '2.7.0']");
    expect(must(ui, ["-c", "import tiny; print(tiny.version)"]).trim()).toBe("1.0");
  });

  test("never takes PyTorch or NVIDIA's libraries a second time", async () => {
    const before = folderHash(join(scratch, "ui"));
    await expect(install(reuse(["hungry==1.0"]))).rejects.toMatchObject({ message: expect.stringMatching(/torch/) as string });
    await expect(install(reuse(["sneaky==1.0"]))).rejects.toMatchObject({
      code: "INSTALL_TORCH_TWICE",
      message: expect.stringContaining("nvidia-runtime 1.0") as string,
    });
    const bare = join(scratch, "bare");
    must(python, ["-m", "venv", "--without-pip", bare]);
    await expect(install(reuse(["tiny==1.0"], { place: { mode: "reuse", python: join(bare, ...binary) } }))).rejects.toMatchObject({
      code: "INSTALL_REUSE_NO_TORCH",
    });
    expect(installedHost(data, "torch")).toBeNull();
    expect(folderHash(join(scratch, "ui"))).toBe(before);
  });

  test("a UI without pip is helped by another Python's, and not changed either", async () => {
    const bare = join(scratch, "no-pip");
    must(python, ["-m", "venv", bare]);
    const target = join(bare, ...binary);
    must(target, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--find-links", wheels, "torch==2.7.0"]);
    must(target, ["-m", "pip", "uninstall", "--quiet", "--yes", "--disable-pip-version-check", "pip"]);
    const before = folderHash(bare);
    const host = await install(reuse(["tiny==2.0"], { place: { mode: "reuse", python: target } }));
    expect(host.versions).toMatchObject({ torch: "2.7.0", tiny: "2.0" });
    expect(folderHash(bare)).toBe(before);
  });

  test("a Python that is gone is said, not started", async () => {
    const host = await install(reuse(["tiny==2.0"]));
    expect(pythonOf(data, { ...host, python: join(scratch, "gone") })).toBeNull();
  });
});

describe("host install tensorrt", () => {
  test("stands on the installed torch host, which then cannot be removed from under it", async () => {
    const torch = await install(own(["torch==2.7.0"]));
    await install(own(["accelerator==1.0"], { kind: "tensorrt", place: { mode: "reuse", host: torch } }));
    expect(valueOf("tensorrt", "[__import__(n).version for n in ('accelerator', 'torch')]")).toBe("['1.0', '2.7.0']");
    await expect(removeHost(data, "torch")).rejects.toMatchObject({ code: "INSTALL_HOST_NEEDED" });
    // Another torch host does not pull the packages away from under it.
    await install(own(["torch==2.9.0"]));
    expect(valueOf("tensorrt", "__import__('torch').version")).toBe("2.7.0");
    expect(folders()).toHaveLength(3);
    await removeHost(data, "tensorrt");
    expect(folders()).toHaveLength(1);
    await removeHost(data, "torch");
    expect(folders()).toEqual([]);
  });

  test("a side folder on a side folder sees both", async () => {
    const torch = await install(reuse(["diffusers==0.42"]));
    await install(own(["accelerator==1.0"], { kind: "tensorrt", place: { mode: "reuse", host: torch }, wheels: "reused" }));
    expect(valueOf("tensorrt", "[__import__(n).version for n in ('accelerator', 'diffusers', 'torch')]")).toBe("['1.0', '0.42', '2.7.0']");
    expect(JSON.parse(readFileSync(join(data, "hosts", "tensorrt.json"), "utf8"))).toMatchObject({
      paths: [expect.stringMatching(/^tensorrt-.*site$/) as string, expect.stringMatching(/^torch-.*site$/) as string],
    });
  });
});
