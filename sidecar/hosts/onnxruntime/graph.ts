import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { hostFailure } from "./host-failure.ts";
import { refitMapSchema } from "./refit-map.ts";

const port = z.object({ name: z.string(), dtype: z.string(), shape: z.array(z.union([z.string(), z.int().nonnegative()])) });

const bundle = z.object({
  formatVersion: z.literal(1),
  name: z.string(),
  structure: z.string(),
  inputs: z.array(port),
  outputs: z.array(port),
  variants: z.record(z.string(), z.string().regex(/^[^/\\]+$/, "expected a file name inside the bundle's folder")),
  residuals: z.array(z.object({ name: z.string() })).default([]),
  refitMap: refitMapSchema,
});

/** A weightless graph with its table of weights (docs/develop/internals.md, "Graph bundle"). */
export type GraphBundle = z.infer<typeof bundle> & { readonly folder: string };

/** graph.json of an SDXL-sized model is about 400 KB; more than this is not one. */
const maxBytes = 64 * 1024 * 1024;

/** Reads and checks `graph.json`. Throws HOST_GRAPH_INVALID. */
export async function readGraphBundle(folder: string): Promise<GraphBundle> {
  let text: string;
  try {
    text = await readFile(join(folder, "graph.json"), "utf8");
  } catch (cause) {
    throw hostFailure("HOST_GRAPH_INVALID", "expected a graph bundle with a readable graph.json; export the graph again", {}, cause);
  }
  if (text.length > maxBytes)
    throw hostFailure("HOST_GRAPH_INVALID", `expected a graph.json below ${maxBytes} bytes, got ${text.length}; export the graph again`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw hostFailure("HOST_GRAPH_INVALID", "expected graph.json to be JSON; export the graph again", {}, cause);
  }
  const parsed = bundle.safeParse(json);
  if (!parsed.success)
    throw hostFailure("HOST_GRAPH_INVALID", `graph.json does not describe a graph: ${z.prettifyError(parsed.error)}`, {}, parsed.error);
  return { ...parsed.data, folder };
}

/** Path of a variant's model file. Throws HOST_GRAPH_INVALID when the bundle lacks it. */
export function variantPath(graph: GraphBundle, variant: string): string {
  const file = graph.variants[variant];
  if (file === undefined)
    throw hostFailure(
      "HOST_GRAPH_INVALID",
      `expected variant ${variant} in graph ${graph.name}, it has ${Object.keys(graph.variants).join(", ")}`,
      { variant },
    );
  return join(graph.folder, file);
}
