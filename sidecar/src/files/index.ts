// Files on disk. In: paths and stat results. Out: what a file was at one moment, and files that are replaced as a whole. A leaf without the native addon:
// it must never read what a file holds.

export { replaceFile } from "@refit-sidecar/native/replace-file";
export { fileStampOf, readStamp, sameContentStamp, sameFile, sameRead, sameStamp, stampOf } from "./stamp.ts";
export type { FileStamp, Stamp } from "./stamp.ts";
