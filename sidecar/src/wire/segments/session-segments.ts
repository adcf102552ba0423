// The two segments of one session, and the checks of every range that a client names in them.

import { createHash } from "node:crypto";
import { basename } from "node:path";
import { alignTo64, type FrameTensor, type TensorDescriptor } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { PlacedTensor } from "../../host/types.ts";
import { createSegment, type SegmentFile } from "./segment-file.ts";

export const requestIndex = 0;
export const replyIndex = 1;

export interface SegmentRange {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: number;
  /** Of a device segment: what its host writes into the bell once the outputs are there. */
  readonly bell?: number;
}

export interface SessionSegments {
  readonly files: { readonly request: SegmentFile; readonly reply: SegmentFile };
  /** On once the client has proved that it sees the same files. */
  readonly confirm: (proof: string) => boolean;
  readonly confirmed: () => boolean;
  /** Copies a described tensor out of the request segment. */
  readonly read: (descriptor: TensorDescriptor) => Promise<FrameTensor>;
  /** The same tensor left in the request segment, for an engine host that reads it there. */
  readonly place: (descriptor: TensorDescriptor) => PlacedTensor;
  /** Copies tensors into the client's range, each on a multiple of 64; null when they do not fit, or the memory file system is full. */
  readonly write: (tensors: readonly FrameTensor[], range: SegmentRange) => Promise<readonly TensorDescriptor[] | null>;
  readonly remove: () => Promise<void>;
}

export function segmentProof(request: Uint8Array, reply: Uint8Array): string {
  return createHash("sha256").update(request).update(reply).digest("hex");
}

function refused(expected: string): Failure {
  return new Failure("WIRE_SEGMENT_REFUSED", `expected ${expected}`);
}

export async function createSessionSegments(
  folder: string,
  sizes: { readonly requestBytes: number; readonly replyBytes: number },
): Promise<SessionSegments> {
  const request = await createSegment(folder, sizes.requestBytes);
  const reply = await createSegment(folder, sizes.replyBytes);
  let on = false;
  const check = ({ offset, bytes, segment }: TensorDescriptor): void => {
    if (!on || segment !== requestIndex) throw refused(`tensors in the confirmed request segment (${requestIndex})`);
    if (offset + bytes > request.bytes) throw refused(`a range inside the ${request.bytes} bytes of the request segment`);
  };
  const read = async ({ name, dtype, shape, offset, bytes }: TensorDescriptor): Promise<FrameTensor> => {
    const data = new Uint8Array(bytes);
    await request.read(data, offset);
    return { name, dtype, shape, data };
  };
  return {
    files: { request, reply },
    confirm(proof) {
      on = proof === segmentProof(request.nonce, reply.nonce);
      return on;
    },
    confirmed: () => on,
    async read(descriptor) {
      check(descriptor);
      return read(descriptor);
    },
    place(descriptor) {
      check(descriptor);
      const { name, dtype, shape, offset, bytes } = descriptor;
      return { name, dtype, shape, offset, bytes, segment: basename(request.path), read: () => read(descriptor) };
    },
    async write(tensors, range) {
      if (!on || range.segment !== replyIndex) throw refused(`a range of the confirmed reply segment (${replyIndex})`);
      if (range.offset % 64 !== 0 || range.offset + range.bytes > reply.bytes)
        throw refused(`a range on a multiple of 64 inside the ${reply.bytes} bytes of the reply segment`);
      if (range.bell !== undefined) throw refused("a bell with a device segment alone");
      let end = range.offset;
      const descriptors = tensors.map(({ name, dtype, shape, data }) => {
        const offset = alignTo64(end);
        end = offset + data.byteLength;
        return { name, dtype, shape, offset, bytes: data.byteLength, segment: replyIndex };
      });
      if (end > range.offset + range.bytes) return null;
      try {
        for (const [index, { offset }] of descriptors.entries()) {
          const data = tensors[index]?.data;
          if (data) await reply.write(data, offset);
        }
      } catch (error) {
        // The frame is the way that always works.
        if (error instanceof Failure && error.code === "WIRE_SEGMENT_FAILED") return null;
        throw error;
      }
      return descriptors;
    },
    async remove() {
      on = false;
      await request.remove();
      await reply.remove();
    },
  };
}
