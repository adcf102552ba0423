// Counters, gauges and histograms in the Prometheus text format (https://prometheus.io/docs/instrumenting/exposition_formats/).

export interface Counter {
  readonly add: (amount?: number) => void;
  readonly value: () => number;
}

export interface Gauge {
  readonly set: (value: number) => void;
}

export interface Histogram {
  readonly observe: (value: number) => void;
  /** Value below which `share` (0…1) of the observations fall, from the last 1,024; NaN when there are none. */
  readonly quantile: (share: number) => number;
  /** Observations since the start by bucket: at most `upTo` and more than the bucket before; the last one has no bound. */
  readonly buckets: () => readonly { readonly upTo: number | null; readonly count: number }[];
  readonly count: () => number;
}

export interface LabelledValue {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Metrics {
  readonly counter: (name: string, help: string) => Counter;
  readonly gauge: (name: string, help: string, read?: () => number) => Gauge;
  /** One value per set of labels; asked for at every scrape. */
  readonly gauges: (name: string, help: string, read: () => readonly LabelledValue[]) => void;
  /** Buckets are upper bounds in the metric's own unit, ascending. */
  readonly histogram: (name: string, help: string, buckets: readonly number[]) => Histogram;
  readonly text: () => string;
}

const sampleCount = 1024;

export function createMetrics(): Metrics {
  const sections: (() => string)[] = [];
  const declare = (name: string, help: string, type: string, lines: () => string) => {
    sections.push(() => `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines()}`);
  };
  return {
    counter(name, help) {
      let total = 0;
      declare(name, help, "counter", () => `${name} ${total}\n`);
      return { add: (amount = 1) => void (total += amount), value: () => total };
    },
    gauge(name, help, read) {
      let value = 0;
      declare(name, help, "gauge", () => `${name} ${read ? read() : value}\n`);
      return { set: (next) => void (value = next) };
    },
    gauges(name, help, read) {
      const quoted = (text: string) => `"${text.replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`))}"`;
      const labelled = (labels: LabelledValue["labels"]) => {
        const parts = Object.entries(labels).map(([key, text]) => `${key}=${quoted(text)}`);
        return parts.length === 0 ? "" : `{${parts.join(",")}}`;
      };
      declare(name, help, name.endsWith("_total") ? "counter" : "gauge", () =>
        read()
          .map(({ labels, value }) => `${name}${labelled(labels)} ${value}\n`)
          .join(""),
      );
    },
    histogram(name, help, buckets) {
      const counts = buckets.map(() => 0);
      const recent: number[] = [];
      let count = 0;
      let sum = 0;
      declare(name, help, "histogram", () => {
        const rows = buckets.map((bound, index) => `${name}_bucket{le="${bound}"} ${counts[index]}\n`);
        return `${rows.join("")}${name}_bucket{le="+Inf"} ${count}\n${name}_sum ${sum}\n${name}_count ${count}\n`;
      });
      return {
        observe(value) {
          for (const [index, bound] of buckets.entries()) if (value <= bound) counts[index] = (counts[index] ?? 0) + 1;
          recent[count % sampleCount] = value;
          count += 1;
          sum += value;
        },
        quantile(share) {
          const sorted = recent.toSorted((a, b) => a - b);
          return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
        },
        buckets: () =>
          [...buckets, null].map((upTo, index) => ({
            upTo,
            count: (counts[index] ?? count) - (index === 0 ? 0 : (counts[index - 1] ?? 0)),
          })),
        count: () => count,
      };
    },
    text: () => sections.map((section) => section()).join(""),
  };
}
