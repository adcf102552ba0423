// folders: what is watched. The only place where a client names a path, and only with the control token.

import { z } from "zod";
import { method } from "./method.ts";
import { count, empty, id, nothing, problem } from "./values.ts";

export const folder = z.object({
  id,
  kind: z.enum(["adapters", "checkpoints"]),
  /** The last part of its path. */
  label: z.string(),
  entries: count,
  problem: problem.nullable(),
});

export const folderMethods = {
  "folders.list": method({
    summary: "Watched folders, without their paths.",
    role: "read",
    tensors: "none",
    params: empty,
    result: z.object({ folders: z.array(folder) }),
  }),
  "folders.add": method({
    summary: "Watches a folder. A folder that is watched already keeps its id.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ path: z.string().min(1).max(32_767), kind: z.enum(["adapters", "checkpoints"]) }),
    result: z.object({ folder }),
  }),
  "folders.remove": method({
    summary: "Stops watching a folder. Engines that use its files go on.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ folder: id }),
    result: nothing,
  }),
  "watch.pause": method({
    summary: "Ignores changes in the folders until resumed.",
    role: "control",
    tensors: "none",
    params: empty,
    result: z.object({ paused: z.boolean() }),
  }),
  "watch.resume": method({
    summary: "Looks at the folders again and catches up.",
    role: "control",
    tensors: "none",
    params: empty,
    result: z.object({ paused: z.boolean() }),
  }),
} as const;
