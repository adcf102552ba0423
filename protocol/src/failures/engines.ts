// What can go wrong between a catalogued file and a step: deltas, plans, refits, engines, hosts, jobs, the live folder.
import type { FailureRows } from "./row.ts";

/** From an adapter to its delta. */
export const deltaFailures = {
  DELTA_ADAPTER_CHANGED: { summary: "The adapter changed while it was read.", remedy: "Try again in a moment." },
  DELTA_ADAPTER_UNREADABLE: {
    summary: "The adapter's file breaks a rule of its format or cannot be read.",
    remedy: "Download it again; the text has the reason.",
  },
  DELTA_BASE_UNREADABLE: {
    summary: "A base has values that cannot be read as numbers.",
    remedy: "Give a base in f32, f16, bf16 or a quantised format that is read.",
  },
  DELTA_CANCELLED: { summary: "The work was cancelled.", remedy: "None." },
  DELTA_DAMAGED: {
    summary: "A delta file is damaged.",
    remedy: "It is made again from the adapter. A delta that you imported: export it again.",
  },
  DELTA_NON_FINITE: { summary: "The adapter holds NaN or infinity.", remedy: "Get the file again, or take it out of the stack." },
  DELTA_NO_WEIGHT_CHANGES: {
    summary: "The adapter changes nothing of this model.",
    remedy: "It was made for another family, or for text encoders alone. The text names the likely cause.",
  },
  DELTA_OTHER_STRUCTURE: {
    summary: "The delta was packed for another model.",
    remedy: "Use the adapter itself, or a delta for this model.",
  },
  DELTA_REDUX_NEEDS_BASE: {
    summary: "The file is a TensorRT-Redux export: whole weights, no adapter.",
    remedy: "Use the LoRA itself, or `delta export` with the base it was made from.",
  },
  DELTA_TARGETS_DIFFER: {
    summary: "The adapter changes other layers in the UI than on an engine: its names mean different things to the two.",
    remedy: "Update the UI or Refit Sidecar, whichever is older; or use the file without an engine.",
  },
  DELTA_UNEXPECTED: { summary: "Packing the adapter failed in a way that nobody expected.", remedy: "Report it with the line of the log." },
  DELTA_VERSION: {
    summary: "The delta file is of another version.",
    remedy: "It is made again from the adapter. One that you imported: export it again.",
  },
  DELTA_UNMEASURED: { summary: "The layers of an adapter could not be measured.", remedy: "Ask again; see the log when it comes back." },
  DELTA_WORKER_DIED: { summary: "The thread that packs adapters ended.", remedy: "Try again; a new one is started." },
  DELTA_WRITE_FAILED: {
    summary: "The delta could not be written to the data folder.",
    remedy: "Free space there, or see to its permissions.",
  },
  TERMS_FACTOR_DTYPE: {
    summary: "A factor of the adapter is not in a floating-point format.",
    remedy: "Export the adapter again in f32, f16 or bf16.",
  },
  TERMS_SHAPE_CHANGED: {
    summary: "The adapter changes the shape of a weight.",
    remedy: "Use `refit-sidecar merge`; the new checkpoint has an engine of its own.",
  },
} as const satisfies FailureRows;

/** From a stack to an engine that holds it. */
export const engineFailures = {
  PLAN_PARAMETER_UNKNOWN: {
    summary: "An adapter of the stack touches weights that the engine lacks.",
    remedy: "Take the adapter out of the stack.",
  },
  REFIT_CHECKSUM_MISMATCH: {
    summary: "Weights in the engine differ from what was computed.",
    remedy: "The engine is loaded again. Check the computer's memory if it comes back.",
  },
  REFIT_NEEDS_RECOMPILE: {
    summary: "The engine cannot take a weight of the stack.",
    remedy: "The engine is built again; the UI's own path serves meanwhile.",
  },
  REFIT_NO_ROOM: {
    summary: "The engine does not fit beside those in use.",
    remedy: "Raise --engine-memory, choose a smaller precision, or end other runs.",
  },
  STEP_QUEUE_FULL: { summary: "Too many steps wait for one engine.", remedy: "Try again when others have ended." },
  STEP_RUN_CLOSED: { summary: "The run has ended: released, or unused for ten minutes.", remedy: "Prepare again." },
  ENGINE_GRAPH_EXPORT_FAILED: {
    summary: "No graph of this structure could be made.",
    remedy: "The text has the reason; `refit-sidecar graph export` tries it at once.",
  },
  ENGINE_GRAPH_MISSING: {
    summary: "No graph of this structure is shipped, and nothing here can make one.",
    remedy: "Run `refit-sidecar host install torch`, or pass --python.",
  },
  ENGINE_GRAPH_VERSION: { summary: "The graph is of another format.", remedy: "Export it again." },
  ENGINE_HOST: {
    summary: "This family is served by another host than the one that was chosen.",
    remedy: "Leave the host to `auto`, or install the torch host.",
  },
  ENGINE_PRECISION: {
    summary: "The engine is not made in this precision, or not with ControlNet inputs.",
    remedy: "Choose what the text offers.",
  },
  ENGINE_SHAPES: { summary: "Checkpoint and graph differ in the shape of a weight.", remedy: "Export the graph again." },
  JOB_CANCELLED: { summary: "The job was cancelled.", remedy: "None; start it again when you want it." },
  JOB_CLOSED: { summary: "No more jobs are taken: the sidecar is ending.", remedy: "Try again when it is back." },
  JOB_FAILED: { summary: "A background job failed.", remedy: "The sidecar's log has the reason." },
  LIVE_CHECKPOINT: {
    summary: "The live folder has no checkpoint, or several to choose from.",
    remedy: "Add one, or name it with --live-checkpoint.",
  },
  LIVE_FAILED: { summary: "The live folder could not be applied.", remedy: "The text has the reason. The engine keeps its last stack." },
  LIVE_REFUSED: {
    summary: "A file of the live folder cannot be used and is left out.",
    remedy: "See the file's problem; rename it if its strength cannot be read.",
  },
  LIVE_WAITS: { summary: "The live folder waits for files or an engine.", remedy: "None; it goes on by itself." },
} as const satisfies FailureRows;

/** The sidecar's end of an engine host. */
export const hostProcessFailures = {
  HOST_CLOSED: { summary: "The sidecar is ending and starts no engine host any more.", remedy: "Try again when it is back." },
  HOST_GARBAGE: {
    summary: "The engine host wrote something that is not the protocol.",
    remedy: "Install sidecar and host of the same version.",
  },
  HOST_LOST: {
    summary: "The engine host ended.",
    remedy: "It is restarted with the same weights. See its last log line if it comes back.",
  },
  HOST_GATEWAY: {
    summary: "The gateway to the Ray cluster has ended, or refused a call.",
    remedy: "It is started again by itself. The text has its last line.",
  },
  HOST_NOT_CONFIGURED: {
    summary: "This engine host is not installed here.",
    remedy: "Run `refit-sidecar host install`; `refit-sidecar doctor` tells what fits.",
  },
  HOST_RAY_MISSING: {
    summary: "The Python of the gateway has no Ray.",
    remedy: "Install ray there (pip install ray), or name another Python with --python.",
  },
  HOST_RAY_UNREACHABLE: {
    summary: "The Ray cluster could not be joined.",
    remedy: "Check --ray-address; `ray status` on this computer shows whether the cluster answers.",
  },
  HOST_START_FAILED: {
    summary: "The engine host could not be started, or keeps ending.",
    remedy: "The text has its last line. `refit-sidecar selftest` checks it.",
  },
  HOST_TIMEOUT: {
    summary: "The engine host did not answer in time and was ended.",
    remedy: "It is restarted. Report it with the log if it comes back.",
  },
} as const satisfies FailureRows;
