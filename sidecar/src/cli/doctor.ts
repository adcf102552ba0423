import { spawnSync } from "node:child_process";
import { statfs } from "node:fs/promises";
import { cpus, freemem, totalmem } from "node:os";
import type { Command } from "commander";
import { native } from "@refit-sidecar/native";
import { hostCommand } from "../pipeline/index.ts";
import { startHost } from "../host/index.ts";
import { exitCode } from "./exit.ts";
import { defaultDataDir } from "./serve.ts";

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  /** What to do; only when something is missing. */
  readonly remedy: string | null;
  /** The product runs without it. */
  readonly optional: boolean;
}

const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  return { name: "Node.js", ok, found: process.version, remedy: ok ? null : "install Node 20.19 or newer", optional: false };
}

function nativeFinding(): Finding {
  const ok = native.kind === "native";
  return { name: "native addon", ok, found: `${native.kind}: ${native.detail}`, remedy: ok ? null : "merges run in TypeScript, several times slower; install a C++ compiler and run \"npm run build\"", optional: true };
}

async function embeddedHost(): Promise<Finding> {
  try {
    const host = await startHost(hostCommand("onnxruntime", () => null));
    const { device, versions } = host.about;
    await host.close();
    return { name: "embedded engine (onnxruntime)", ok: true, found: `${device.name}, ${Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")}`, remedy: null, optional: false };
  } catch (error) {
    return { name: "embedded engine (onnxruntime)", ok: false, found: error instanceof Error ? error.message : String(error), remedy: "run \"npm ci\" and \"npm run build\" again; the message above says what failed", optional: false };
  }
}

const probe = `
import importlib.metadata as m, json
def v(n):
    try: return m.version(n)
    except Exception: return None
out = {n: v(n) for n in ("torch", "diffusers", "onnx", "safetensors", "tensorrt", "tensorrt_rtx")}
try:
    import torch
    out["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    out["capability"] = "sm%d%d" % torch.cuda.get_device_capability(0) if torch.cuda.is_available() else None
    import importlib.util
    out["tier"] = ("compiled" if importlib.util.find_spec("triton") else "CUDA graphs, no compiler") if torch.cuda.is_available() else "eager (cpu)"
except Exception as e:
    out["device"] = None
print(json.dumps(out))
`;

function pythonFindings(python: string): Finding[] {
  const run = spawnSync(python, ["-c", probe], { encoding: "utf8", timeout: 60_000 });
  let facts: Record<string, string | null> = {};
  try {
    facts = JSON.parse(run.stdout) as Record<string, string | null>;
  } catch {
    return [{ name: "Python", ok: false, found: `${python} could not be asked`, remedy: "pass --python with a Python 3.10 or newer; only GPU hosts and graphs of unusual structures need it", optional: true }];
  }
  const has = (name: string) => typeof facts[name] === "string";
  const packages = ["torch", "diffusers", "onnx", "safetensors"];
  const missing = packages.filter((name) => !has(name));
  const gpu = has("device") && facts["device"] !== "cpu";
  return [
    { name: "graphs of other structures", ok: missing.length === 0, found: packages.map((name) => `${name} ${facts[name] ?? "absent"}`).join(", "), remedy: missing.length === 0 ? null : `install ${missing.join(", ")} into this Python, or run "refit-sidecar host install torch"`, optional: true },
    { name: "torch host", ok: has("torch") && has("diffusers"), found: `device ${facts["device"] ?? "unknown"}${facts["capability"] ? ` (${facts["capability"]})` : ""}, tier: ${facts["tier"] ?? "none"}`, remedy: gpu ? null : "no GPU is visible to PyTorch; engines run on the CPU", optional: true },
    { name: "tensorrt host", ok: has("tensorrt") || has("tensorrt_rtx"), found: `tensorrt ${facts["tensorrt"] ?? "absent"}, tensorrt_rtx ${facts["tensorrt_rtx"] ?? "absent"}; load and refit not run on hardware by this project yet`, remedy: has("tensorrt") || has("tensorrt_rtx") ? null : "optional; the torch host serves without it", optional: true },
  ];
}

async function diskFinding(dataDir: string): Promise<Finding> {
  const parent = await statfs(dataDir).catch(() => statfs("."));
  const free = parent.bavail * parent.bsize;
  const ok = free > 10 * 2 ** 30;
  return { name: "disk for deltas and engines", ok, found: `${gibibytes(free)} free`, remedy: ok ? null : "10 GiB are comfortable; choose another --data-dir, or lower --delta-cache", optional: true };
}

interface DoctorFlags {
  readonly json?: boolean;
  readonly python?: string;
}

export function addDoctor(program: Command, done: (code: number) => void): void {
  program
    .command("doctor")
    .description("what this computer can run, what is missing and how to get it")
    .option("--python <file>", "Python to look at for GPU hosts (default: REFIT_PYTHON, then python3)")
    .option("--json", "print one JSON object")
    .action(async (flags: DoctorFlags) => {
      const python = flags.python ?? process.env["REFIT_PYTHON"] ?? (process.platform === "win32" ? "python" : "python3");
      const findings = [
        nodeFinding(),
        nativeFinding(),
        await embeddedHost(),
        { name: "memory", ok: totalmem() > 7 * 2 ** 30, found: `${gibibytes(freemem())} free of ${gibibytes(totalmem())}, ${cpus().length} processors`, remedy: totalmem() > 7 * 2 ** 30 ? null : "an SD1.5 engine on the CPU needs about 4 GiB", optional: true },
        await diskFinding(defaultDataDir()),
        ...pythonFindings(python),
      ];
      const ok = findings.every((finding) => finding.ok || finding.optional);
      if (flags.json === true) console.log(JSON.stringify({ ok, platform: `${process.platform}-${process.arch}`, findings }));
      else {
        for (const { name, ok: good, found, remedy, optional } of findings) {
          console.log(`${good ? "ok     " : optional ? "absent " : "MISSING"} ${name}: ${found}`);
          if (!good && remedy !== null) console.log(`        ${remedy}`);
        }
      }
      done(ok ? exitCode.ok : exitCode.failed);
    });
}
