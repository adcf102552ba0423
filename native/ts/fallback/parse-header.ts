import type { Dtype, SafetensorsErrorCode, TensorEntry } from "../api.ts";
import { dtypeBytes, isDtype } from "../dtypes.ts";
import { SafetensorsError } from "../errors.ts";
import { maxRank, maxTensors } from "../limits.ts";
import { JsonScanner, ScanError } from "./scan-json.ts";

export interface ParsedHeader {
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Checks a whole header: strict UTF-8, strict JSON, every field, and that the tensors tile the data section from 0 to its end without a hole.
 * `header` is the N bytes after the length; `dataBytes` what the file holds after them. Throws SafetensorsError.
 */
export function parseHeader(header: Uint8Array, dataBytes: number, file: string): ParsedHeader {
  if (header[0] !== 0x7b)
    throw new SafetensorsError(
      "INVALID_HEADER_START",
      file,
      "expected a header that starts with '{'; this is not a safetensors file, or it is still being written",
    );
  const parser = new HeaderParser(decode(header, file), file);
  const parsed = parser.parse();
  checkTiling(parsed.entries, dataBytes, file);
  return parsed;
}

function decode(header: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch (cause) {
    throw new SafetensorsError("INVALID_HEADER_UTF8", file, "expected a header in UTF-8, found other bytes; download the file again", {
      cause,
    });
  }
}

class HeaderParser {
  readonly #scanner: JsonScanner;
  readonly #file: string;
  readonly #entries = new Map<string, TensorEntry>();
  #metadata: Readonly<Record<string, string>> | null = null;
  constructor(text: string, file: string) {
    this.#scanner = new JsonScanner(text);
    this.#file = file;
  }

  parse(): ParsedHeader {
    try {
      this.#scanner.object((name) => {
        if (name === "__metadata__") this.#readMetadata();
        else this.#readTensor(name);
      });
      this.#scanner.end();
    } catch (error) {
      if (!(error instanceof ScanError)) throw error;
      throw new SafetensorsError(
        "INVALID_HEADER_JSON",
        this.#file,
        `expected a JSON header, found ${error.message} at character ${error.at}`,
        { cause: error },
      );
    }
    return { entries: this.#entries, metadata: this.#metadata ?? emptyRecord() };
  }

  #fail(code: SafetensorsErrorCode, problem: string, tensor?: string): never {
    throw new SafetensorsError(code, this.#file, problem, tensor === undefined ? {} : { tensor });
  }

  #readMetadata(): void {
    if (this.#metadata !== null) this.#fail("DUPLICATE_KEY", 'the header has the key "__metadata__" twice');
    const metadata = emptyRecord();
    if (this.#scanner.peek() === "n") {
      // The reference reads null as no metadata, and some writers save it.
      this.#scanner.skipValue();
      this.#metadata = metadata;
      return;
    }
    if (this.#scanner.peek() !== "{") this.#fail("INVALID_METADATA", 'expected "__metadata__" to be an object of strings');
    this.#scanner.object((key) => {
      if (Object.hasOwn(metadata, key))
        this.#fail("DUPLICATE_KEY", `"__metadata__" has the key ${JSON.stringify(key.slice(0, 100))} twice`);
      if (this.#scanner.peek() !== '"')
        this.#fail("INVALID_METADATA", `expected the metadata value of ${JSON.stringify(key.slice(0, 100))} to be a string`);
      metadata[key] = this.#scanner.string();
    });
    this.#metadata = metadata;
  }

  #readTensor(name: string): void {
    if (this.#entries.has(name)) this.#fail("DUPLICATE_KEY", "the header names this tensor twice", name);
    if (this.#entries.size >= maxTensors) this.#fail("TOO_MANY_TENSORS", `more than ${maxTensors} tensors; no model file has as many`);
    if (this.#scanner.peek() !== "{") this.#fail("TENSOR_INVALID_INFO", "expected an object with dtype, shape and data_offsets", name);
    let dtype: Dtype | null = null;
    let shape: number[] | null = null;
    let offsets: number[] | null = null;
    const once = (isNew: boolean, field: string): void => {
      if (!isNew) this.#fail("DUPLICATE_KEY", `the field "${field}" comes twice`, name);
    };
    this.#scanner.object((field) => {
      if (field === "dtype") {
        once(dtype === null, field);
        dtype = this.#readDtype(name);
      } else if (field === "shape") {
        once(shape === null, field);
        shape = this.#readIntegers(name, field, maxRank);
      } else if (field === "data_offsets") {
        once(offsets === null, field);
        offsets = this.#readIntegers(name, field, 2);
      } else this.#scanner.skipValue();
    });
    this.#entries.set(name, this.#checkEntry(name, dtype, shape, offsets));
  }

  #readDtype(name: string): Dtype {
    if (this.#scanner.peek() !== '"') this.#fail("TENSOR_INVALID_INFO", "expected dtype to be a string", name);
    const text = this.#scanner.string();
    if (!isDtype(text))
      this.#fail("UNKNOWN_DTYPE", `dtype ${JSON.stringify(text.slice(0, 40))} is none of ${Object.keys(dtypeBytes).join(", ")}`, name);
    return text;
  }

  #readIntegers(name: string, field: string, cap: number): number[] {
    if (this.#scanner.peek() !== "[") this.#fail("TENSOR_INVALID_INFO", `expected ${field} to be an array of integers`, name);
    const values: number[] = [];
    this.#scanner.array(() => {
      if (values.length >= cap) this.#fail("TENSOR_INVALID_INFO", `${field} has more than ${cap} numbers`, name);
      if (!/[0-9]/.test(this.#scanner.peek())) this.#fail("TENSOR_INVALID_INFO", `expected ${field} to hold unsigned integers`, name);
      values.push(this.#scanner.unsigned() ?? this.#fail("VALIDATION_OVERFLOW", `a number in ${field} is above 2^53`, name));
    });
    return values;
  }

  #checkEntry(name: string, dtype: Dtype | null, shape: number[] | null, offsets: number[] | null): TensorEntry {
    if (dtype === null || shape === null || offsets === null)
      this.#fail("TENSOR_INVALID_INFO", "expected the fields dtype, shape and data_offsets", name);
    const [begin, end] = offsets;
    if (begin === undefined || end === undefined) this.#fail("TENSOR_INVALID_INFO", "expected two data_offsets", name);
    if (begin > end) this.#fail("INVALID_OFFSET", `data_offsets [${begin}, ${end}] run backwards`, name);
    let bytes = dtypeBytes[dtype];
    for (const dim of shape) {
      bytes *= dim;
      if (bytes > Number.MAX_SAFE_INTEGER) this.#fail("VALIDATION_OVERFLOW", `the shape [${shape.join(", ")}] overflows`, name);
    }
    if (!Number.isInteger(bytes)) this.#fail("TENSOR_INVALID_INFO", `${dtype} [${shape.join(", ")}] does not end with a whole byte`, name);
    if (bytes !== end - begin)
      this.#fail("TENSOR_INVALID_INFO", `${dtype} [${shape.join(", ")}] needs ${bytes} bytes, data_offsets give ${end - begin}`, name);
    return { name, dtype, shape, begin, end };
  }
}

/** No prototype, so a key such as `__proto__` is a key. */
function emptyRecord(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}

/** Sorted by offset the tensors must tile the data section: no hole, no overlap, nothing after the last. */
function checkTiling(entries: ReadonlyMap<string, TensorEntry>, dataBytes: number, file: string): void {
  const sorted = [...entries.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let expected = 0;
  for (const { name, begin, end } of sorted) {
    if (begin !== expected)
      throw new SafetensorsError(
        "INVALID_OFFSET",
        file,
        `expected its data to begin at ${expected}, where the one before ends; it begins at ${begin}`,
        { tensor: name },
      );
    expected = end;
  }
  if (expected === dataBytes) return;
  const problem =
    expected > dataBytes
      ? `the header promises ${expected} bytes of tensors, the file holds ${dataBytes}; it is cut short or still being written`
      : `the header covers ${expected} bytes of tensors, the file holds ${dataBytes}; the rest belongs to nothing`;
  throw new SafetensorsError("METADATA_INCOMPLETE_BUFFER", file, problem);
}
