// How a call's tensors travel: through the pipe, or by the place where they lie in a segment.

import type { FrameTensor, TensorDescriptor } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import type { PlacedTensor, SharedTensor, StepTensor } from "./types.ts";

export interface Sent {
  readonly inFrame: readonly FrameTensor[];
  readonly descriptors: readonly TensorDescriptor[];
  /** Files, and names of shared memory, that the descriptors count into. */
  readonly segments: readonly string[];
}

/** What a host reads where it lies, by its own word. */
export interface Reads {
  readonly files: boolean;
  readonly shared: boolean;
}

type InSegment = PlacedTensor | SharedTensor;

/** Whether the host has to be given its bytes. */
const isFetched = (tensor: StepTensor, reads: Reads): tensor is PlacedTensor => "segment" in tensor && tensor.read !== null && !reads.files;
const inFrame = (tensor: StepTensor): tensor is FrameTensor => !("segment" in tensor);

function refuseForeign(tensors: readonly StepTensor[], reads: Reads): void {
  if (!reads.shared && tensors.some((tensor) => "segment" in tensor && tensor.read === null))
    throw new Failure("HOST_SEGMENT_STALE", "this engine host shares no memory of its device; send the tensors in another way", {});
}

function byPlace(tensors: readonly StepTensor[]): Sent {
  const placed = tensors.filter((tensor): tensor is InSegment => "segment" in tensor);
  const segments = [...new Set(placed.map(({ segment }) => segment))];
  const descriptors = placed.map(({ name, dtype, shape, offset, bytes, segment }) => ({
    name,
    dtype,
    shape,
    offset,
    bytes,
    segment: segments.indexOf(segment),
  }));
  return { inFrame: tensors.filter(inFrame), descriptors, segments };
}

/** At once where nothing has to be read: calls go out in the order in which they were made. Throws HOST_SEGMENT_STALE. */
export function carried(tensors: readonly StepTensor[], reads: Reads): Sent | Promise<Sent> {
  refuseForeign(tensors, reads);
  if (!tensors.some((tensor) => isFetched(tensor, reads))) return byPlace(tensors);
  return Promise.all(tensors.map(async (tensor) => (isFetched(tensor, reads) ? tensor.read() : tensor))).then(byPlace);
}
