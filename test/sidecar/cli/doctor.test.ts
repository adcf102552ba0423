import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { testPython } from "../../../tools/python-env.mjs";

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const python = testPython(fileURLToPath(new URL("../../../", import.meta.url)));
const folder = realpathSync(mkdtempSync(join(tmpdir(), "refit-doctor-")));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  readonly remedy: string | null;
}

/** A computer whose driver shows `card`; nothing else of the PATH changes. */
function doctor(
  card: string,
  ...args: string[]
): {
  readonly status: number | null;
  readonly findings: Map<string, Finding>;
  readonly hardware: readonly { readonly host: string; readonly ran: boolean }[];
} {
  const bin = mkdtempSync(join(folder, "bin-"));
  writeFileSync(join(bin, "nvidia-smi"), card === "" ? "#!/bin/sh\nexit 9\n" : `#!/bin/sh\necho '${card}'\n`, { mode: 0o755 });
  const { status, stdout } = spawnSync(process.execPath, [cli, "doctor", "--json", "--data-dir", join(folder, "data"), ...args], {
    encoding: "utf8",
    env: { ...process.env, REFIT_PYTHON: undefined, PATH: `${bin}${delimiter}${process.env["PATH"] ?? ""}` },
  });
  const { findings, hardware } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as {
    findings: Finding[];
    hardware: { host: string; ran: boolean }[];
  };
  return { status, findings: new Map(findings.map((finding) => [finding.name, finding])), hardware };
}

describe.skipIf(process.platform === "win32")("doctor (a stand-in for nvidia-smi is a shell script, which Windows does not run)", () => {
  it("names card, hosts, tier with its reason, and what has run on which hardware", () => {
    const { status, findings, hardware } = doctor("NVIDIA GeForce RTX 4070, 8.9, 581.15, 12282", "--python", python);
    expect(status).toBe(0);
    expect(findings.get("graphics card")).toMatchObject({ ok: true, found: expect.stringContaining("compute capability 8.9") as string });
    // This PyTorch is a CPU build: it cannot see the card.
    expect(findings.get("torch host")).toMatchObject({
      ok: false,
      found: expect.stringMatching(/torch 2\..*diffusers/) as string,
      remedy: expect.stringContaining("--wheels cuda") as string,
    });
    expect(findings.get("torch host, tier")?.found).toBe("eager: PyTorch sees no GPU");
    expect(findings.get("tensorrt host")).toMatchObject({ ok: false, remedy: expect.stringContaining("host install tensorrt") as string });
    expect(hardware.some(({ host, ran }) => host === "tensorrt" && !ran)).toBe(true);
  });

  it("says what to do when no host is installed, and why TensorRT cannot run", () => {
    const { findings } = doctor("NVIDIA H100 80GB HBM3, 9.0, 580.65, 81559");
    expect(findings.get("torch host")).toMatchObject({
      ok: false,
      found: "not installed",
      remedy: expect.stringContaining("--reuse") as string,
    });
    expect(findings.get("tensorrt host")?.remedy).toContain("does not know 9.0");
    expect(doctor("").findings.get("graphics card")).toMatchObject({ ok: false, remedy: expect.stringContaining("nvidia-smi") as string });
  });

  it("tells an installed host whose Python is gone, and a Python without packages", () => {
    mkdirSync(join(folder, "data", "hosts"), { recursive: true });
    writeFileSync(
      join(folder, "data", "hosts", "torch.json"),
      JSON.stringify({
        formatVersion: 1,
        kind: "torch",
        mode: "own",
        python: "torch-0/venv/bin/python",
        paths: [],
        folders: ["torch-0"],
        pythonVersion: "3.12",
        versions: {},
        wheels: "cpu",
        device: "",
        sizeBytes: 0,
        installedAt: "",
      }),
    );
    expect(doctor("").findings.get("torch host")).toMatchObject({ ok: false, found: expect.stringContaining("gone") as string });
    writeFileSync(join(folder, "data", "hosts", "torch.json"), "{}");
    expect(doctor("").findings.get("torch host")?.remedy).toContain("host install torch");
    expect(doctor("", "--python", join(folder, "none")).findings.get("torch host")?.found).toContain("could not be asked");
  });
});

it("host commands answer in JSON and refuse in words", () => {
  const run = (...args: string[]) => {
    const { status, stdout } = spawnSync(process.execPath, [cli, "host", ...args, "--json", "--data-dir", join(folder, "empty")], {
      encoding: "utf8",
    });
    return { status, last: JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Record<string, unknown> };
  };
  expect(run("ls")).toEqual({ status: 0, last: { ok: true, hosts: [] } });
  expect(run("rm", "torch")).toMatchObject({ status: 1, last: { error: { code: "INSTALL_HOST_ABSENT" } } });
  expect(run("install", "onnxruntime")).toMatchObject({ status: 2, last: { error: { code: "CLI_ARGUMENTS" } } });
  expect(run("install", "torch", "--wheels", "metal")).toMatchObject({ status: 2, last: { error: { code: "CLI_ARGUMENTS" } } });
  expect(run("install", "torch", "--python", "a", "--reuse", "b")).toMatchObject({ status: 2, last: { error: { code: "CLI_ARGUMENTS" } } });
});
