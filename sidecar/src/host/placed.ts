// How a call's tensors travel: through the pipe, or by the place where they lie in a segment.

import type { FrameTensor, TensorDescriptor } from "@refit-sidecar/protocol";
import type { PlacedTensor, StepTensor } from "./types.ts";

export interface Sent {
  readonly inFrame: readonly FrameTensor[];
  readonly descriptors: readonly TensorDescriptor[];
  /** Files that the descriptors count into. */
  readonly segments: readonly string[];
}

const isPlaced = (tensor: StepTensor): tensor is PlacedTensor => "segment" in tensor;
const inFrame = (tensor: StepTensor): tensor is FrameTensor => !isPlaced(tensor);

/** For a host that reads segments itself. */
export function byPlace(tensors: readonly StepTensor[]): Sent {
  const placed = tensors.filter(isPlaced);
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

/** For any other host. Null when there is something to read first. */
export function allInFrame(tensors: readonly StepTensor[]): readonly FrameTensor[] | null {
  return tensors.every(inFrame) ? tensors : null;
}

export function readPlaced(tensors: readonly StepTensor[]): Promise<readonly FrameTensor[]> {
  return Promise.all(tensors.map(async (tensor) => (isPlaced(tensor) ? tensor.read() : tensor)));
}
