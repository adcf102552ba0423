// A whole loop of a session: its tensors come with the call or by the keys of what was put before, its latents go back like a step's.

import { wireMethods } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { bind, type Bound } from "./method-table.ts";
import type { Shared } from "./parts.ts";
import type { LiveState } from "./state.ts";

export function sampleMethod(state: LiveState, { backend, conditioning }: Shared): Bound {
  return bind(wireMethods["engine.sample"], async (params, { call, tensors, context }) => {
    const { use = {}, reply } = params;
    if (reply !== undefined) call.holdAnswer();
    const names = new Set(tensors.map(({ name }) => name));
    const kept = Object.entries(use).map(([name, key]) => {
      if (names.has(name)) throw new Failure("SAMPLE_INVALID", `expected ${name} once, either sent or by key`, {});
      return { ...conditioning.get(state.id, key), name };
    });
    const { result, latents } = await backend.sample({ params, tensors: [...tensors, ...kept] }, context);
    const descriptors = reply === undefined || context.signal.aborted ? null : ((await state.segments()?.write([latents], reply)) ?? null);
    return descriptors === null ? { result, tensors: [latents] } : { result, descriptors };
  });
}
