import { statfs } from "node:fs/promises";
import { cpus, freemem, totalmem } from "node:os";
import { native } from "@refit-sidecar/native";
import { hostCommand } from "../../pipeline/index.ts";
import { startHost } from "../../host/index.ts";
import { gibibytes } from "../../telemetry/index.ts";
import type { Finding } from "./finding.ts";

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  return { name: "Node.js", ok, found: process.version, remedy: ok ? null : "install Node 20.19 or newer", optional: false };
}

function nativeFinding(): Finding {
  const ok = native.kind === "native";
  return {
    name: "native addon",
    ok,
    found: `${native.kind}: ${native.detail}`,
    remedy: ok
      ? null
      : 'merges run in TypeScript, several times slower; a package brings the addon for linux, win32 and darwin on x64 and arm64; elsewhere, and in a checkout, install a C++ compiler and run "npm run build"',
    optional: true,
  };
}

async function embeddedHost(): Promise<Finding> {
  try {
    const host = await startHost(hostCommand("onnxruntime", () => null));
    const { device, versions } = host.about;
    await host.close();
    return {
      name: "embedded engine (onnxruntime)",
      ok: true,
      found: `${device.name}, ${Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", ")}`,
      remedy: null,
      optional: false,
    };
  } catch (error) {
    return {
      name: "embedded engine (onnxruntime)",
      ok: false,
      found: error instanceof Error ? error.message : String(error),
      remedy: 'install the package again (in a checkout: "npm ci" and "npm run build"); what was found says what failed',
      optional: false,
    };
  }
}

async function diskFinding(dataDir: string): Promise<Finding> {
  const parent = await statfs(dataDir).catch(() => statfs("."));
  const free = parent.bavail * parent.bsize;
  const ok = free > 10 * 2 ** 30;
  return {
    name: "disk for deltas and engines",
    ok,
    found: `${gibibytes(free)} free`,
    remedy: ok ? null : "10 GiB are comfortable; choose another --data-dir, or lower --delta-cache",
    optional: true,
  };
}

/** Everything that needs no Python. */
export async function computerFindings(dataDir: string): Promise<readonly Finding[]> {
  const enough = totalmem() > 7 * 2 ** 30;
  return [
    nodeFinding(),
    nativeFinding(),
    await embeddedHost(),
    {
      name: "memory",
      ok: enough,
      found: `${gibibytes(freemem())} free of ${gibibytes(totalmem())}, ${cpus().length} processors`,
      remedy: enough ? null : "an SD1.5 engine on the CPU needs about 4 GiB",
      optional: true,
    },
    await diskFinding(dataDir),
  ];
}
