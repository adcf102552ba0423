// What an adapter touches, as a grid: a row a block of the network, a column a kind of layer. Pure.

import type { WireResult } from "@refit-sidecar/protocol";

export type TouchedLayer = WireResult<"adapter.layers">["layers"][number];

export interface HeatCell {
  readonly norm: number;
  readonly layers: number;
  /** Layers whose change depends on the checkpoint. */
  readonly unmeasured: number;
}

export interface Heat {
  readonly columns: readonly string[];
  readonly rows: readonly { readonly block: string; readonly norm: number; readonly cells: readonly (HeatCell | null)[] }[];
  readonly largest: number;
}

/** `input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight`: block `input_blocks.4`, part `attn1.to_q`. */
export function placeOf(parameter: string): { readonly block: string; readonly part: string } {
  const segments = parameter.replace(/\.(weight|bias|scale)$/, "").split(".");
  const number = segments.findIndex((segment) => /^\d+$/.test(segment));
  const cut = number < 0 ? 1 : number + 1;
  const rest = segments.slice(cut).filter((segment) => !/^\d+$/.test(segment) && !/^(transformer_blocks|blocks|layers)$/.test(segment));
  return { block: segments.slice(0, cut).join(".") || "model", part: rest.slice(-2).join(".") || (segments.at(-1) ?? "") };
}

/** Squares of Frobenius norms add up over layers that do not overlap. */
export function heatOf(layers: readonly TouchedLayer[]): Heat {
  const columns: string[] = [];
  const blocks = new Map<string, Map<string, { square: number; layers: number; unmeasured: number }>>();
  for (const { parameter, norm } of layers) {
    const { block, part } = placeOf(parameter);
    if (!columns.includes(part)) columns.push(part);
    const row = blocks.get(block) ?? new Map<string, { square: number; layers: number; unmeasured: number }>();
    blocks.set(block, row);
    const cell = row.get(part) ?? { square: 0, layers: 0, unmeasured: 0 };
    cell.layers += 1;
    if (norm === null) cell.unmeasured += 1;
    else cell.square += norm * norm;
    row.set(part, cell);
  }
  columns.sort();
  const rows = [...blocks]
    .map(([block, row]) => ({
      block,
      norm: Math.sqrt([...row.values()].reduce((sum, { square }) => sum + square, 0)),
      cells: columns.map((column) => {
        const cell = row.get(column);
        return cell === undefined ? null : { norm: Math.sqrt(cell.square), layers: cell.layers, unmeasured: cell.unmeasured };
      }),
    }))
    .sort((a, b) => a.block.localeCompare(b.block, undefined, { numeric: true }));
  const largest = Math.max(0, ...rows.flatMap((row) => row.cells.map((cell) => cell?.norm ?? 0)));
  return { columns, rows, largest };
}
