import { describe, expect, it } from "vitest";
import { createEvents, createLog, createMetrics } from "../../../sidecar/src/telemetry/index.ts";

describe("createLog", () => {
  it("writes lines up to its level and follows a change of level", () => {
    const lines: string[] = [];
    const log = createLog(
      "warn",
      (line) => void lines.push(line),
      () => new Date(0),
    );
    log.info("no");
    log.warn("yes");
    log.setLevel("debug");
    log.debug("now");
    expect(lines).toEqual(["1970-01-01T00:00:00.000Z warn  yes\n", "1970-01-01T00:00:00.000Z debug now\n"]);
  });

  it("escapes control characters so that a file name cannot forge a line", () => {
    const lines: string[] = [];
    createLog("info", (line) => void lines.push(line)).info("a\nERROR b\u001b[31m");
    expect(lines[0]).toMatch(/a\\x0aERROR b\\x1b\[31m\n$/);
  });
});

describe("createMetrics", () => {
  it("prints counters, gauges and histograms in the Prometheus text format", () => {
    const metrics = createMetrics();
    metrics.counter("refit_total", "Refits committed").add(2);
    metrics.gauge("engines", "Loaded engines", () => 3);
    const time = metrics.histogram("refit_ms", "Refit time in ms", [10, 100]);
    for (const value of [5, 50, 500]) time.observe(value);
    expect(metrics.text()).toBe(
      "# HELP refit_total Refits committed\n# TYPE refit_total counter\nrefit_total 2\n" +
        "# HELP engines Loaded engines\n# TYPE engines gauge\nengines 3\n" +
        '# HELP refit_ms Refit time in ms\n# TYPE refit_ms histogram\nrefit_ms_bucket{le="10"} 1\nrefit_ms_bucket{le="100"} 2\nrefit_ms_bucket{le="+Inf"} 3\nrefit_ms_sum 555\nrefit_ms_count 3\n',
    );
    expect(time.quantile(0.5)).toBe(50);
  });

  it("writes a line per set of labels, quoted", () => {
    const metrics = createMetrics();
    metrics.gauges("jobs", "Jobs", () => [
      { labels: { state: "queued", note: 'a "b"\\\n' }, value: 2 },
      { labels: {}, value: 1 },
    ]);
    metrics.gauges("builds_total", "Builds", () => []);
    expect(metrics.text()).toBe(
      '# HELP jobs Jobs\n# TYPE jobs gauge\njobs{state="queued",note="a \\"b\\"\\\\\\n"} 2\njobs 1\n# HELP builds_total Builds\n# TYPE builds_total counter\n',
    );
  });
});

describe("createEvents", () => {
  it("keeps the last 500 events and drops a listener that throws, not the others", () => {
    const errors: unknown[] = [];
    const events = createEvents(
      (error) => void errors.push(error),
      () => 1,
    );
    let heard = 0;
    events.subscribe(() => {
      throw new Error("bad listener");
    });
    const stop = events.subscribe(() => void (heard += 1));
    for (let index = 0; index < 510; index += 1) events.emit({ type: "engine.state", engine: "e", state: "LIVE", reason: null });
    stop();
    events.emit({ type: "engine.state", engine: "e", state: "LIVE", reason: null });
    expect(heard).toBe(510);
    expect(errors).toHaveLength(1);
    expect(events.history()).toHaveLength(500);
  });
});
