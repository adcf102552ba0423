import { delimiter } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { hostEnvironment, namedVariables, pythonRun, startHost, withheld, type HostCommand } from "../../../sidecar/src/host/index.ts";
import { testPython } from "../../../tools/python-env.mjs";
import { fileURLToPath } from "node:url";

/** What a UI, a shell or an attacker may have set; each of them breaks or redirects a host that inherits it. */
const hostile = {
  PYTORCH_CUDA_ALLOC_CONF: "backend:cudaMallocAsync",
  PYTORCH_ALLOC_CONF: "backend:cudaMallocAsync",
  PYTORCH_HIP_ALLOC_CONF: "backend:cudaMallocAsync",
  PYTORCH_NO_CUDA_MEMORY_CACHING: "1",
  CUDA_VISIBLE_DEVICES: "",
  CUDA_LAUNCH_BLOCKING: "1",
  CUDA_MODULE_LOADING: "EAGER",
  PYTHONPATH: "/nowhere",
  PYTHONHOME: "/nowhere",
  PYTHONSTARTUP: "/nowhere/x.py",
  LD_PRELOAD: "/nowhere/x.so",
  LD_AUDIT: "/nowhere/x.so",
  DYLD_INSERT_LIBRARIES: "/nowhere/x.dylib",
  OMP_NUM_THREADS: "1",
  OMP_WAIT_POLICY: "ACTIVE",
  MKL_NUM_THREADS: "1",
  KMP_AFFINITY: "compact",
  NODE_OPTIONS: "--require /nowhere/x.cjs",
  NODE_PATH: "/nowhere",
  TORCH_COMPILE_DISABLE: "1",
  TORCHDYNAMO_DISABLE: "1",
  TORCHINDUCTOR_FORCE_DISABLE_CACHES: "1",
  HF_HUB_OFFLINE: "0",
  HF_TOKEN: "secret",
  VIRTUAL_ENV: "/nowhere",
};
const root = fileURLToPath(new URL("../../../", import.meta.url));

function plant(): void {
  // What a whole run gives to its hosts (tools/test.mjs) is none of it.
  vi.stubEnv("REFIT_HOST_ENV", undefined);
  for (const [name, value] of Object.entries(hostile)) vi.stubEnv(name, value);
}

afterEach(() => void vi.unstubAllEnvs());

/** The environment that a child sees which `startHost` starts; it prints it and ends. */
async function seenBy(command: HostCommand, environment?: readonly string[]): Promise<Record<string, string>> {
  const failure: unknown = await startHost(command, environment === undefined ? {} : { environment }).catch((error: unknown) => error);
  const lines = (failure as { evidence: { log: string[] } }).evidence.log;
  return JSON.parse(lines.findLast((line) => line.startsWith("{")) ?? "null") as Record<string, string>;
}

const nodeChild: HostCommand = {
  kind: "node",
  command: process.execPath,
  args: ["-e", "console.error(JSON.stringify(process.env))"],
  env: { OURS: "1" },
};
const python = testPython(root);
const pythonChild: HostCommand = {
  kind: "python",
  command: python,
  args: ["-c", "import json, os, sys; print(json.dumps(dict(os.environ)), file=sys.stderr)"],
  env: pythonRun({ python, paths: [] }, "none").env,
};

describe("the environment of an engine host", () => {
  it.each([
    ["an embedded", nodeChild],
    ["a Python", pythonChild],
  ])("%s host sees nothing of a hostile environment, and starts in it", async (_, command) => {
    plant();
    const seen = await seenBy(command);
    for (const name of Object.keys(hostile)) expect([name, seen[name]]).not.toEqual([name, hostile[name as keyof typeof hostile]]);
    expect(seen).toMatchObject({ PYTORCH_ALLOC_CONF: "backend:native", CUDA_MODULE_LOADING: "LAZY", ...command.env });
    expect(Object.keys(seen)).not.toContain("CUDA_VISIBLE_DEVICES");
    expect(Object.keys(seen)).not.toContain("PYTHONHOME");
    expect(seen["PATH"]).toBe(process.env["PATH"]);
  });
  it("the operator's own variables reach it, by value or handed on, and never in the place of what the host is started with", async () => {
    plant();
    vi.stubEnv("CUDA_VISIBLE_DEVICES", "1");
    const seen = await seenBy({ ...nodeChild, env: { OURS: "1", OMP_NUM_THREADS: "4" } }, [
      "CUDA_VISIBLE_DEVICES",
      "PYTORCH_ALLOC_CONF=max_split_size_mb:64",
      "OMP_NUM_THREADS=2",
      "EMPTY=",
      "NOT_SET_HERE",
    ]);
    expect(seen).toMatchObject({
      CUDA_VISIBLE_DEVICES: "1",
      PYTORCH_ALLOC_CONF: "max_split_size_mb:64",
      OMP_NUM_THREADS: "4",
      EMPTY: "",
      OURS: "1",
    });
    expect(seen).not.toHaveProperty("NOT_SET_HERE");
  });
  it("commands without a configuration take the operator's from REFIT_HOST_ENV", () => {
    expect(hostEnvironment({}, { given: { REFIT_HOST_ENV: ["A=1", "B"].join(delimiter), B: "2" } })).toMatchObject({ A: "1", B: "2" });
  });
  it("a program that fetches packages has proxies, certificates and pip's settings too", () => {
    const given = { https_proxy: "http://proxy", PIP_INDEX_URL: "http://index", SSL_CERT_FILE: "/certs", LD_PRELOAD: "/nowhere/x.so" };
    expect(hostEnvironment({}, { given, fetches: true })).toMatchObject({
      https_proxy: "http://proxy",
      PIP_INDEX_URL: "http://index",
      SSL_CERT_FILE: "/certs",
    });
    expect(hostEnvironment({}, { given, fetches: true })).not.toHaveProperty("LD_PRELOAD");
    expect(hostEnvironment({}, { given })).not.toHaveProperty("PIP_INDEX_URL");
  });
  it("Windows' names count in any case", () => {
    expect(
      hostEnvironment({}, { given: { Path: "C:\\", SystemRoot: "C:\\Windows", "ProgramFiles(x86)": "C:\\P", PythonHome: "C:\\x" } }),
    ).toEqual({
      Path: "C:\\",
      SystemRoot: "C:\\Windows",
      "ProgramFiles(x86)": "C:\\P",
      PYTORCH_ALLOC_CONF: "backend:native",
      CUDA_MODULE_LOADING: "LAZY",
    });
  });
  it.each(["", "=1", "1A=2", "A B=1", "PYTHONPATH=/x", "PYTHONHOME", "REFIT_PYTHON_PATH=/x"])(
    "refuses %j as a variable of the operator's",
    (item) => {
      expect(() => namedVariables([item], {})).toThrow(expect.objectContaining({ code: "OPTIONS_INVALID" }));
    },
  );
  it("names what is set on purpose and does not reach a host", () => {
    const given = { CUDA_VISIBLE_DEVICES: "1", OMP_NUM_THREADS: "2", HOME: "/home" };
    expect(withheld([], given)).toEqual(["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"]);
    expect(withheld(["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS=4"], given)).toEqual([]);
  });
});
