// Files on disk. In: paths and stat results. Out: what a file was at one moment, files that are replaced as a whole, texts that are kept between runs.
// A leaf without the native addon: it must never read what a tensor file holds.

export { replaceFile } from "@refit-sidecar/native/replace-file";
export { keepText, readKept } from "./kept.ts";
export type { Kept } from "./kept.ts";
export { fileStampOf, readStamp, sameContentStamp, sameFile, sameRead, sameStamp, stampOf } from "./stamp.ts";
export type { FileStamp, Stamp } from "./stamp.ts";
