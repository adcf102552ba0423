// What an adapter touches, drawn. A table underneath, so that a screen reader reads the numbers that colours show.

import { useEffect, useState } from "preact/hooks";
import { heatOf, type Heat, type HeatCell } from "../state/heat.ts";
import type { Client } from "../wire/client.ts";

type Loaded =
  | { readonly state: "loading" }
  | { readonly state: "failed"; readonly text: string }
  | { readonly state: "there"; readonly heat: Heat; readonly text: string };

export function HeatMap({ client, id }: { readonly client: Client; readonly id: string }) {
  const [loaded, setLoaded] = useState<Loaded>({ state: "loading" });
  useEffect(() => {
    let current = true;
    setLoaded({ state: "loading" });
    client.read("adapter.layers", { id }).then(
      ({ checkpoint, layers, ignored, failed }) => {
        const counts = [`${layers.length} layers`, ignored > 0 ? `${ignored} keys ignored` : "", failed > 0 ? `${failed} keys failed` : ""];
        const text =
          checkpoint === null
            ? "No checkpoint of its family is in the folders, so its layers cannot be named."
            : counts.filter(Boolean).join(", ");
        if (current) setLoaded({ state: "there", heat: heatOf(layers), text });
      },
      (error: Error) => current && setLoaded({ state: "failed", text: error.message }),
    );
    return () => {
      current = false;
    };
  }, [client, id]);
  if (loaded.state === "loading") return <p class="refit-empty">Looking at its layers …</p>;
  if (loaded.state === "failed") return <p class="refit-empty">{loaded.text}</p>;
  const { heat, text } = loaded;
  return (
    <>
      <p class="refit-detail">{text}</p>
      {heat.rows.length > 0 && <HeatTable heat={heat} />}
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
