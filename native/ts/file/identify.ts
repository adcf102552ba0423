import { SafetensorsError } from "../errors.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");

/**
 * Says what a file is that failed as safetensors; null when it is nothing we know. Asked only after a failure, because the first two bytes of a
 * pickle (80 02) are also those of a good file whose header has 640 bytes.
 */
export function identifyOther(start: Uint8Array, file: string): SafetensorsError | null {
  const head = text(start.subarray(0, 256));
  const trimmed = head.trimStart().toLowerCase();
  if (head.startsWith("PK\x03\x04")) return pickle(file, "a zip archive, as torch.save writes (.pt, .ckpt, .bin)");
  if (start[0] === 0x80 && start[1] !== undefined && start[1] >= 2 && start[1] <= 5) return pickle(file, "a Python pickle");
  if (head.startsWith("GGUF")) return other(file, "a GGUF file; convert it to safetensors");
  if (head.startsWith("version https://git-lfs")) return other(file, "a git-lfs pointer, not the file itself; run `git lfs pull`, or download it again");
  if (trimmed.startsWith("<!doctype") || trimmed.startsWith("<html")) return other(file, "an HTML page, often an error or login page saved by a download; download it again");
  return null;
}

function pickle(file: string, what: string): SafetensorsError {
  return new SafetensorsError("PICKLE_REFUSED", file, `expected safetensors, found ${what}; pickles can run code and are not read: convert it to safetensors`);
}

function other(file: string, what: string): SafetensorsError {
  return new SafetensorsError("NOT_SAFETENSORS", file, `expected safetensors, found ${what}`);
}
