import { z } from "zod";
import { elements } from "../../src/terms/index.ts";
import { hostFailure } from "./host-failure.ts";

const row = z.object({
  parameter: z.string(),
  weight: z.string(),
  shape: z.array(z.int().nonnegative()).max(8),
  slice: z.object({ start: z.int().nonnegative(), length: z.int().positive() }).nullable(),
  swapHalves: z.boolean(),
  /** Only the canonical layout exists in exported graphs; another value is another exporter's. */
  layout: z.literal("as-is"),
  refittable: z.boolean(),
});
export const refitMapSchema = z.array(row);
export type RefitMapRow = z.infer<typeof row>;

/** A weight of the graph as a range of its parameter's buffer. Slices are along dimension 0 of row-major data, so they are views. */
export interface WeightView {
  readonly weight: string;
  readonly shape: readonly number[];
  readonly startElement: number;
  readonly elements: number;
  readonly swapHalves: boolean;
}

/** How one parameter lies in the engine. */
export interface ParameterLayout {
  readonly name: string;
  /** Canonical shape, as in the checkpoint. */
  readonly shape: readonly number[];
  readonly elements: number;
  readonly refittable: boolean;
  readonly weights: readonly WeightView[];
}

/** Parameters without a graph: one buffer each, no weight. */
export function plainLayouts(parameters: Readonly<Record<string, readonly number[]>>): ParameterLayout[] {
  return Object.entries(parameters).map(([name, shape]) => ({ name, shape, elements: elements(shape), refittable: true, weights: [] }));
}

/** Groups the refit map by parameter and checks every row against the checkpoint's shapes. Throws HOST_GRAPH_INVALID naming the first row that does not fit. */
export function mappedLayouts(rows: readonly RefitMapRow[], shapes: Readonly<Record<string, readonly number[]>>): ParameterLayout[] {
  const layouts = new Map<string, ParameterLayout>();
  for (const entry of rows) {
    const shape = shapes[entry.parameter];
    if (shape === undefined) throw invalid(entry, "the checkpoint has no such parameter");
    const view = viewOf(entry, shape);
    const known = layouts.get(entry.parameter);
    layouts.set(entry.parameter, {
      name: entry.parameter,
      shape,
      elements: elements(shape),
      refittable: entry.refittable && (known?.refittable ?? true),
      weights: [...(known?.weights ?? []), view],
    });
  }
  for (const layout of layouts.values()) checkSwaps(layout);
  return [...layouts.values()];
}

function viewOf(entry: RefitMapRow, shape: readonly number[]): WeightView {
  const count = elements(entry.shape);
  const rowElements = elements(shape.slice(1));
  const startElement = (entry.slice?.start ?? 0) * rowElements;
  const expected = entry.slice === null ? elements(shape) : entry.slice.length * rowElements;
  if (count !== expected || startElement + count > elements(shape)) {
    throw invalid(
      entry,
      `expected ${expected} elements of a parameter of shape [${shape.join(", ")}], the graph's weight has shape [${entry.shape.join(", ")}]`,
    );
  }
  if (entry.swapHalves && count % 2 !== 0) throw invalid(entry, "halves of an odd number of elements cannot be exchanged");
  return { weight: entry.weight, shape: entry.shape, startElement, elements: count, swapHalves: entry.swapHalves };
}

/** A swapped range is stored swapped, so no other weight may read it. */
function checkSwaps(layout: ParameterLayout): void {
  for (const view of layout.weights) {
    if (!view.swapHalves) continue;
    const clash = layout.weights.find(
      (other) =>
        other !== view && other.startElement < view.startElement + view.elements && view.startElement < other.startElement + other.elements,
    );
    if (clash !== undefined)
      throw hostFailure(
        "HOST_GRAPH_INVALID",
        `weights ${view.weight} and ${clash.weight} of ${layout.name} overlap although one of them has its halves exchanged; export the graph again`,
      );
  }
}

function invalid(entry: RefitMapRow, problem: string): Error {
  return hostFailure(
    "HOST_GRAPH_INVALID",
    `refit map, weight ${entry.weight} of parameter ${entry.parameter}: ${problem}. The graph belongs to another structure; export it again.`,
    { parameter: entry.parameter, weight: entry.weight },
  );
}

/** Canonical layout to engine layout and back (exchanging halves undoes itself), in place. */
export function exchangeHalves(layout: ParameterLayout, buffer: Uint8Array, elementBytes: number): void {
  for (const view of layout.weights) {
    if (!view.swapHalves) continue;
    const start = view.startElement * elementBytes;
    const half = (view.elements / 2) * elementBytes;
    const first = buffer.slice(start, start + half);
    buffer.copyWithin(start, start + half, start + 2 * half);
    buffer.set(first, start + half);
  }
}
