// What an adapter touches, drawn. A table underneath, so that a screen reader reads the numbers that colours show.

import { useMemo } from "preact/hooks";
import { heatOf, type Heat, type HeatCell } from "../state/heat.ts";
import type { Client } from "../wire/client.ts";
import { useAnswer } from "./use-answer.ts";

/** Of one adapter: another one takes another element (`key`). */
export function HeatMap({ client, id }: { readonly client: Client; readonly id: string }) {
  const { value, error } = useAnswer(() => client.read("adapter.layers", { id }), [client, id]);
  // The same element as before is not compared cell by cell when the page is drawn anew.
  const table = useMemo(() => {
    const heat = heatOf(value?.layers ?? []);
    return heat.rows.length > 0 && <HeatTable heat={heat} />;
  }, [value]);
  if (error !== null) return <p class="refit-empty">{error}</p>;
  if (value === null) return <p class="refit-empty">Looking at its layers …</p>;
  const { checkpoint, layers, ignored, failed } = value;
  const counts = [`${layers.length} layers`, ignored > 0 ? `${ignored} keys ignored` : "", failed > 0 ? `${failed} keys failed` : ""];
  return (
    <>
      <p class="refit-detail">
        {checkpoint === null
          ? "No checkpoint of its family is in the folders, so its layers cannot be named."
          : counts.filter(Boolean).join(", ")}
      </p>
      {table}
    </>
  );
}

function HeatTable({ heat }: { readonly heat: Heat }) {
  const strongest = Math.max(...heat.rows.map((row) => row.norm));
  return (
    <div class="refit-heat" tabIndex={0} role="region" aria-label="Norm of the change by block and kind of layer">
      <table>
        <thead>
          <tr>
            <th scope="col">Block</th>
            <th scope="col">Norm</th>
            {heat.columns.map((column) => (
              <th key={column} scope="col" class="refit-heat-column">
                <span>{column}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {heat.rows.map((row) => (
            <tr key={row.block}>
              <th scope="row">{row.block}</th>
              <td class="refit-heat-norm">
                <span class="refit-heat-bar" style={{ width: `${strongest > 0 ? (100 * row.norm) / strongest : 0}%` }} />
                {number(row.norm)}
              </td>
              {row.cells.map((cell, index) => (
                <Cell key={heat.columns[index]} cell={cell} largest={heat.largest} title={`${row.block} ${heat.columns[index]}`} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cell({ cell, largest, title }: { readonly cell: HeatCell | null; readonly largest: number; readonly title: string }) {
  if (cell === null) return <td class="refit-heat-cell" />;
  const text = cell.unmeasured === cell.layers ? "depends on the checkpoint" : number(cell.norm);
  const share = largest > 0 ? cell.norm / largest : 0;
  return (
    <td
      class={`refit-heat-cell ${cell.unmeasured === cell.layers ? "refit-heat-open" : "refit-heat-there"}`}
      style={{ "--share": `${Math.round(8 + 92 * Math.sqrt(share))}%` }}
      title={`${title}: ${text}`}
    >
      <span class="refit-only-read">{text}</span>
    </td>
  );
}

const number = (value: number): string =>
  value === 0 ? "0" : value < 0.01 || value >= 1000 ? value.toExponential(1) : value.toPrecision(3);
