// Workflows that were saved when the nodes had other inputs. A workflow keeps a node's values by position, so a value that went away would shift the others.

/** Node type -> (saved values -> values as the node takes them now, or null to leave them). */
const migrations: Readonly<Record<string, (values: readonly unknown[]) => unknown[] | null>> = {
  // ckpt_name, three each of batch, height, width and tokens, precision.
  RefitWarmEngine: (values) => (values.length === 14 ? [values[0], values[13]] : null),
  // ckpt_name, host, precision, profile.
  RefitLoadEngine: (values) => (values.length === 4 ? values.slice(0, 3) : null),
  RefitLoadEngineStacked: (values) => (values.length === 4 ? values.slice(0, 3) : null),
  // ckpt_name, lora_name, strength, host, precision, profile.
  RefitLoadEngineLora: (values) => (values.length === 6 ? values.slice(0, 5) : null),
};

interface SavedGraph {
  readonly nodes?: {
    type: string;
    widgets_values?: unknown;
    inputs?: { widget?: { name?: string } }[];
  }[];
  readonly definitions?: { readonly subgraphs?: readonly SavedGraph[] };
}

/** Changes a workflow in place before the page makes nodes of it; subgraphs included. */
export function migrateWorkflow(workflow: SavedGraph | null | undefined): void {
  const graphs = [workflow, ...(workflow?.definitions?.subgraphs ?? [])];
  for (const node of graphs.flatMap((graph) => graph?.nodes ?? [])) {
    const values = node.widgets_values;
    const now = Array.isArray(values) ? migrations[node.type]?.(values) : null;
    if (now) node.widgets_values = now;
    if (node.type in migrations && node.inputs) node.inputs = node.inputs.filter((input) => !gone.test(input.widget?.name ?? ""));
  }
}

const gone = /^(profile|(batch|height|width|tokens)_(min|opt|max))$/;
