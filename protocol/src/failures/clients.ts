// What arises on a client's side of the wire: clients in TypeScript and Python, pages, a sidecar that cannot open its port.
import type { FailureRows } from "./row.ts";

/** Of the plugin's client too: the Python table is generated from this one. */
export const clientFailures = {
  CLIENT_NOT_RUNNING: {
    summary: "No sidecar is running.",
    remedy: "Start it (refit-sidecar serve), or set REFIT_DATA_DIR to its data folder.",
  },
  CLIENT_CANNOT_START: {
    summary: "The sidecar could not be started.",
    remedy: "The text has the reason; `refit-sidecar doctor` checks the computer.",
  },
  CLIENT_DISCOVERY: { summary: "sidecar.json is damaged.", remedy: "Stop the sidecar, remove the file and start it again." },
  CLIENT_DISCOVERY_UNSAFE: {
    summary: "sidecar.json is not only this user's.",
    remedy: "Remove the file and start the sidecar again as this user.",
  },
  CLIENT_CONNECT_FAILED: { summary: "The sidecar could not be reached.", remedy: "See whether it still runs; it may have been restarted." },
  CLIENT_REFUSED: {
    summary: "The sidecar refused the connection.",
    remedy: "Restart the sidecar; update plugin and sidecar to the same version.",
  },
  CLIENT_CONNECTION_LOST: {
    summary: "The connection to the sidecar was lost before it answered.",
    remedy: "Prepare again; the sidecar may have been restarted.",
  },
  CLIENT_TIMEOUT: { summary: "The sidecar did not answer in time.", remedy: "See the sidecar's log; it may be busy building an engine." },
  CLIENT_INTERRUPTED: { summary: "The call was interrupted here.", remedy: "None." },
  CLIENT_PROTOCOL: {
    summary: "The sidecar sent something that is not the protocol.",
    remedy: "Update plugin and sidecar to the same version.",
  },
  CLIENT_LIBRARY_MISSING: {
    summary: "The Python package websockets (11 or newer) is missing.",
    remedy: "Install the plugin's requirements.txt into the UI's Python.",
  },
  CLIENT_CLOSED: { summary: "The client was closed.", remedy: "Make a new one." },
} as const satisfies FailureRows;

/** Why a run stayed on the UI's own path. Nothing is broken: the picture is made, without an engine. */
export const runFailures = {
  RUN_INSIDE_MODEL: {
    summary:
      "A node or an extension works inside the model (attention patches, IPAdapter, replaced blocks, layers changed during the run).",
    remedy: "Take it out of the workflow, or let this picture run without an engine.",
  },
  RUN_WEIGHTS_CHANGE: {
    summary: "Weights change during the run: a LoRA hook, block weights, a schedule.",
    remedy: "Use a plain LoRA with one strength.",
  },
  RUN_PATCH_UNKNOWN: {
    summary: "A patch on the model is in no LoRA file: a model merge, a block filter, another extension's patch.",
    remedy: "Use LoRA files alone; bake a merge into a checkpoint with `refit-sidecar merge`.",
  },
  RUN_ADAPTER_KIND: {
    summary: "The UI makes something else of this adapter than an engine would, or leaves out a part of it.",
    remedy: "None needed: the picture is the UI's own. Another export of the adapter may be served.",
  },
  RUN_INPUT: {
    summary:
      "The run gives the model an input that the engine does not have, or lacks one that it needs (GLIGEN, T2I adapters, some ControlNets).",
    remedy: "Take the named input out, or let this picture run without an engine.",
  },
  RUN_NO_GPU_ENGINE: { summary: "No engine for the graphics card is installed.", remedy: "Run the command that the text names, once." },
  RUN_SETTING: {
    summary: "A setting of the UI asks for something that an engine does not do.",
    remedy: "Change the setting that the text names.",
  },
  RUN_MODEL_CLASS: { summary: "No engine speaks this class of model.", remedy: "See the table of models; the UI's own path serves it." },
  RUN_FILE: {
    summary: "The MODEL has no file that an engine can read: merged in memory, converted, no safetensors, or of an unknown class.",
    remedy: "Load a .safetensors checkpoint.",
  },
} as const satisfies FailureRows;

/** Of a UI's own server and its page. */
export const pageFailures = {
  PAGE_BODY_INVALID: { summary: "The body is not one small JSON object.", remedy: "Reload the page; it may be older than the plugin." },
  PAGE_BODY_REFUSED: { summary: "Only application/json is read.", remedy: "Send JSON." },
  PAGE_CALL_UNKNOWN: { summary: "Pages have no such call.", remedy: "Reload the page; it may be older than the plugin." },
  PAGE_FILE_UNKNOWN: { summary: "The page has no such file.", remedy: "Reload the page." },
  PAGE_OFFLINE: { summary: "The UI does not answer.", remedy: "See whether it still runs, then reload the page." },
  PAGE_ORIGIN_FORBIDDEN: {
    summary: "The call came from a page of another origin.",
    remedy: "Open the UI under the address that it serves.",
  },
  PAGE_PARAMS_INVALID: { summary: "`params` is not a JSON object.", remedy: "Reload the page; it may be older than the plugin." },
  PAGE_SIGN_IN: { summary: "The UI asks for a name and a password.", remedy: "Sign in to the UI, then reload the page." },
} as const satisfies FailureRows;

/** A sidecar that starts. */
export const startFailures = {
  WIRE_ALREADY_RUNNING: {
    summary: "A sidecar already serves this data folder.",
    remedy: "Use it, end it (`refit-sidecar stop`), or choose another --data-dir.",
  },
  WIRE_DATA_DIR_UNSAFE: { summary: "Others may write to the data folder.", remedy: "`chmod go-w` the folder, or choose another one." },
  WIRE_DISCOVERY_FAILED: {
    summary: "sidecar.json could not be written.",
    remedy: "Free space in the data folder and see to its permissions.",
  },
  WIRE_LISTEN_FAILED: { summary: "The port is taken.", remedy: "Choose another --port or --bind." },
  WIRE_OPTIONS_REMOTE: {
    summary: "An address that is not loopback needs TLS.",
    remedy: "Give --tls-cert and --tls-key, or --behind-proxy.",
  },
  WIRE_OPTIONS_TLS: { summary: "Certificate and key do not both exist, or cannot be read.", remedy: "Give two PEM files." },
} as const satisfies FailureRows;
