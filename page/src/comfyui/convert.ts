// "Use engines in this workflow": every Load Checkpoint and Load Diffusion Model becomes Load Engine in the same place, with the same links, in subgraphs
// too. What a loader was (bypassed, muted, coloured, collapsed, titled) it stays.

import { plural } from "../state/rows.ts";
import { createNode, type Graph, type GraphNode, type Graphs } from "./frontend.ts";
import { allGraphs, feedInstead, linksOf, nodesOf, widgetOf } from "./graphs.ts";
import { modelLoaders } from "./workflow.ts";

const target = "RefitLoadEngine";

export function putOnEngines(app: Graphs): string {
  let replaced = 0;
  const left = new Set<string>();
  const graphs = allGraphs(app);
  for (const graph of graphs) {
    for (const node of [...nodesOf(graph)]) {
      const nameWidget = modelLoaders[node.comfyClass ?? ""];
      if (nameWidget === undefined) continue;
      const reason = replace(graph, node, nameWidget);
      if (reason === null) replaced += 1;
      else left.add(reason);
    }
    graph.setDirtyCanvas?.(true, true);
  }
  const parts = [];
  if (replaced > 0) parts.push(`${plural(replaced, "loader")} replaced. LoRA loaders and samplers stay as they are.`);
  if (left.size > 0) parts.push(`Left as they are: ${[...left].join("; ")}.`);
  if (parts.length > 0) return parts.join(" ");
  if (graphs.some((graph) => nodesOf(graph).some((node) => node.comfyClass?.startsWith("RefitLoad"))))
    return "The workflow is on engines already.";
  return "The workflow has no Load Checkpoint and no Load Diffusion Model. For other loaders, put Accelerate Model behind the MODEL.";
}

/** Null when done, else why the loader stays. */
function replace(graph: Graph, node: GraphNode, nameWidget: string): string | null {
  const name = widgetOf(node, nameWidget);
  const kind = widgetOf(node, "weight_dtype")?.value;
  if (kind !== undefined && kind !== "default") return `a loader with the weight type ${kind}`;
  const fresh = createNode(target);
  if (!fresh) return "the nodes of Refit Sidecar are not loaded";
  const choice = widgetOf(fresh, "ckpt_name");
  const linked = linksOf(graph).filter((link) => link.target_id === node.id);
  const known = choice?.options?.values;
  if (name && Array.isArray(known) && !known.includes(name.value) && linked.length === 0)
    return `${name.value}, which is no safetensors file of the models folders`;

  graph.add(fresh);
  fresh.pos = [...node.pos];
  fresh.size = [0, 1].map((axis) => Math.max(node.size[axis] ?? 0, fresh.size[axis] ?? 0));
  const { mode, color, bgcolor } = node;
  Object.assign(fresh, Object.fromEntries(Object.entries({ mode, color, bgcolor }).filter(([, value]) => value !== undefined)));
  fresh.flags = { ...fresh.flags, ...node.flags };
  const plainTitle = (node.constructor as { title?: string }).title;
  if (node.title !== undefined && node.title !== plainTitle) fresh.title = node.title;
  if (name && choice) choice.value = name.value;

  // The file's name may come from a primitive, or be an input of the subgraph.
  const input = (fresh.inputs ?? []).findIndex((one) => one.name === "ckpt_name");
  for (const link of linked) {
    if (node.inputs?.[link.target_slot]?.name !== nameWidget || input < 0) continue;
    const origin = graph.getNodeById(link.origin_id);
    if (origin) origin.connect(link.origin_slot, fresh, input);
    else graph.inputs?.[link.origin_slot]?.connect?.(fresh.inputs?.[input], fresh);
  }
  for (const link of linksOf(graph).filter((one) => one.origin_id === node.id)) feedInstead(graph, link, fresh, link.origin_slot);
  graph.remove(node);
  return null;
}
