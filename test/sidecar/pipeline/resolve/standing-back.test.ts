import { spawn } from "node:child_process";
import { constants, getPriority } from "node:os";
import { describe, expect, it } from "vitest";
import { standingBack, type Start } from "../../../../sidecar/src/pipeline/resolve/standing-back.ts";

const { PRIORITY_LOW: low, PRIORITY_NORMAL: normal } = constants.priority;
const forever = new Promise<void>(() => undefined);
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A program whose end is in the test's hands. */
function program() {
  const starts: AbortSignal[] = [];
  let end: (value: string) => void = () => undefined;
  const start: Start<string> = (signal, started) => {
    starts.push(signal);
    started(40 + starts.length);
    return new Promise((resolve, reject) => {
      end = resolve;
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  };
  return { start, starts, end: (value: string) => end(value) };
}

/** Somebody who waits from the moment on in which it is called. */
function waiter() {
  let resolve: () => void = () => undefined;
  const until = new Promise<void>((done) => (resolve = done));
  return { until, wait: () => resolve() };
}

describe("standingBack", () => {
  it("runs a program that somebody waits for as any other", async () => {
    const { start, end } = program();
    const set: number[] = [];
    const result = standingBack(start, undefined, new AbortController().signal, (_, priority) => void set.push(priority));
    end("made");
    expect([await result, set]).toEqual(["made", []]);
  });

  it("puts one back that nobody waits for, and lets it come forward when somebody does", async () => {
    const { start, starts, end } = program();
    const { until, wait } = waiter();
    const set: [number, number][] = [];
    const result = standingBack(start, until, new AbortController().signal, (...given) => void set.push(given));
    await settled();
    expect(set).toEqual([[41, low]]);
    wait();
    await settled();
    expect(set).toEqual([
      [41, low],
      [41, normal],
    ]);
    end("made");
    expect([await result, starts.length]).toEqual(["made", 1]);
  });

  it("begins it anew where the system lets no program come forward, and not after its end", async () => {
    const { start, starts, end } = program();
    const { until, wait } = waiter();
    const refuse = (_: number, priority: number) => {
      if (priority === normal) throw new Error("EACCES");
    };
    const result = standingBack(start, until, new AbortController().signal, refuse);
    await settled();
    wait();
    await settled();
    expect(starts.map(({ aborted }) => aborted)).toEqual([true, false]);
    end("made the second time");
    expect(await result).toBe("made the second time");
    const other = program();
    const late = waiter();
    const ended = standingBack(other.start, late.until, new AbortController().signal, refuse);
    other.end("made");
    expect(await ended).toBe("made");
    late.wait();
    await settled();
    expect(other.starts.length).toBe(1);
  });

  it("ends with a cancellation, and with the program's own error", async () => {
    const { start } = program();
    const cancel = new AbortController();
    const result = standingBack(start, forever, cancel.signal, () => undefined);
    cancel.abort(new Error("cancelled"));
    await expect(result).rejects.toThrow("cancelled");
    await expect(standingBack(() => Promise.reject(new Error("no torch")), forever, new AbortController().signal)).rejects.toThrow(
      "no torch",
    );
  });

  it("does so with a real program", async () => {
    const { until, wait } = waiter();
    const seen: number[] = [];
    let pid = 0;
    const start: Start<string> = (signal, started) => {
      const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
      pid = child.pid!;
      started(pid);
      return new Promise((resolve, reject) => {
        const end = (finish: () => void) => {
          child.once("exit", finish);
          child.kill();
        };
        signal.addEventListener("abort", () => end(() => reject(signal.reason as Error)), { once: true });
        void until.then(settled).then(() => {
          if (signal.aborted) return;
          seen.push(getPriority(child.pid));
          end(() => resolve("ended"));
        });
      });
    };
    const result = standingBack(start, until, new AbortController().signal);
    seen.push(getPriority(pid));
    wait();
    // Without the right to raise a priority it is begun anew, at an ordinary one.
    expect([await result, seen]).toEqual(["ended", [low, getPriority()]]);
  });
});
