// How long a safetensors file says it is, from its header's text alone. Pure. The catalog checks headers by every rule later; here only the length counts.
// Layout: u64 LE header length N, N bytes of JSON, data; each tensor's `data_offsets` is [begin, end) relative to the data (safetensors README, "Format").

/** Longest header that the safetensors library accepts. Anything above can never become one. */
export const maxHeaderBytes = 100_000_000;

export type Prefix =
  | { readonly state: "header"; readonly headerBytes: number }
  /** Fewer than 8 bytes, or zeros where a writer has yet to put the length. */
  | { readonly state: "pending" }
  | { readonly state: "foreign" };

export function readPrefix(bytes: Uint8Array): Prefix {
  if (bytes.length < 8) return { state: "pending" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const high = view.getUint32(4, true);
  const low = view.getUint32(0, true);
  if (high === 0 && low === 0) return { state: "pending" };
  if (high !== 0 || low > maxHeaderBytes || low < 2) return { state: "foreign" };
  return { state: "header", headerBytes: low };
}

/** `"data_offsets"` inside a string value would show as `data_offsets\"`, so it cannot match. */
const offsetsPattern = /"data_offsets"\s*:\s*\[\s*\d+\s*,\s*(\d+)\s*\]/g;

/** Longest match: name, white space and two 20-digit numbers; generous, because writers may pad. */
const overlap = 256;

/** Follows a header piece by piece (so that a 100 MB header needs no 100 MB), and gives the end of its last tensor. */
export function createLengthReader(): {
  readonly push: (piece: Uint8Array) => void;
  readonly dataBytes: () => number;
  readonly complete: () => boolean;
} {
  let carry = "";
  let furthest = 0;
  let opened: boolean | null = null;
  let lastByte = 0;
  let zeros = false;
  return {
    push(piece) {
      if (piece.length === 0) return;
      const buffer = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      opened ??= buffer[0] === 0x7b;
      zeros ||= buffer.includes(0);
      for (let index = buffer.length - 1; index >= 0; index -= 1) {
        const byte = buffer[index];
        if (byte === 0x20) continue;
        lastByte = byte ?? 0;
        break;
      }
      const text = carry + buffer.toString("latin1");
      for (const match of text.matchAll(offsetsPattern)) furthest = Math.max(furthest, Number(match[1]));
      carry = text.slice(-overlap);
    },
    dataBytes: () => furthest,
    /** Starts as an object, ends as one, and no zeros in between: nothing of it is still to be written. */
    complete: () => opened === true && lastByte === 0x7d && !zeros,
  };
}
