// A whole loop of a session: its tensors come with the call or by the keys of what was put before, its latents go back like a step's.

import { wireMethods } from "@refit-sidecar/protocol";
import { bind, type Bound } from "./method-table.ts";
import type { Shared } from "./parts.ts";
import type { LiveState } from "./state.ts";
import { answered, keptTensors } from "./tensors.ts";

export function sampleMethod(state: LiveState, shared: Shared): Bound {
  return bind(wireMethods["engine.sample"], (params, input) =>
    answered(state, input, params.reply, async () => {
      const kept = keptTensors(state, shared, params.use, input, "SAMPLE_INVALID");
      const { result, latents } = await shared.backend.sample({ params, tensors: [...input.tensors, ...kept] }, input.context);
      return { result, outputs: [latents] };
    }),
  );
}
