// memory: before a load or step that does not fit, the sidecar asks the client whose call needs the room to unload its own models.

import { z } from "zod";
import { method, notificationOf } from "./method.ts";
import { count, nothing } from "./values.ts";

export const memoryMethods = {
  "memory.freed": method({
    summary: "Answers `memory.wanted`: the client has unloaded what it could (bytes, 0 when nothing).",
    role: "control",
    tensors: "none",
    params: z.strictObject({ request: z.union([z.int(), z.string().min(1).max(64)]), bytes: count }),
    result: nothing,
  }),
} as const;

export const memoryNotifications = {
  "memory.wanted": notificationOf(
    "The call needs this much more device memory; free what you can and answer `memory.freed`.",
    z.object({ request: z.union([z.int(), z.string()]), bytes: count }),
  ),
} as const;
