// "Use engines in this workflow": every Load Checkpoint becomes Load Engine in the same place, with the same links; its outputs are the same three.

const replacements = { CheckpointLoaderSimple: "RefitLoadEngine" };

export function putOnEngines(app) {
  const graph = app.graph;
  const found = graph._nodes.filter((node) => node.comfyClass in replacements);
  for (const node of found) replace(graph, node, replacements[node.comfyClass]);
  graph.setDirtyCanvas(true, true);
  if (found.length > 0) return `${found.length} loader${found.length === 1 ? "" : "s"} replaced. LoRA loaders and samplers stay as they are.`;
  return graph._nodes.some((node) => node.comfyClass?.startsWith("RefitLoad")) ? "The workflow is on engines already." : "The workflow has no Load Checkpoint. For other loaders, put Accelerate Model behind the MODEL.";
}

function replace(graph, node, type) {
  const fresh = globalThis.LiteGraph.createNode(type);
  graph.add(fresh);
  fresh.pos = [...node.pos];
  fresh.size = [Math.max(node.size[0], fresh.size[0]), fresh.size[1]];
  if (node.title !== node.constructor.title) fresh.title = node.title;
  const name = node.widgets?.find((widget) => widget.name === "ckpt_name");
  const target = fresh.widgets?.find((widget) => widget.name === "ckpt_name");
  if (name && target) target.value = name.value;
  for (const [slot, output] of (node.outputs ?? []).entries()) {
    for (const id of [...(output.links ?? [])]) {
      const link = graph.links[id] ?? graph.links.get?.(id);
      const to = link && graph.getNodeById(link.target_id);
      if (to) fresh.connect(slot, to, link.target_slot);
    }
  }
  graph.remove(node);
}
