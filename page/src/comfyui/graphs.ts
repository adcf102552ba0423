// The workflow's graphs, subgraphs included, in the frontends' own words: fields differ between versions, and are asked for here only.

import type { Graph, GraphNode, Graphs, Link } from "./frontend.ts";

/** The root graph first, then every subgraph that the workflow holds. */
export function allGraphs(app: Graphs): Graph[] {
  const root = app.rootGraph ?? app.graph?.rootGraph ?? app.graph;
  if (!root) return [];
  const inner = root.subgraphs instanceof Map ? [...root.subgraphs.values()] : [];
  return [root, ...inner];
}

export const nodesOf = (graph: Graph): GraphNode[] => graph.nodes ?? graph._nodes ?? [];

/** Links as objects: id, origin_id, origin_slot, target_id, target_slot. */
export function linksOf(graph: Graph): Link[] {
  const links = graph._links ?? graph.links ?? {};
  return links instanceof Map ? [...links.values()] : Object.values(links).filter(Boolean);
}

/** Every node of the workflow. */
export const allNodes = (app: Graphs): GraphNode[] => allGraphs(app).flatMap(nodesOf);
