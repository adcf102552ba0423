// What a program that the sidecar starts finds in its environment: what an allow-list lets through, what we set, and what the operator named. Nothing else is inherited, because the
// sidecar is often started by a UI that sets variables for itself (ComfyUI: another CUDA allocator, on which CUDA graphs break).

import { delimiter } from "node:path";
import { Failure } from "../failure/index.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** Where programs, libraries, folders and compilers are, and which language the user speaks. */
const allowed: ReadonlySet<string> = new Set([
  "PATH",
  "HOME",
  "USER",
  "LOGNAME",
  "LANG",
  "LANGUAGE",
  "TZ",
  "TMPDIR",
  "TMP",
  "TEMP",
  "XDG_CACHE_HOME",
  "XDG_DATA_HOME",
  "XDG_RUNTIME_DIR",
  // Windows cannot start a program without some of these.
  "SYSTEMROOT",
  "SYSTEMDRIVE",
  "WINDIR",
  "COMSPEC",
  "PATHEXT",
  "USERPROFILE",
  "USERNAME",
  "USERDOMAIN",
  "HOMEDRIVE",
  "HOMEPATH",
  "APPDATA",
  "LOCALAPPDATA",
  "PROGRAMDATA",
  "ALLUSERSPROFILE",
  "PROGRAMFILES",
  "PROGRAMFILES(X86)",
  "PROGRAMW6432",
  "COMMONPROGRAMFILES",
  "COMMONPROGRAMFILES(X86)",
  "COMMONPROGRAMW6432",
  "NUMBER_OF_PROCESSORS",
  "PROCESSOR_ARCHITECTURE",
  "PROCESSOR_IDENTIFIER",
  "PROCESSOR_LEVEL",
  "PROCESSOR_REVISION",
  "OS",
  "COMPUTERNAME",
  // The driver's libraries in a container, and the compilers that Triton calls.
  "LD_LIBRARY_PATH",
  "DYLD_LIBRARY_PATH",
  "NVIDIA_VISIBLE_DEVICES",
  "NVIDIA_DRIVER_CAPABILITIES",
  "CUDA_HOME",
  "CUDA_PATH",
  "ROCM_HOME",
  "ROCM_PATH",
  "HIP_PATH",
  "CC",
  "CXX",
  "INCLUDE",
  "LIB",
  "LIBPATH",
  "VCTOOLSINSTALLDIR",
  "WINDOWSSDKDIR",
  "WINDOWSSDKVERSION",
  // Caches of compiled code, and what an AMD card without official support needs.
  "CUDA_CACHE_PATH",
  "TRITON_CACHE_DIR",
  "TORCHINDUCTOR_CACHE_DIR",
  "HSA_OVERRIDE_GFX_VERSION",
]);
const allowedPrefixes = ["LC_"] as const;

/** For programs that fetch packages. */
const networkPrefixes = ["PIP_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_"] as const;
const network: ReadonlySet<string> = new Set(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"]);

/**
 * Set for every program. CUDA graphs need PyTorch's own allocator (PyTorch before 2.9 knows another name of the variable, and takes its own allocator when nothing is set). Kernels are loaded
 * when they are first used: all of them together take a gigabyte of the card. Threads are left to the libraries, which count the cores themselves.
 */
const set: Readonly<Record<string, string>> = { PYTORCH_ALLOC_CONF: "backend:native", CUDA_MODULE_LOADING: "LAZY" };

/** Where hosts find our code; the launcher's own command sets these. */
const ours: ReadonlySet<string> = new Set(["PYTHONPATH", "PYTHONHOME", "REFIT_PYTHON_PATH"]);

export interface EnvironmentOptions {
  /** Variables of this process. */
  readonly given?: Variables | undefined;
  /** The operator's own, as NAME=VALUE, or NAME to hand on what this process has (option `host-env`). */
  readonly named?: readonly string[] | undefined;
  /** The program fetches packages: proxies, certificates and pip's settings too. */
  readonly fetches?: boolean;
}

const inherits = (name: string, fetches: boolean): boolean => {
  const upper = name.toUpperCase();
  if (allowed.has(upper) || allowedPrefixes.some((prefix) => upper.startsWith(prefix))) return true;
  return fetches && (network.has(upper) || networkPrefixes.some((prefix) => upper.startsWith(prefix)));
};

/** What the operator named. Throws OPTIONS_INVALID for what is no NAME or NAME=VALUE, and for a variable that has to be ours. */
export function namedVariables(named: readonly string[], given: Variables): Record<string, string> {
  const out: Record<string, string> = {};
  for (const item of named) {
    const found = /^([A-Za-z_][A-Za-z0-9_]*)(?:=([^\0]*))?$/s.exec(item);
    const name = found?.[1];
    if (name === undefined)
      throw new Failure(
        "OPTIONS_INVALID",
        `host-env: expected NAME=VALUE, or NAME to hand on this process's own, got ${JSON.stringify(item.slice(0, 80))}`,
        { option: "host-env" },
      );
    if (ours.has(name.toUpperCase()))
      throw new Failure(
        "OPTIONS_INVALID",
        `host-env: ${name} is set by the sidecar, because hosts find their own code by it; leave it out`,
        { option: "host-env", name },
      );
    const value = found?.[2] ?? given[name];
    if (value !== undefined) out[name] = value;
  }
  return out;
}

/** From `REFIT_HOST_ENV`, for commands that read no configuration. */
const fromEnvironment = (given: Variables): readonly string[] =>
  (given["REFIT_HOST_ENV"] ?? "").split(delimiter).filter((item) => item !== "");

/** The whole environment of a program that we start; `own`: what its command needs, which nothing overrides. Throws OPTIONS_INVALID. */
export function hostEnvironment(
  own: Readonly<Record<string, string>> = {},
  { given = process.env, named = fromEnvironment(given), fetches = false }: EnvironmentOptions = {},
): Record<string, string> {
  const inherited = Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined && inherits(entry[0], fetches)),
  );
  return { ...inherited, ...set, ...namedVariables(named, given), ...own };
}

/** Variables that are often set on purpose, and that hosts do not see unless `host-env` names them. */
const noticed = [
  "CUDA_VISIBLE_DEVICES",
  "HIP_VISIBLE_DEVICES",
  "ROCR_VISIBLE_DEVICES",
  "CUDA_DEVICE_ORDER",
  "PYTORCH_ALLOC_CONF",
  "PYTORCH_CUDA_ALLOC_CONF",
  "PYTORCH_HIP_ALLOC_CONF",
  "OMP_NUM_THREADS",
  "PYTHONPATH",
  "PYTHONHOME",
  "LD_PRELOAD",
] as const;

/** Names of those that are set here and do not reach a host. */
export function withheld(named: readonly string[], given: Variables = process.env): readonly string[] {
  const passed = new Set(named.map((item) => item.split("=", 1)[0]));
  return noticed.filter((name) => given[name] !== undefined && !passed.has(name));
}
