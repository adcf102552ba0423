// Many streams over one pipe: each piece has the number of its channel and its length in front (gatewayPrefixBytes).

import { gatewayPrefixBytes } from "@refit-sidecar/protocol";

/** Parts to write in order; what belongs to the channel is not copied. */
export function onChannel(channel: number, parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const head = new Uint8Array(gatewayPrefixBytes);
  const view = new DataView(head.buffer);
  view.setUint32(0, channel, true);
  view.setBigUint64(4, BigInt(parts.reduce((sum, part) => sum + part.byteLength, 0)), true);
  return [head, ...parts];
}

/** Hands on the bytes of each channel as they come; a piece need not be whole for that. */
export class ChannelReader {
  readonly #take: (channel: number, bytes: Uint8Array, isLast: boolean) => void;
  readonly #head = new Uint8Array(gatewayPrefixBytes);
  #inHead = 0;
  #channel = 0;
  #left = 0;

  /** `isLast`: the piece ends with these bytes. */
  constructor(take: (channel: number, bytes: Uint8Array, isLast: boolean) => void) {
    this.#take = take;
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.byteLength;) {
      if (this.#left > 0) {
        const bytes = chunk.subarray(at, at + this.#left);
        at += bytes.byteLength;
        this.#left -= bytes.byteLength;
        this.#take(this.#channel, bytes, this.#left === 0);
        continue;
      }
      const part = chunk.subarray(at, at + gatewayPrefixBytes - this.#inHead);
      this.#head.set(part, this.#inHead);
      at += part.byteLength;
      this.#inHead += part.byteLength;
      if (this.#inHead < gatewayPrefixBytes) return;
      const view = new DataView(this.#head.buffer);
      this.#inHead = 0;
      this.#channel = view.getUint32(0, true);
      this.#left = Number(view.getBigUint64(4, true));
    }
  }
}
