// A session's device segments: memory of an engine's device that its client and the engine host share. Here are only names and ranges; nobody in this process
// can see the bytes.

import { randomInt } from "node:crypto";
import type { TensorDescriptor, WireParams, WireResult } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { ReplyPlace, SharedMemory, SharedTensor } from "../../host/types.ts";
import type { ShareReply } from "../backend.ts";
import type { SegmentRange } from "./session-segments.ts";

/** Device segments of all sessions: gives out indices, and tells how much there is. */
export interface DeviceMemory {
  readonly nextIndex: () => number;
  /** Bytes by index. */
  readonly held: Map<number, number>;
  readonly total: () => { readonly count: number; readonly bytes: number };
}

export interface DeviceSegments {
  /** Throws WIRE_SEGMENT_REFUSED where the session has enough of them, WIRE_CANCELLED for one that has ended meanwhile, and what `share` throws. */
  readonly open: (share: () => Promise<ShareReply>, medium: WireParams<"segments.open">["medium"]) => Promise<WireResult<"segments.open">>;
  /** On once the client has proved that it sees the same memory. */
  readonly confirm: (index: number, proof: string) => boolean;
  readonly close: (index: number) => Promise<void>;
  /** Throws WIRE_SEGMENT_STALE for an unknown one, WIRE_SEGMENT_REFUSED for a range outside. */
  readonly place: (descriptor: TensorDescriptor) => SharedTensor;
  readonly replyPlace: (range: SegmentRange) => ReplyPlace;
  /** What a host left at `range`, as the client may believe it. Throws HOST_GARBAGE for anything outside of it. */
  readonly placed: (outputs: readonly TensorDescriptor[], range: SegmentRange) => readonly TensorDescriptor[];
  readonly remove: () => Promise<void>;
}

/** A client has one; it opens a larger one before it closes the first. */
const mostOfSession = 4;
/** Below are the segments of hello. A number of an earlier start must not mean another segment in this one. */
const [leastFirst, mostFirst] = [2 ** 16, 2 ** 30];

export const isDeviceIndex = (segment: number | undefined): boolean => segment !== undefined && segment >= leastFirst;

export function createDeviceMemory(): DeviceMemory {
  let last = randomInt(leastFirst, mostFirst);
  const held = new Map<number, number>();
  return {
    nextIndex: () => (last += 1),
    held,
    total: () => ({ count: held.size, bytes: [...held.values()].reduce((sum, bytes) => sum + bytes, 0) }),
  };
}

export function createDeviceSegments({ nextIndex, held }: Pick<DeviceMemory, "nextIndex" | "held">): DeviceSegments {
  const own = new Map<number, { readonly memory: SharedMemory; on: boolean }>();
  let opening = 0;
  let ended = false;

  function find({ segment, offset, bytes }: { readonly segment: number; readonly offset: number; readonly bytes: number }): SharedMemory {
    const found = own.get(segment);
    if (found === undefined)
      throw new Failure("WIRE_SEGMENT_STALE", "expected a device segment of this session; open one, and send these tensors in another way");
    if (!found.on) throw new Failure("WIRE_SEGMENT_REFUSED", "expected a device segment that the client has confirmed");
    if (offset % 64 !== 0 || offset + bytes > found.memory.bytes)
      throw new Failure(
        "WIRE_SEGMENT_REFUSED",
        `expected a range on a multiple of 64 inside the ${found.memory.bytes} bytes of the device segment`,
      );
    return found.memory;
  }

  async function close(index: number): Promise<void> {
    const found = own.get(index);
    own.delete(index);
    held.delete(index);
    await found?.memory.release();
  }

  return {
    async open(share, medium) {
      if (own.size + opening >= mostOfSession)
        throw new Failure("WIRE_SEGMENT_REFUSED", `expected at most ${mostOfSession} device segments in a session; close one`);
      opening += 1;
      const answer = await share().finally(() => (opening -= 1));
      if ("reason" in answer) return { segment: null, reason: answer.reason };
      const { memory } = answer;
      if (ended) {
        await memory.release();
        throw new Failure("WIRE_CANCELLED", "the session has ended");
      }
      const index = nextIndex();
      own.set(index, { memory, on: false });
      held.set(index, memory.bytes);
      return { segment: { index, medium, bytes: memory.bytes, handle: memory.handle, bell: memory.bell ?? null }, reason: null };
    },
    confirm(index, proof) {
      const found = own.get(index);
      if (found === undefined) return false;
      found.on = proof === found.memory.proof;
      return found.on;
    },
    close,
    place({ name, dtype, shape, offset, bytes, segment = -1 }) {
      return { name, dtype, shape, offset, bytes, segment: find({ segment, offset, bytes }).name, read: null };
    },
    replyPlace: (range) => {
      const { offset, bytes, bell } = range;
      return { segment: find(range).name, offset, bytes, ...(bell === undefined ? {} : { bell }) };
    },
    placed: (outputs, range) =>
      outputs.map(({ name, dtype, shape, offset, bytes }) => {
        if (offset < range.offset || offset + bytes > range.offset + range.bytes)
          throw new Failure("HOST_GARBAGE", "the engine host left an output outside of the range that it was given; update the older side");
        return { name, dtype, shape, offset, bytes, segment: range.segment };
      }),
    async remove() {
      ended = true;
      await Promise.all([...own.keys()].map(close));
    },
  };
}
