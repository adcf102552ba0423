// The whole method table of a session. Adding a method to the protocol without serving it here does not compile.

import { wireMethods, type DeepReadonly, type Method, type WireMethod } from "@refit-sidecar/protocol";
import type { z } from "zod";
import type { CallContext } from "../backend.ts";
import { greetingMethods } from "./greeting.ts";
import { bind, type Bound } from "./method-table.ts";
import type { Shared } from "./parts.ts";
import { topicOf, type LiveState } from "./state.ts";
import { sampleMethod } from "./sampling.ts";
import { steppingMethods } from "./stepping.ts";

/** A method that the backend serves as it is. */
function forward<Params extends z.ZodType, Result extends z.ZodType>(
  method: Method<Params, Result>,
  serve: (params: z.output<Params>, context: CallContext) => Promise<DeepReadonly<z.input<Result>>>,
): Bound {
  return bind(method, async (params, { context }) => ({ result: await serve(params, context) }));
}

export function sessionMethods(state: LiveState, shared: Shared): Readonly<Record<WireMethod, Bound>> {
  const { backend } = shared;
  return {
    ...greetingMethods(state, shared),
    ...steppingMethods(state, shared),
    "engine.sample": sampleMethod(state, shared),
    cancel: bind(wireMethods.cancel, async ({ request }) => ({ result: { cancelled: state.calls().cancel(request) } })),
    ping: bind(wireMethods.ping, async () => ({ result: {} })),
    status: bind(wireMethods.status, async () => ({
      result: { ...(await backend.status()), clients: shared.clients(), deviceSegments: shared.deviceMemory.total() },
    })),
    "adapter.push": bind(wireMethods["adapter.push"], async ({ push, name, last }, { tensors }) => ({
      result: { adapter: await shared.pushes.push(state.id, { push, name: name ?? "pushed", last, tensors }) },
    })),
    "events.subscribe": bind(wireMethods["events.subscribe"], async ({ topics }) => {
      state.subscribe(topics);
      return { result: {} };
    }),
    "events.history": bind(wireMethods["events.history"], async ({ topics, limit = 500 }) => {
      const wanted = new Set<string>(topics);
      return {
        result: {
          events: backend
            .history()
            .filter(({ event }) => wanted.has(topicOf(event.type)))
            .slice(-limit),
        },
      };
    }),
    "memory.freed": bind(wireMethods["memory.freed"], async ({ request, bytes }) => {
      state.roomMade(request, bytes);
      return { result: {} };
    }),
    "catalog.list": forward(wireMethods["catalog.list"], backend["catalog.list"]),
    "catalog.get": forward(wireMethods["catalog.get"], backend["catalog.get"]),
    "adapter.find": forward(wireMethods["adapter.find"], backend["adapter.find"]),
    "folders.list": forward(wireMethods["folders.list"], backend["folders.list"]),
    "folders.add": forward(wireMethods["folders.add"], backend["folders.add"]),
    "folders.remove": forward(wireMethods["folders.remove"], backend["folders.remove"]),
    "watch.pause": forward(wireMethods["watch.pause"], backend["watch.pause"]),
    "watch.resume": forward(wireMethods["watch.resume"], backend["watch.resume"]),
    "engine.ahead": forward(wireMethods["engine.ahead"], backend["engine.ahead"]),
    "engine.warm": forward(wireMethods["engine.warm"], backend["engine.warm"]),
    "engine.list": forward(wireMethods["engine.list"], backend["engine.list"]),
    "engine.refit": forward(wireMethods["engine.refit"], backend["engine.refit"]),
    "engine.rebuild": forward(wireMethods["engine.rebuild"], backend["engine.rebuild"]),
    "engine.free": forward(wireMethods["engine.free"], backend["engine.free"]),
    "device.restart": forward(wireMethods["device.restart"], backend["device.restart"]),
    "catalog.notes": forward(wireMethods["catalog.notes"], backend["catalog.notes"]),
    "catalog.preview": forward(wireMethods["catalog.preview"], backend["catalog.preview"]),
    "adapter.layers": forward(wireMethods["adapter.layers"], backend["adapter.layers"]),
    "engine.restack": forward(wireMethods["engine.restack"], backend["engine.restack"]),
    "engine.draw": forward(wireMethods["engine.draw"], backend["engine.draw"]),
    "engine.history": forward(wireMethods["engine.history"], backend["engine.history"]),
    "telemetry.figures": forward(wireMethods["telemetry.figures"], backend["telemetry.figures"]),
    "telemetry.log": forward(wireMethods["telemetry.log"], backend["telemetry.log"]),
    "settings.list": forward(wireMethods["settings.list"], backend["settings.list"]),
    "cache.list": forward(wireMethods["cache.list"], backend["cache.list"]),
    "jobs.list": forward(wireMethods["jobs.list"], backend["jobs.list"]),
    "jobs.cancel": forward(wireMethods["jobs.cancel"], backend["jobs.cancel"]),
    "jobs.pause": forward(wireMethods["jobs.pause"], backend["jobs.pause"]),
    "jobs.resume": forward(wireMethods["jobs.resume"], backend["jobs.resume"]),
  };
}
