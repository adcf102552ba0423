// LoRAs into the open workflow: core's own loader nodes, between the model's loader and what it feeds.

import { createNode, type Graph, type GraphNode, type Graphs } from "./frontend.ts";
import { allGraphs, feedInstead, linksOf, nodesOf, widgetOf } from "./graphs.ts";
import { modelLoaders } from "./workflow.ts";

export interface WantedLora {
  /** As the catalog names it, with `/`. */
  readonly name: string;
  readonly strength: number;
}

const loaderNode = "LoraLoaderModelOnly";
const gap = 40;

/** The model's loader: one of an engine before any other. */
function sourceOf(app: Graphs): { readonly graph: Graph; readonly node: GraphNode } | null {
  const found = allGraphs(app).flatMap((graph) => nodesOf(graph).map((node) => ({ graph, node })));
  const isEngine = ({ node }: { readonly node: GraphNode }) => node.comfyClass?.startsWith("RefitLoadEngine") === true;
  return found.find(isEngine) ?? found.find(({ node }) => Object.hasOwn(modelLoaders, node.comfyClass ?? "")) ?? null;
}

interface Box {
  readonly pos: readonly number[];
  readonly size: readonly number[];
}

const x = 0;
const y = 1;
const at = (values: readonly number[], axis: number): number => values[axis] ?? 0;

/** Beside `last`, as far down as it takes to cover no other node. */
function freePlace(nodes: readonly Box[], made: Box, last: Box): number[] {
  const left = at(last.pos, x) + at(last.size, x) + gap;
  let top = at(last.pos, y);
  const across = nodes.filter(({ pos, size }) => at(pos, x) < left + at(made.size, x) && at(pos, x) + at(size, x) > left);
  for (const { pos, size } of across.toSorted((a, b) => at(a.pos, y) - at(b.pos, y))) {
    const below = at(pos, y) + at(size, y) + gap;
    // The title's bar is above the node's place.
    if (at(pos, y) - gap < top + at(made.size, y) && below > top) top = below + gap;
  }
  return [left, top];
}

/** Puts them in a row; what was fed by the loader is fed by the last one. Returns the text that tells how it went. */
export function addLoras(app: Graphs, loras: readonly WantedLora[]): string {
  const source = sourceOf(app);
  if (source === null) return "The workflow has no model loader to put LoRAs behind.";
  const { graph, node } = source;
  const fed = linksOf(graph).filter((link) => link.origin_id === node.id && link.origin_slot === 0);
  let last = node;
  const missing: string[] = [];
  for (const { name, strength } of loras) {
    const made = createNode(loaderNode);
    if (!made) return `This ComfyUI has no node ${loaderNode}.`;
    const choice = widgetOf(made, "lora_name");
    const listed = Array.isArray(choice?.options?.values) ? (choice.options.values as readonly unknown[]) : [];
    const value = listed.find((one) => String(one).replaceAll("\\", "/") === name);
    if (choice === undefined || value === undefined) {
      missing.push(name);
      continue;
    }
    made.pos = freePlace(nodesOf(graph), made, last);
    graph.add(made);
    choice.value = value;
    const amount = widgetOf(made, "strength_model");
    if (amount) amount.value = strength;
    last.connect(0, made, 0);
    last = made;
  }
  if (last !== node) for (const link of fed) feedInstead(graph, link, last, 0);
  graph.setDirtyCanvas?.(true, true);
  const added = loras.length - missing.length;
  const left = missing.length > 0 ? ` ComfyUI does not list ${missing.join(", ")}.` : "";
  return `${added} LoRA${added === 1 ? "" : "s"} added behind the loader.${left}`;
}
