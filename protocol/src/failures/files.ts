// What can be wrong with a file on disk: the safetensors container, a watched folder, the catalog, a checkpoint's stored numbers.
import type { FailureRows } from "./row.ts";

/** The safetensors reader, in every language. */
export const readerFailures = {
  HEADER_TOO_SMALL: { summary: "The file is empty or shorter than a header.", remedy: "Download it again." },
  HEADER_TOO_LARGE: { summary: "The header claims more than 100 MB.", remedy: "Download the file again; a header is never that large." },
  INVALID_HEADER_LENGTH: { summary: "The header is longer than the file.", remedy: "The download was cut short. Download it again." },
  INVALID_HEADER_UTF8: { summary: "The header is not UTF-8 text.", remedy: "Download or export the file again." },
  INVALID_HEADER_START: {
    summary: "The file does not start as a safetensors file does.",
    remedy: "It may be a web page, a pickle under another name, or a download that has not been filled. Get the .safetensors file.",
  },
  INVALID_HEADER_JSON: { summary: "The header is not the JSON that the format asks for.", remedy: "Download or export the file again." },
  DUPLICATE_KEY: { summary: "A name stands twice in the header.", remedy: "Export the file again with another program." },
  INVALID_METADATA: { summary: "The metadata is not a map of texts.", remedy: "Export the file again with another program." },
  TENSOR_INVALID_INFO: { summary: "The entry of a tensor breaks a rule of the format.", remedy: "Download or export the file again." },
  UNKNOWN_DTYPE: {
    summary: "A tensor has a number format that is not known.",
    remedy: "Update Refit Sidecar, or export the file in f32, f16 or bf16.",
  },
  INVALID_OFFSET: { summary: "A tensor lies outside the file, or on top of another one.", remedy: "Download or export the file again." },
  VALIDATION_OVERFLOW: { summary: "The size of a tensor is too large to compute.", remedy: "Download or export the file again." },
  METADATA_INCOMPLETE_BUFFER: {
    summary: "The tensors do not fill the file.",
    remedy: "The download was cut short or something was appended. Download it again.",
  },
  TOO_MANY_TENSORS: {
    summary: "The header lists more than 200,000 tensors.",
    remedy: "No model has that many. Download or export the file again.",
  },
  TRUNCATED: { summary: "The file ended before its header or a tensor did.", remedy: "Wait until it is whole, or download it again." },
  NOT_SAFETENSORS: { summary: "The file is of another format.", remedy: "Convert it to safetensors, or get the .safetensors file." },
  PICKLE_REFUSED: {
    summary: "The file is a pickle (.ckpt, .pt), which can run code when it is read.",
    remedy: "Get the model as .safetensors, or convert it with a program that you trust.",
  },
  FILE_CHANGED: { summary: "The file changed while it was read.", remedy: "Try again when it is no longer written to." },
  UNREADABLE: { summary: "The system does not let the file be read.", remedy: "Check its permissions and the disk." },
  NOT_A_REGULAR_FILE: { summary: "The path is a folder, a device, a pipe or a socket.", remedy: "Name the file itself." },
  TENSOR_NOT_FOUND: { summary: "The file has no tensor of that name.", remedy: "It was replaced, or belongs to another model. Try again." },
} as const satisfies FailureRows;

/** Files in watched folders, before they are catalogued. */
export const arrivalFailures = {
  ARRIVALS_INCOMPLETE: {
    summary: "The file stopped growing before it was whole.",
    remedy: "Download it again. It is taken as soon as it is whole.",
  },
  ARRIVALS_NAME_NOT_UTF8: { summary: "The file's name is not UTF-8.", remedy: "Rename it." },
  ARRIVALS_NOT_A_REGULAR_FILE: {
    summary: "There is something else than a file, or a link to something else.",
    remedy: "Put the file itself into the folder.",
  },
  ARRIVALS_NOT_SAFETENSORS: {
    summary: "The name ends in .safetensors, the content is something else.",
    remedy: "Often it is a web page, a renamed pickle or a Git LFS pointer. Get the real file.",
  },
  ARRIVALS_UNREADABLE: { summary: "The file cannot be read.", remedy: "Check its permissions, or close the program that holds it." },
  ARRIVALS_UNSUPPORTED_FORMAT: {
    summary: "The file is of a format that is not taken: pickle (.ckpt, .pt, .bin) or GGUF.",
    remedy: "Convert it to safetensors.",
  },
} as const satisfies FailureRows;

/** Files that were taken and cannot be used. */
export const catalogFailures = {
  CATALOG_ADAPTER_SHARDED: { summary: "An adapter is spread over several files.", remedy: "Save it as one safetensors file." },
  CATALOG_CLOSING: { summary: "The sidecar is ending.", remedy: "Try again when it is back." },
  CATALOG_ENTRY_UNUSABLE: {
    summary: "The file is of the other kind (adapter or checkpoint), or has a problem of its own.",
    remedy: "Read the problem in the text; `refit-sidecar inspect FILE` tells more.",
  },
  CATALOG_FILE_CHANGED: { summary: "The file was replaced or written to since it was catalogued.", remedy: "Try again in a moment." },
  CATALOG_FILE_CHANGING: { summary: "The file is being written to.", remedy: "It can be used as soon as that has ended." },
  CATALOG_FOLDER: {
    summary: "The folder cannot be watched: it is missing, cannot be read, or is a whole disk or home folder.",
    remedy: "Name a folder of models.",
  },
  CATALOG_FOLDER_LOST: {
    summary: "A watched folder has gone: unmounted, moved, or without permission.",
    remedy: "Bring it back. Its files are taken up again by themselves.",
  },
  CATALOG_INCOMPLETE: {
    summary: "The checkpoint is a part of a model: a shard under another name, or a download that was cut.",
    remedy: "Get the whole file, or all shards under their own names.",
  },
  CATALOG_INDEX_INVALID: { summary: "The table of shards (`….index.json`) is damaged or is no such table.", remedy: "Download it again." },
  CATALOG_MIXED_PIECES: {
    summary: "The pieces of one parameter are stored in different number formats.",
    remedy: "Save the checkpoint in one format.",
  },
  CATALOG_NAME_AMBIGUOUS: { summary: "Several files have this name.", remedy: "Use one of the ids that the text lists." },
  CATALOG_NOT_AN_ADAPTER: {
    summary: "The file holds no adapter that is known.",
    remedy: "Put checkpoints into the checkpoints folder; see what is read in the page on adapters.",
  },
  CATALOG_READER_DIED: {
    summary: "The thread that read the header ended.",
    remedy: "It is read again at the next change or start. Look at the computer's memory if it comes back.",
  },
  CATALOG_SCALE_APART: {
    summary: "A scale lies in another shard than the weight that it scales.",
    remedy: "Download the checkpoint as one file.",
  },
  CATALOG_SHARD_ALONE: { summary: "One shard of several was named.", remedy: "Name the table `….index.json`, or the name of the whole." },
  CATALOG_SHARD_INCOMPLETE: {
    summary: "The table lists tensors that the shards do not have.",
    remedy: "Table and shards are of different downloads. Download all of them again.",
  },
  CATALOG_SHARD_MISSING: { summary: "Shards are missing.", remedy: "Download them into the same folder." },
  CATALOG_SHARD_NAME_REFUSED: { summary: "The table of shards names a file outside its own folder.", remedy: "Do not use this download." },
  CATALOG_SHARD_OVERLAP: { summary: "A tensor is in two shards.", remedy: "Download the checkpoint again." },
  CATALOG_UNKNOWN_ARCHITECTURE: {
    summary: "No model that is known has these tensor names.",
    remedy: "The file may be a text encoder, a VAE or a ControlNet, which stay in the UI. Else update Refit Sidecar.",
  },
  CATALOG_UNREADABLE: { summary: "The file cannot be read.", remedy: "Check its permissions and the disk." },
  CATALOG_UNSUPPORTED_MODEL: { summary: "The file is of a model that no engine here runs.", remedy: "Use it in the UI without an engine." },
  CATALOG_UNSUPPORTED_QUANTISATION: {
    summary: "The checkpoint is quantised in a way that is not read.",
    remedy: "Get it in f16, bf16, fp8 or another format of the page on models.",
  },
  STORAGE_FILE_CHANGED: { summary: "The checkpoint was replaced or changed after it was catalogued.", remedy: "Try again in a moment." },
  STORAGE_INVALID: {
    summary: "The scales or pieces of a quantised weight do not fit it.",
    remedy: "Convert or download the checkpoint again.",
  },
  STORAGE_PARAMETER_UNKNOWN: {
    summary: "The checkpoint lacks a parameter.",
    remedy: "It belongs to another structure. Choose another checkpoint or adapter.",
  },
  STORAGE_SHAPE_MISMATCH: {
    summary: "A parameter of the checkpoint has another shape than expected.",
    remedy: "It belongs to another structure. Choose another checkpoint or adapter.",
  },
} as const satisfies FailureRows;
