// Leases, conditioning and steps of a session. A lease, like a conditioning key, means something only in the session that got it.

import { wireMethods } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { limits } from "../limits.ts";
import { bind, type Bound } from "./method-table.ts";
import type { Shared } from "./parts.ts";
import type { LiveState } from "./state.ts";
import { answered, keptTensors } from "./tensors.ts";

function checkLease(state: LiveState, lease: string): void {
  if (!state.leases.has(lease)) throw new Failure("WIRE_LEASE_UNKNOWN", "expected a lease of this session; prepare again");
}

export function steppingMethods(
  state: LiveState,
  shared: Shared,
): Readonly<
  Record<
    "engine.prepare" | "engine.release" | "engine.step" | "segments.open" | "segments.close" | "conditioning.put" | "conditioning.drop",
    Bound
  >
> {
  const { backend, conditioning, metrics } = shared;
  return {
    "engine.prepare": bind(wireMethods["engine.prepare"], async (params, { context }) => {
      const result = await backend["engine.prepare"](params, context);
      if (context.signal.aborted || state.ended()) {
        // Nobody will hear of this lease.
        await backend["engine.release"]({ lease: result.lease }, context);
        throw new Failure("WIRE_CANCELLED", "the call was cancelled");
      }
      state.leases.add(result.lease);
      return { result };
    }),
    "engine.release": bind(wireMethods["engine.release"], async (params, { context }) => {
      checkLease(state, params.lease);
      state.leases.delete(params.lease);
      return { result: await backend["engine.release"](params, context) };
    }),
    "engine.step": bind(
      wireMethods["engine.step"],
      async ({ lease, use, reply }, input) => {
        checkLease(state, lease);
        return answered(state, input, reply, async (place) => {
          const startMs = shared.nowMs();
          const inputs = [...input.placed, ...input.tensors, ...keptTensors(state, shared, use, input, "STEP_INPUT_INVALID")];
          const { ms, outputs, placed } = await backend.step(
            { lease, inputs, ...(place === undefined ? {} : { reply: place }) },
            input.context,
          );
          metrics.stepMs.observe(shared.nowMs() - startMs);
          return { result: { ms }, outputs, placed };
        });
      },
      { takesPlaced: true },
    ),
    "segments.open": bind(wireMethods["segments.open"], async (params) => {
      checkLease(state, params.lease);
      if (shared.segmentFolder === null)
        return { result: { segment: null, reason: "the client is not known to run on the sidecar's computer" } };
      if (params.bytes > limits.segmentBytes)
        throw new Failure("WIRE_SEGMENT_REFUSED", `expected at most ${limits.segmentBytes} bytes of a device segment`);
      return { result: await state.deviceSegments.open(() => backend.share(params), params.medium) };
    }),
    "segments.close": bind(wireMethods["segments.close"], async ({ segment }) => {
      await state.deviceSegments.close(segment);
      return { result: {} };
    }),
    "conditioning.put": bind(wireMethods["conditioning.put"], async (_params, { tensors }) => ({
      result: { bytes: conditioning.put(state.id, tensors) },
    })),
    "conditioning.drop": bind(wireMethods["conditioning.drop"], async ({ keys }) => ({
      result: { bytes: conditioning.drop(state.id, keys) },
    })),
  };
}
