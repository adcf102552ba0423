import { SafetensorsError } from "../errors.ts";

const bytesAsText = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");

/** Beginnings of formats that people rename or download by mistake, as Latin-1. */
const formats: readonly (readonly [start: string, what: string])[] = [
  ["GGUF", "a GGUF file; convert it to safetensors"],
  ["version https://git-lfs", "a git-lfs pointer, not the file itself; run `git lfs pull`, or download it again"],
  ["\x1f\x8b", "a gzip archive; unpack it"],
  ["7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"],
  ["Rar!", "a RAR archive; unpack it"],
  ["\x89PNG", "a PNG picture, often a preview saved under the model's name; download the model itself"],
  ["\xff\xd8\xff", "a JPEG picture, often a preview saved under the model's name; download the model itself"],
  ["RIFF", "a WebP picture or a sound, often a preview saved under the model's name; download the model itself"],
  ["\x93NUMPY", "a NumPy array; save it as safetensors"],
  ["\x89HDF", "an HDF5 file (Keras, .h5); convert it to safetensors"],
  ["%PDF", "a PDF document; download the model itself"],
];

/**
 * Says what a file is that failed as safetensors; null when it is nothing we know. Asked only after a failure, because the first two bytes of a
 * pickle (80 02) are also those of a good file whose header has 640 bytes.
 */
export function identifyOther(start: Uint8Array, file: string): SafetensorsError | null {
  const head = bytesAsText(start.subarray(0, 4096));
  if (head.startsWith("PK\x03\x04")) return pickle(file, "a zip archive, as torch.save writes (.pt, .ckpt, .bin)");
  if (start[0] === 0x80 && start[1] !== undefined && start[1] >= 2 && start[1] <= 5) return pickle(file, "a Python pickle");
  const known = formats.find(([beginning]) => head.startsWith(beginning));
  if (known !== undefined) return other(file, known[1]);
  return identifyText(start, file);
}

/** Texts: pages and answers of web services that a download saved under the model's name, and tables. */
function identifyText(start: Uint8Array, file: string): SafetensorsError | null {
  // UTF-16, as some Windows tools save it: every other byte of a plain text is zero.
  const wide = start[0] === 0xff && start[1] === 0xfe;
  const text = (
    wide ? Buffer.from(start.subarray(2, 4096)).toString("utf16le") : bytesAsText(start.subarray(0, 4096)).replace(/^\xef\xbb\xbf/, "")
  ).trimStart();
  const lower = text.toLowerCase();
  if (/^(<!doctype html|<html|<head|<body|<!-- )/.test(lower))
    return other(file, "an HTML page, often an error or login page saved by a download; download it again");
  if (/^<(\?xml|error|!doctype)/.test(lower))
    return other(file, "an XML text, often the error of a web service saved by a download; download it again");
  // A header's length may begin with the byte of a bracket; its upper half is zero then, and no text has zeros there.
  const isLength = !wide && start.byteLength >= 8 && start.subarray(4, 8).every((byte) => byte === 0);
  if (/^[{[]/.test(text) && !isLength) {
    if (lower.includes('"weight_map"'))
      return other(file, "the table of a sharded checkpoint (.index.json) as JSON; give it its own name, beside its shards");
    return other(
      file,
      `a JSON text${quoted(text)}, often the error of a web service saved by a download; log in there if it asks for it, and download the file again`,
    );
  }
  if (text.length > 0 && /^[\t\n\r\x20-\x7e]+$/.test(text))
    return other(file, `a text${quoted(text)}, often the error of a web service saved by a download; download it again`);
  return null;
}

/** The first words, which often say what went wrong. */
function quoted(text: string): string {
  const line = text
    .replaceAll(/\s+/g, " ")
    .slice(0, 80)
    .replaceAll(/[^\x20-\x7e]/g, "?");
  return ` (${line}${text.length > line.length ? "…" : ""})`;
}

function pickle(file: string, what: string): SafetensorsError {
  return new SafetensorsError(
    "PICKLE_REFUSED",
    file,
    `expected safetensors, found ${what}; pickles can run code and are not read: convert it to safetensors`,
  );
}

function other(file: string, what: string): SafetensorsError {
  return new SafetensorsError("NOT_SAFETENSORS", file, `expected safetensors, found ${what}`);
}
