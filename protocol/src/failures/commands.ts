// What a command of `refit-sidecar`, its options and its stores answer.
import type { FailureRows } from "./row.ts";

export const commandFailures = {
  CLI_ARGUMENTS: { summary: "An argument is wrong.", remedy: "`refit-sidecar COMMAND --help` lists what it takes." },
  CLI_INSPECT_ARGUMENTS: { summary: "An argument of `inspect` is wrong.", remedy: "`refit-sidecar inspect --help` lists what it takes." },
  CLI_INSTALL_TARGET: { summary: "Not exactly one UI was named.", remedy: "Give one of --comfyui DIR and --webui DIR." },
  CLI_INTERRUPTED: { summary: "The command was interrupted.", remedy: "Nothing was kept. Run it again." },
  CLI_MERGE_ARGUMENTS: {
    summary: "An argument of `merge` is wrong.",
    remedy: "A strength is written behind a colon: lora.safetensors:0.8.",
  },
  CLI_MERGE_JOB: { summary: "A line of --jobs is not one JSON object.", remedy: "Write one object a line." },
  CLI_OUTPUT_LOST: {
    summary: "What the command printed could not be stored.",
    remedy: "The disk is full or cannot be written. Free space.",
  },
  CLI_STATE_FILE: { summary: "The file is no state that `state export` wrote.", remedy: "Export the state again." },
  CLI_STATE_MISSING: {
    summary: "A file of the state is in no watched folder.",
    remedy: "Put it there, or add its folder, and import again.",
  },
  CLI_STOP_LATE: { summary: "The sidecar did not end in time.", remedy: "End the process that the text names." },
  CLI_STOP_NO_ANSWER: {
    summary: "Nothing answers at the address in sidecar.json.",
    remedy: "End the process if it is a sidecar that hangs; else remove sidecar.json.",
  },
  CLI_STOP_REFUSED: {
    summary: "The sidecar is of a version that does not end when asked.",
    remedy: "End the process that the text names.",
  },
  CLI_STORE_ENTRY: { summary: "No engine, or several, start with these letters.", remedy: "`refit-sidecar cache ls` lists them." },
  CLI_UPDATE_DATA: {
    summary: "The data folder could not be changed.",
    remedy: "See to its permissions and run `refit-sidecar update --stores`.",
  },
  CLI_UPDATE_FAILED: { summary: "npm or pip did not succeed.", remedy: "Their messages stand above. Run the command again." },
  CLI_UPDATE_FILE: { summary: "The file is no package for this kind of installation.", remedy: "Give the file that the text names." },
  CLI_UPDATE_PYTHON: {
    summary: "The Python whose pip installed this package was not found.",
    remedy: "Run `PYTHON -m pip install --upgrade refit-sidecar` with it.",
  },
  CLI_UPDATE_RUNNING: {
    summary: "A sidecar runs on this data folder.",
    remedy: "Close the UIs, run `refit-sidecar stop`, then the update.",
  },
  OPTIONS_CONFLICT: { summary: "Two options exclude each other, or one of a pair is missing.", remedy: "Correct what the text names." },
  OPTIONS_FILE: { summary: "The configuration file cannot be read or is not TOML.", remedy: "Correct the line that the text names." },
  OPTIONS_INVALID: {
    summary: "An option has a value that it cannot take.",
    remedy: "The text has the range; so has the page on configuration.",
  },
  OPTIONS_UNKNOWN: { summary: "There is no such option.", remedy: "`refit-sidecar serve --help` lists them." },
  INTERNAL: {
    summary: "The program failed in a way that nobody expected.",
    remedy: "It is a fault of Refit Sidecar. Report it with the line and what you did.",
  },
} as const satisfies FailureRows;

export const toolFailures = {
  BAKE_DTYPE: {
    summary: "A weight is stored as whole numbers, so nothing can be merged into it.",
    remedy: "Give a checkpoint in a floating-point or known quantised format.",
  },
  BAKE_FAMILY_UNKNOWN: { summary: "The checkpoint's family is not known.", remedy: "Pass --family if you know better." },
  GRAPH_EXPORT_BROKEN: { summary: "Making the graph failed.", remedy: "`refit-sidecar graph export` shows where." },
  GRAPH_HEADER_UNREADABLE: { summary: "The checkpoint's header cannot be read.", remedy: "Download the checkpoint again." },
  GRAPH_OUTPUT_REFUSED: { summary: "The output's place holds something that is no graph.", remedy: "Choose another --out." },
  GRAPH_PACKAGE_MISSING: {
    summary: "The Python lacks torch, diffusers or onnx.",
    remedy: "Install them into it, or name another one with --python.",
  },
  GRAPH_STRUCTURE_UNSUPPORTED: { summary: "No exporter makes a graph of this structure.", remedy: "Use the torch host, which needs none." },
  STORE_DAMAGED: {
    summary: "An engine in the store is damaged.",
    remedy: "It is built again when it is needed; `refit-sidecar cache rm` removes it.",
  },
  STORE_FILES: { summary: "An engine's files have names that cannot be stored.", remedy: "Report it; nothing was stored." },
  STORE_MISSING: { summary: "The store has no such engine.", remedy: "`refit-sidecar cache ls` lists them." },
  STORE_READ_ONLY: {
    summary: "The store may only be read.",
    remedy: "Name another one with --engine-store, or leave --engine-store-write on.",
  },
  STORE_UNREADABLE: { summary: "The store cannot be read.", remedy: "Check the folder's permissions and its disk." },
  STORE_WRITE: {
    summary: "The engine could not be kept.",
    remedy: "It works now and is built again next time. Free space in the data folder.",
  },
  BUNDLE_DAMAGED: { summary: "The bundle is cut short, changed, or no bundle.", remedy: "Copy it again." },
  BUNDLE_KEY: { summary: "The key is no Ed25519 key in PEM.", remedy: "Make one with `refit-sidecar engine keygen`." },
  BUNDLE_UNFIT: { summary: "The engine was made for another host, library, card or driver.", remedy: "Build it here." },
  BUNDLE_UNTRUSTED: {
    summary: "No key that you named has signed the bundle.",
    remedy: "Pass --trust with the maker's public key if you know the maker. An engine file can run code.",
  },
  BUNDLE_VERSION: { summary: "The bundle is of another major version.", remedy: "Export it again with this version." },
  DEMO_ASSETS: { summary: "The demo's model is not whole.", remedy: "Install the package again, or restore sidecar/demo." },
  DEMO_SIDECAR: { summary: "The demo's sidecar did not start.", remedy: "Its messages stand above." },
  DEMO_TIMEOUT: {
    summary: "The demo's engine did not take the adapters within a minute.",
    remedy: "The text has the problem; try on a quiet computer.",
  },
} as const satisfies FailureRows;

export const installFailures = {
  INSTALL_BUSY: {
    summary: "Another installation is at work in this data folder.",
    remedy: "Wait for it, or end it and run the command again.",
  },
  INSTALL_COMMAND_FAILED: {
    summary: "A program that the installation needs could not be started, or failed.",
    remedy: "Run the command that the text shows by hand.",
  },
  INSTALL_DISK_REFUSED: {
    summary: "The UI's plugins folder could not be changed.",
    remedy: "Close the UI, see to the folder's permissions, and run the command again.",
  },
  INSTALL_HOST_ABSENT: { summary: "This host is not installed.", remedy: "`refit-sidecar host ls` lists those that are." },
  INSTALL_HOST_DAMAGED: {
    summary: "The record of an installed host is damaged or of another version.",
    remedy: "Run `refit-sidecar host install` again.",
  },
  INSTALL_HOST_NEEDED: {
    summary: "The tensorrt host stands on the packages of the torch host.",
    remedy: "Remove the tensorrt host first.",
  },
  INSTALL_INTERRUPTED: {
    summary: "The installation was interrupted.",
    remedy: "What serves was not touched. The same command goes on from there.",
  },
  SELFTEST_UI: {
    summary: "The check of a web UI did not run in that UI's Python.",
    remedy: "Name the Python that starts the UI with --python; it has to have the UI's packages.",
  },
  INSTALL_NOT_THERE: { summary: "The plugin is not installed in this UI.", remedy: "None; nothing was changed." },
  INSTALL_NO_PIP: { summary: "The Python has no pip, or too old a one.", remedy: "Name a Python with pip (--python)." },
  INSTALL_NO_PYTHON: {
    summary: "No Python that can be used was found.",
    remedy: "Install Python 3.10 or newer, or name one with --python.",
  },
  INSTALL_NO_SPACE: { summary: "The disk has too little room.", remedy: "Free some, or choose another --data-dir." },
  INSTALL_NO_VENV: {
    summary: "The Python cannot make environments (venv, ensurepip).",
    remedy: "Debian and Ubuntu: `apt install python3-venv`. Else name another Python.",
  },
  INSTALL_NO_WHEEL: {
    summary: "The package index has no wheel for this Python and platform.",
    remedy: "Try another --python or --index-url.",
  },
  INSTALL_OFFLINE: {
    summary: "The package index could not be reached.",
    remedy: "Check network and proxy, or use --find-links DIR --no-index.",
  },
  INSTALL_PIP_FAILED: { summary: "pip failed.", remedy: "The text has its words. The same command goes on from there." },
  INSTALL_PLACE_TAKEN: { summary: "Something else lies where the plugin would go.", remedy: "Move it away and run the command again." },
  INSTALL_PLUGIN_MISSING: { summary: "This package has no plugin folder.", remedy: "Install the package again." },
  INSTALL_PROBE_FAILED: {
    summary: "The new host could not load a small model and step.",
    remedy: "An earlier installation keeps serving. The text has the reason.",
  },
  INSTALL_REUSE_NO_TORCH: {
    summary: "The Python that is to be reused has no PyTorch.",
    remedy: "Name the Python that runs the UI, or leave --reuse out.",
  },
  INSTALL_TORCH_TWICE: {
    summary: "pip would install parts of PyTorch beside the reused one.",
    remedy: "Update PyTorch in the UI, or leave --reuse out.",
  },
  INSTALL_UI_OTHER: { summary: "The folder is another UI's.", remedy: "Use the option that the text names." },
  INSTALL_UI_UNKNOWN: { summary: "The folder is not the UI's.", remedy: "Name the folder that holds the files that the text lists." },
  INSTALL_UNSUPPORTED: { summary: "The tensorrt host cannot run on this card or driver.", remedy: "Use the torch host." },
  INSTALL_WHEELS: {
    summary: "There is no build of PyTorch of the kind that was asked for.",
    remedy: "Choose another --wheels, or give --index-url.",
  },
} as const satisfies FailureRows;
