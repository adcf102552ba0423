// The one table of options. Flags, environment variables, the TOML file, `--help`, validation and docs/configuration.md all come from it.

interface Common {
  readonly name: string;
  /** What it does and why one would change it. One sentence; shown in --help. */
  readonly help: string;
  /** Applied by a running sidecar when the configuration file changes. */
  readonly reload: boolean;
}

export type OptionSpec =
  | (Common & { readonly type: "folder" | "text"; readonly default: string | null })
  | (Common & { readonly type: "list"; readonly default: readonly string[]; /** Items are folders. */ readonly paths: boolean })
  | (Common & { readonly type: "flag"; readonly default: boolean })
  | (Common & { readonly type: "number"; readonly default: number; readonly min: number; readonly max: number; readonly unit: string })
  | (Common & { readonly type: "choice"; readonly default: string; readonly choices: readonly string[] });

export const optionTable = [
  { name: "data-dir", type: "folder", default: null, reload: false, help: "Where deltas, graphs, the catalog and sidecar.json are kept (default: the user's data folder)" },
  { name: "loras", type: "list", default: [], paths: true, reload: true, help: "Folder with LoRA/LyCORIS files, watched recursively; repeatable" },
  { name: "checkpoints", type: "list", default: [], paths: true, reload: true, help: "Folder with checkpoints, watched recursively; repeatable" },
  { name: "comfyui-paths", type: "text", default: null, reload: false, help: "A ComfyUI extra_model_paths.yaml whose loras, checkpoints and diffusion_models folders are watched too; it is read again when it changes" },
  { name: "live-folder", type: "folder", default: null, reload: false, help: "The adapters in this folder are the live engine's stack, in name order; strength from name@0.8.safetensors" },
  { name: "live-checkpoint", type: "text", default: null, reload: false, help: "Checkpoint that the live folder applies to (catalog id or name; default: the only one there is)" },
  { name: "host", type: "choice", default: "auto", choices: ["auto", "onnxruntime", "torch", "tensorrt"], reload: false, help: "Engine host to use when a client does not name one" },
  { name: "precision", type: "choice", default: "auto", choices: ["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"], reload: false, help: "Weight dtype of engines when a client does not name one (auto: fp32 on a CPU; fp8, int8 and nvfp4: torch host)" },
  { name: "mode", type: "choice", default: "comfyui", choices: ["comfyui", "extended"], reload: true, help: "comfyui merges what ComfyUI merges; extended also merges names and kinds that ComfyUI ignores" },
  { name: "bind", type: "text", default: "127.0.0.1", reload: false, help: "Address to listen on; anything but loopback needs TLS or --behind-proxy" },
  { name: "port", type: "number", default: 0, min: 0, max: 65535, unit: "", reload: false, help: "Port to listen on; 0 takes any free one (see sidecar.json)" },
  { name: "tls-cert", type: "text", default: null, reload: false, help: "PEM certificate for TLS; needs --tls-key" },
  { name: "tls-key", type: "text", default: null, reload: false, help: "PEM private key for TLS; needs --tls-cert" },
  { name: "behind-proxy", type: "flag", default: false, reload: false, help: "A reverse proxy in front ends TLS and checks who may connect; allows a bind address that is not loopback without TLS" },
  { name: "allow-host", type: "list", default: [], paths: false, reload: true, help: "Additional Host header value to accept; repeatable" },
  { name: "allow-origin", type: "list", default: [], paths: false, reload: true, help: "Browser origin allowed to connect; repeatable" },
  { name: "max-clients", type: "number", default: 256, min: 1, max: 10000, unit: "connections", reload: true, help: "Open WebSocket sessions at one time" },
  { name: "engine-memory", type: "number", default: 0, min: 0, max: 1048576, unit: "MiB", reload: true, help: "Memory that loaded engines may take together; 0 allows half of the main memory, or a whole GPU (of less than 16 GB: one engine at a time)" },
  { name: "vram-cap", type: "number", default: 0, min: 0, max: 1048576, unit: "MiB", reload: false, help: "Most device memory that a GPU host may take; 0 sets no limit" },
  { name: "vram-weights", type: "number", default: 0, min: 0, max: 1048576, unit: "MiB", reload: false, help: "Device memory for an engine's weights on the torch host, the rest is streamed from host memory during each step; 0 streams only what does not fit" },
  { name: "idle-offload", type: "number", default: 600, min: 0, max: 86400, unit: "s", reload: false, help: "Weights that nobody used for this long leave the GPU for host memory and come back with the next use; 0 keeps them there" },
  { name: "free-after", type: "number", default: 900, min: 0, max: 86400, unit: "s", reload: true, help: "Engines are unloaded when no client was connected for this long and no live folder wants one; 0 keeps them" },
  { name: "base", type: "choice", default: "auto", choices: ["auto", "resident", "pinned", "file"], reload: false, help: "Where GPU hosts keep pristine weights: on the device (fastest swaps), in pinned host memory, or only in the file (auto: by free memory)" },
  { name: "tier", type: "choice", default: "auto", choices: ["auto", "eager", "graphs", "compiled"], reload: false, help: "How far the torch host speeds up steps: plain, CUDA graphs without a compiler, compiled in the background (auto: as far as the computer can)" },
  { name: "adapter-loss", type: "number", default: 10, min: 0, max: 100, unit: "%", reload: false, help: "fp8, int8 and nvfp4 engines of files in that format: the largest share of an adapter's change that rounding may swallow before the adapter stays a branch beside the layer (100: never)" },
  { name: "spare-host", type: "choice", default: "on", choices: ["on", "off"], reload: true, help: "A second process of the embedded engine waits idle (about 150 MB, with 2 GiB free) and takes over when the first one dies" },
  { name: "delta-cache", type: "number", default: 4096, min: 64, max: 1048576, unit: "MiB", reload: true, help: "Disk space for precomputed deltas; the least recently used go first" },
  { name: "engine-store", type: "folder", default: null, reload: false, help: "Folder where engines and graphs made on this computer are kept (default: engines in the data folder)" },
  { name: "engine-store-read", type: "choice", default: "on", choices: ["on", "off"], reload: false, help: "Use engines and graphs that are in the store; off makes everything anew" },
  { name: "engine-store-write", type: "choice", default: "on", choices: ["on", "off"], reload: false, help: "Keep engines and graphs that are made here in the store; off never changes it, for a store that is shared or on a read-only disk" },
  { name: "engine-store-size", type: "number", default: 10240, min: 64, max: 1048576, unit: "MiB", reload: true, help: "Disk space for engines; the least recently used go first, pinned ones stay" },
  { name: "shared-store", type: "folder", default: null, reload: false, help: "A second engine store that is only read: shared between computers, or on a read-only disk" },
  { name: "quiet-window", type: "number", default: 100, min: 0, max: 60000, unit: "ms", reload: true, help: "A copied file counts as complete when nothing about it changed for this long" },
  { name: "poll", type: "flag", default: false, reload: false, help: "Watch by polling; for network drives that send no change events" },
  { name: "turn", type: "number", default: 2000, min: 50, max: 600000, unit: "ms", reload: true, help: "How long one run may keep an engine while another with different weights waits" },
  { name: "warm", type: "choice", default: "on", choices: ["on", "off"], reload: true, help: "Work ahead of need: deltas of files that arrive, the stacks that were used last; off leaves everything to the first request" },
  { name: "warm-stacks", type: "number", default: 2, min: 0, max: 8, unit: "", reload: true, help: "Last used stacks that are brought to an engine after a start, newest first" },
  { name: "warm-folder", type: "list", default: [], paths: false, reload: true, help: "When the files of a folder are prepared, as DIR=now, DIR=idle (after everything else) or DIR=off; repeatable, the longest folder counts" },
  { name: "quiet-hours", type: "text", default: null, reload: true, help: "Times of day without background work, as 22:00-07:30, several separated by commas; what a user waits for still runs" },
  { name: "python", type: "text", default: null, reload: false, help: "Python with the packages of the GPU hosts, used for them and for graphs of structures that are not shipped (default: what \"refit-sidecar host install\" installed)" },
  { name: "host-env", type: "list", default: [], paths: false, reload: false, help: "Environment variable for engine hosts, as NAME=VALUE, or NAME to hand on the sidecar's own; hosts inherit paths, compilers and caches, nothing else; repeatable" },
  { name: "log-level", type: "choice", default: "info", choices: ["error", "warn", "info", "debug"], reload: true, help: "How much is written to stderr" },
] as const satisfies readonly OptionSpec[];
