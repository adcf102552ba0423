import type { HostPython } from "../../host/index.ts";
import { hasAmdCompute, installedHost, tensorrtSupport } from "../../install/host/index.ts";
import type { Gpu, InstalledHost, PythonHost } from "../../install/host/index.ts";
import { aboutPython } from "../about.ts";
import type { About } from "../about.ts";
import { gibibytes } from "../../telemetry/index.ts";
import type { Finding } from "./finding.ts";

export function gpuFinding(gpus: readonly Gpu[]): Finding {
  const [gpu] = gpus;
  if (gpu !== undefined)
    return {
      name: "graphics card",
      ok: true,
      found: gpus
        .map(({ name, capability, driver, memoryMib }, index) => {
          const text = `${name}, compute capability ${capability}, ${gibibytes(memoryMib * 2 ** 20)}, driver ${driver}`;
          return gpus.length > 1 ? `${index}: ${text}` : text;
        })
        .concat(gpus.length > 1 ? [`runs are placed on all ${gpus.length}, unless --devices names some`] : [])
        .join("; "),
      remedy: null,
      optional: true,
    };
  if (hasAmdCompute())
    return {
      name: "graphics card",
      ok: true,
      found: "an AMD card with its compute driver; the torch host with PyTorch's ROCm build is written for it and not run",
      remedy: null,
      optional: true,
    };
  return {
    name: "graphics card",
    ok: false,
    found: "no NVIDIA card is visible",
    remedy: "engines run on the CPU. With an NVIDIA card, install its driver: nvidia-smi has to show it",
    optional: true,
  };
}

const wayOf = (installed: InstalledHost | null): string =>
  installed === null
    ? "the Python named by --python or REFIT_PYTHON"
    : installed.mode === "own"
      ? "an environment of its own"
      : "beside another Python's packages";

function torchFindings(about: About | string, installed: InstalledHost | null, gpus: readonly Gpu[]): readonly Finding[] {
  const again =
    installed === null
      ? 'name another Python, or let "refit-sidecar host install torch" make an environment'
      : 'run "refit-sidecar host install torch" again';
  if (typeof about === "string")
    return [{ name: "torch host", ok: false, found: `its Python could not be asked: ${about}`, remedy: again, optional: true }];
  const { versions, device, problem } = about;
  const missing = ["torch", "diffusers", "safetensors", "psutil"].filter((name) => versions[name] === undefined);
  const packages = ["torch", "diffusers"].map((name) => `${name} ${versions[name] ?? "absent"}`).join(", ");
  const place = `${wayOf(installed)}: ${about.executable}, Python ${about.python}`;
  if (problem !== undefined || missing.length > 0 || device === null) {
    return [
      {
        name: "torch host",
        ok: false,
        found: `${place}; ${packages}; ${problem ?? `${missing.join(", ")} missing`}`,
        remedy: `${again}${installed === null && versions["torch"] !== undefined ? '; or leave the UI\'s packages as they are and run "refit-sidecar host install torch --reuse" with this Python' : ""}`,
        optional: true,
      },
    ];
  }
  const unseen = device.type === "cpu" && gpus.length > 0;
  const onnx = versions["onnx"] !== undefined;
  return [
    {
      name: "torch host",
      ok: !unseen,
      found: `${place}; ${packages}; runs on ${device.name}${device.capability === undefined ? "" : ` (${device.capability})`}`,
      remedy: unseen
        ? `this PyTorch does not see the ${gpus[0]?.name ?? "card"}: it is a CPU build, or needs a newer driver. "refit-sidecar host install torch --wheels cuda" installs another`
        : null,
      optional: true,
    },
    { name: "torch host, tier", ok: true, found: `${about.tier ?? "unknown"}: ${about.why ?? ""}`, remedy: null, optional: true },
    {
      name: "graphs of other structures",
      ok: onnx,
      found: onnx ? `exported with onnx ${versions["onnx"] ?? ""}` : "onnx absent",
      remedy: onnx ? null : '"refit-sidecar host install torch" brings it',
      optional: true,
    },
  ];
}

function tensorrtFinding(about: About | string | null, installed: InstalledHost | null, gpus: readonly Gpu[]): Finding {
  const support = tensorrtSupport(gpus, process.platform, process.arch);
  const name = "tensorrt host";
  const versions = about === null || typeof about === "string" ? {} : about.versions;
  const library = Object.entries(versions).find(([package_]) => package_.startsWith("tensorrt"));
  if (library === undefined)
    return {
      name,
      ok: false,
      found: "not installed",
      remedy: support.supported
        ? '"refit-sidecar host install tensorrt" installs it; the torch host serves without it'
        : `it cannot run here: ${support.reason}`,
      optional: true,
    };
  return {
    name,
    ok: support.supported,
    found: `${wayOf(installed)}; ${library.join(" ")}`,
    remedy: support.supported ? null : `it cannot run here: ${support.reason}`,
    optional: true,
  };
}

function recordOf(dataDir: string, kind: PythonHost): InstalledHost | null {
  try {
    return installedHost(dataDir, kind);
  } catch {
    return null;
  }
}

/** The hosts that need Python. `pythons` as the sidecar finds them; `named`: by option or environment. */
export async function gpuHostFindings(
  dataDir: string,
  pythons: (kind: PythonHost) => HostPython | null,
  named: boolean,
  gpus: readonly Gpu[],
): Promise<readonly Finding[]> {
  const python = (kind: PythonHost): HostPython | null => {
    try {
      return pythons(kind);
    } catch {
      // A damaged record: said as "not installed", and installing again is what helps.
      return null;
    }
  };
  const torch = python("torch");
  const record = (kind: PythonHost) => (named ? null : recordOf(dataDir, kind));
  const broken = record("torch") !== null && torch === null;
  const absent: Finding = {
    name: "torch host",
    ok: false,
    optional: true,
    found: broken ? "installed, and its Python or packages are gone" : "not installed",
    remedy:
      '"refit-sidecar host install torch" makes an environment of its own; with "--reuse PYTHON" it uses the PyTorch of a UI and leaves its packages as they are',
  };
  const about = torch === null ? null : await aboutPython(torch);
  const tensorrt = python("tensorrt");
  const aboutTensorrt = tensorrt === null ? null : named ? about : await aboutPython(tensorrt);
  return [
    ...(about === null ? [absent] : torchFindings(about, record("torch"), gpus)),
    tensorrtFinding(aboutTensorrt, record("tensorrt"), gpus),
  ];
}
