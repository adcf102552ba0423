// Tensors of a step or a loop beside those in its frame: kept conditioning that it names by key, and outputs that go into the client's segment.

import type { FrameTensor, TensorDescriptor } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { ReplyPlace } from "../../host/types.ts";
import { isDeviceIndex, type SegmentRange } from "../segments/index.ts";
import { stayAwake } from "./awake.ts";
import type { Kept } from "./conditioning.ts";
import type { CallInput, Reply } from "./method-table.ts";
import type { Shared } from "./parts.ts";
import type { LiveState } from "./state.ts";

/** What the call names by key, under the names that it gives. Throws `twice` for a name that was sent too, and WIRE_CONDITIONING_UNKNOWN. */
export function keptTensors(
  { id }: LiveState,
  { conditioning }: Shared,
  use: Readonly<Record<string, string>> | undefined,
  { tensors, placed }: CallInput,
  twice: "STEP_INPUT_INVALID" | "SAMPLE_INVALID",
): Kept[] {
  const sent = new Set([...tensors, ...placed].map(({ name }) => name));
  return Object.entries(use ?? {}).map(([name, key]) => {
    if (sent.has(name)) throw new Failure(twice, `expected ${name} once, either sent or by key`, {});
    return { ...conditioning.get(id, key), name };
  });
}

interface Served<Result> {
  readonly result: Result;
  readonly outputs: readonly FrameTensor[];
  /** Those that an engine host left in a device segment. */
  readonly placed?: readonly TensorDescriptor[];
}

/** Serves the call and answers its outputs: where the client wants them, while it waits for them there, or else in the frame. */
export async function answered<Result>(
  state: LiveState,
  { call, context }: CallInput,
  reply: SegmentRange | undefined,
  serve: (place: ReplyPlace | undefined) => Promise<Served<Result>>,
): Promise<Reply<Result>> {
  if (reply !== undefined) call.holdAnswer();
  if (reply !== undefined && isDeviceIndex(reply.segment)) {
    const { result, outputs, placed = [] } = await serve(state.deviceSegments.replyPlace(reply));
    stayAwake();
    return { result, tensors: outputs, descriptors: state.deviceSegments.placed(placed, reply) };
  }
  const { result, outputs } = await serve(undefined);
  const descriptors = reply === undefined || context.signal.aborted ? null : ((await state.segments()?.write(outputs, reply)) ?? null);
  return descriptors === null ? { result, tensors: outputs } : { result, descriptors };
}
