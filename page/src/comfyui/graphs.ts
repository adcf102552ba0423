// The workflow's graphs, subgraphs included, in the frontends' own words: fields differ between versions, and are asked for here only.

import type { Graph, GraphNode, Graphs, Link, Widget } from "./frontend.ts";

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

export const widgetOf = (node: GraphNode, name: string): Widget | undefined => node.widgets?.find((one) => one.name === name);

/** What this link of another node fed, this node's output feeds from now on: a node, or an output of the subgraph. */
export function feedInstead(graph: Graph, link: Link, node: GraphNode, slot: number): void {
  const to = graph.getNodeById(link.target_id);
  if (to) node.connect(slot, to, link.target_slot);
  else graph.outputs?.[link.target_slot]?.connect?.(node.outputs?.[slot], node);
}

/** Every node of the workflow. */
export const allNodes = (app: Graphs): GraphNode[] => allGraphs(app).flatMap(nodesOf);
