// Charts by uPlot, in the page's own colours, drawn anew when the data or the width changes. A table of the numbers stands under each for screen readers.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { ms } from "../state/rows.ts";
import type { Figure, RefitRecord } from "../state/figures.ts";
import { barsOf, timelineOf } from "../state/figures.ts";

const height = 150;
const makeBars = uPlot.paths.bars?.({ size: [0.8] });
const barShape = makeBars === undefined ? {} : { paths: makeBars };

function usePlot(options: (colour: (name: string) => string) => Omit<uPlot.Options, "width" | "height">, data: uPlot.AlignedData) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const place = box.current;
    if (!place) return;
    // A canvas knows no variables: each colour is looked up where the chart stands.
    const probe = document.createElement("i");
    place.append(probe);
    const colour = (name: string) => {
      probe.style.color = `var(--refit-${name})`;
      return getComputedStyle(probe).color;
    };
    let plot: uPlot | null = null;
    const draw = () => {
      plot?.destroy();
      plot = new uPlot({ ...options(colour), width: Math.max(160, place.clientWidth), height }, data, place);
    };
    draw();
    const watch = new ResizeObserver(() => plot?.setSize({ width: Math.max(160, place.clientWidth), height }));
    watch.observe(place);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    theme.addEventListener("change", draw);
    return () => {
      theme.removeEventListener("change", draw);
      watch.disconnect();
      plot?.destroy();
      probe.remove();
    };
  }, [data]);
  return box;
}

const titles: Readonly<Record<Figure["name"], string>> = { step: "Steps", wait: "Waits for a turn", refit: "Refits", swap: "Swaps" };

/** How many of each duration, with the percentiles. */
export function Histogram({ figure }: { readonly figure: Figure }) {
  const bars = barsOf(figure);
  const box = usePlot(
    (colour) => ({
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: [-0.5, Math.max(0.5, bars.labels.length - 0.5)] } },
      axes: [
        {
          stroke: colour("soft"),
          grid: { show: false },
          ticks: { show: false },
          splits: () => bars.labels.map((_, index) => index),
          values: () => [...bars.labels],
          size: 24,
        },
        { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, size: 42 },
      ],
      series: [{}, { stroke: colour("accent"), fill: colour("accent"), ...barShape, points: { show: false } }],
    }),
    [bars.places, bars.counts],
  );
  const facts = [figure.p50Ms, figure.p95Ms, figure.p99Ms].map((value) => (value === null ? "–" : ms(value)));
  return (
    <figure class="refit-figure" data-figure={figure.name}>
      <figcaption>
        <b>{titles[figure.name]}</b> {figure.count}
        <span class="refit-detail">
          {" "}
          p50 {facts[0]} · p95 {facts[1]} · p99 {facts[2]}
        </span>
      </figcaption>
      {figure.count === 0 ? <p class="refit-empty">None yet.</p> : <div ref={box} aria-hidden="true" />}
    </figure>
  );
}

/** The last refits, one bar each: what was prepared beside the running engine, and the swap. */
export function Timeline({ records }: { readonly records: readonly RefitRecord[] }) {
  const lines = timelineOf(records);
  const box = usePlot(
    (colour) => ({
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: [-0.5, Math.max(0.5, lines.places.length - 0.5)] } },
      axes: [
        { stroke: colour("soft"), grid: { show: false }, ticks: { show: false }, values: () => [], size: 8 },
        {
          stroke: colour("soft"),
          grid: { stroke: colour("line"), width: 1 },
          ticks: { show: false },
          size: 54,
          values: (_plot, values) => values.map((value) => ms(value)),
        },
      ],
      series: [
        {},
        { stroke: colour("busy"), fill: colour("busy"), ...barShape, points: { show: false } },
        { stroke: colour("warn"), fill: colour("warn"), ...barShape, points: { show: false } },
      ],
    }),
    [lines.places, lines.whole, lines.swap],
  );
  if (records.length === 0) return <p class="refit-empty">No refit yet.</p>;
  return (
    <figure class="refit-figure" data-figure="timeline">
      <figcaption class="refit-legend">
        <span class="refit-key-prepare">prepared beside the running engine</span>
        <span class="refit-key-swap">swap, the engine waits</span>
      </figcaption>
      <div ref={box} aria-hidden="true" />
    </figure>
  );
}
