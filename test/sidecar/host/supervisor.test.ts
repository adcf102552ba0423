import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { HostSupervisor, type Host, type HostExit } from "../../../sidecar/src/host/index.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function fakeHost(pid: number, idleMs: () => number): Host & { die: (signal: string) => void } {
  let end: (exit: HostExit) => void = () => undefined;
  let gone = false;
  const ended = new Promise<HostExit>((resolve) => (end = resolve));
  const die = (signal: string | null): void => {
    gone = true;
    end({ code: null, signal, reason: null, log: [] });
  };
  return {
    kind: "fake",
    pid,
    about: {
      protocolVersion: 1,
      kind: "fake",
      versions: {},
      device: { type: "", name: "" },
      precisions: [],
      memory: { totalBytes: 0, freeBytes: 0 },
    },
    call: () => Promise.reject(new Error("not used")),
    gone: () => gone,
    idleMs,
    ended,
    log: () => [],
    die,
    kill: () => die("SIGKILL"),
    close: () => {
      die(null);
      return ended;
    },
  };
}

function setup(problems: readonly (Error | null)[] = [], keepsSpare = false, idleMs = () => 10_000, isPatient = false) {
  const hosts: ReturnType<typeof fakeHost>[] = [];
  const downs: number[] = [];
  const ups: number[] = [];
  let starts = 0;
  const supervisor = new HostSupervisor(
    async () => {
      const problem = problems[starts++];
      if (problem !== undefined && problem !== null) throw problem;
      const host = fakeHost(100 + hosts.length, idleMs);
      hosts.push(host);
      return host;
    },
    { onUp: ({ pid }) => ups.push(pid), onDown: ({ retryInMs }) => downs.push(retryInMs) },
    () => keepsSpare,
    isPatient,
  );
  return { supervisor, hosts, downs, ups, starts: () => starts };
}

describe("HostSupervisor", () => {
  it("takes one that is not installed for no host that died: it is tried again when it is asked for, and not before", async () => {
    const { supervisor, starts, downs } = setup([new Failure("HOST_NOT_CONFIGURED", "run host install", {}), null]);
    await expect(supervisor.host()).rejects.toMatchObject({ code: "HOST_NOT_CONFIGURED" });
    await vi.advanceTimersByTimeAsync(120_000);
    expect([starts(), downs]).toEqual([1, []]);
    expect(supervisor.status).toMatchObject({ state: "stopped", restarts: 0, lastProblem: "run host install" });
    await expect(supervisor.host()).resolves.toMatchObject({ pid: 100 });
  });

  it("starts the host on first use, once for everybody", async () => {
    const { supervisor, starts, ups } = setup();
    expect(supervisor.status.state).toBe("stopped");
    const [one, two] = await Promise.all([supervisor.host(), supervisor.host()]);
    expect(one).toBe(two);
    expect(starts()).toBe(1);
    expect(ups).toEqual([100]);
    expect(supervisor.status).toMatchObject({ state: "up", pid: 100, restarts: 0 });
  });
  it("restarts a host that died at once, and a caller waits for it instead of failing", async () => {
    const { supervisor, hosts, downs } = setup();
    await supervisor.host();
    hosts[0]?.die("SIGSEGV");
    expect((await supervisor.host()).pid).toBe(101);
    expect(downs).toEqual([0]);
    expect(supervisor.status).toMatchObject({ restarts: 1, lastProblem: "signal SIGSEGV" });
  });
  it("takes an end that it expects for no failure, and whoever asks meanwhile gets the next host", async () => {
    const { supervisor, hosts, downs } = setup();
    await supervisor.host();
    supervisor.expectEnd();
    const next = supervisor.host();
    hosts[0]?.die("SIGTERM");
    expect((await next).pid).toBe(101);
    expect(downs).toEqual([0]);
    expect(supervisor.status).toMatchObject({ state: "up", restarts: 0, lastProblem: null });
    hosts[1]?.die("SIGKILL");
    expect((await supervisor.host()).pid).toBe(102);
    expect(supervisor.status).toMatchObject({ restarts: 1 });
  });
  it("restarts without being asked", async () => {
    const { supervisor, hosts, ups } = setup();
    await supervisor.host();
    hosts[0]?.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(0);
    expect(ups).toEqual([100, 101]);
  });
  it("tries a host that keeps dying ever more rarely, and fails callers at once meanwhile", async () => {
    const { supervisor, hosts, downs } = setup();
    await supervisor.host();
    for (const wait of [0, 0, 250, 1000, 4000, 15000, 15000]) {
      hosts.at(-1)?.die("SIGKILL");
      await vi.advanceTimersByTimeAsync(0);
      if (wait > 0) {
        expect(supervisor.status.state).toBe("waiting");
        await expect(supervisor.host()).rejects.toMatchObject({ code: "HOST_START_FAILED" });
      }
      await vi.advanceTimersByTimeAsync(wait);
      expect(supervisor.status.state).toBe("up");
    }
    expect(downs).toEqual([0, 0, 250, 1000, 4000, 15000, 15000]);
  });
  it("is patient where hosts end because what they run in ends: a caller waits for the next one, and the pauses stay short", async () => {
    const { supervisor, hosts, downs } = setup([], false, undefined, true);
    await supervisor.host();
    for (let life = 0; life < 8; life += 1) {
      hosts.at(-1)?.die("SIGKILL");
      await vi.advanceTimersByTimeAsync(0);
      const next = supervisor.host();
      await vi.advanceTimersByTimeAsync(500);
      expect((await next).pid).toBe(101 + life);
    }
    expect(downs).toEqual([0, 0, 250, 250, 250, 250, 250, 250]);
  });
  it("never keeps those waiting long who use a host that had worked", async () => {
    const { supervisor, hosts, downs } = setup();
    await supervisor.host();
    for (let life = 0; life < 4; life += 1) {
      supervisor.worked();
      hosts.at(-1)?.die("SIGKILL");
      await vi.advanceTimersByTimeAsync(250);
    }
    expect(downs).toEqual([0, 0, 250, 250]);
    expect(supervisor.status).toMatchObject({ state: "up", restarts: 4 });
  });

  it("keeps a spare of a host that works, and puts it in the place of one that died", async () => {
    const { supervisor, hosts, ups, downs } = setup([], true);
    await supervisor.host();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(hosts).toHaveLength(1);
    supervisor.worked();
    await vi.advanceTimersByTimeAsync(3_000);
    expect(hosts).toHaveLength(2);
    expect(supervisor.status).toMatchObject({ pid: 100, sparePid: 101 });
    hosts[0]?.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(0);
    expect(supervisor.status).toMatchObject({ state: "up", pid: 101, sparePid: null });
    supervisor.worked();
    await vi.advanceTimersByTimeAsync(3_000);
    expect(ups).toEqual([100, 101]);
    expect(downs).toEqual([0]);
    expect(supervisor.status).toMatchObject({ pid: 101, sparePid: 102 });
    hosts[1]?.die("SIGKILL");
    expect((await supervisor.host()).pid).toBe(102);
    await supervisor.close();
    expect(hosts.map((host) => host.gone())).toEqual([true, true, true]);
  });

  it("starts the spare while the host rests, and of one that never rests after a minute", async () => {
    let idle = 0;
    const { supervisor, hosts } = setup([], true, () => idle);
    await supervisor.host();
    supervisor.worked();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(hosts).toHaveLength(1);
    idle = 2_000;
    await vi.advanceTimersByTimeAsync(500);
    expect(hosts).toHaveLength(2);
    idle = 0;
    hosts[0]?.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(0);
    supervisor.worked();
    await vi.advanceTimersByTimeAsync(61_000);
    expect(hosts).toHaveLength(3);
    await supervisor.close();
  });

  it("does without a spare that died or does not start", async () => {
    const { supervisor, hosts, starts } = setup([null, null, new Error("no memory")], true);
    await supervisor.host();
    supervisor.worked();
    await vi.advanceTimersByTimeAsync(3_000);
    hosts[1]?.die("SIGKILL");
    await vi.advanceTimersByTimeAsync(0);
    expect(supervisor.status).toMatchObject({ pid: 100, sparePid: null, restarts: 0 });
    supervisor.worked();
    await vi.advanceTimersByTimeAsync(3_000);
    expect([starts(), supervisor.status.state, supervisor.status.sparePid]).toEqual([3, "up", null]);
    hosts[0]?.die("SIGKILL");
    expect((await supervisor.host()).pid).toBe(102);
  });

  it("restarts a host at once that has served for a while, however often", async () => {
    const { supervisor, hosts, downs } = setup();
    await supervisor.host();
    for (let life = 0; life < 4; life += 1) {
      supervisor.worked();
      await vi.advanceTimersByTimeAsync(2_500);
      hosts.at(-1)?.die("SIGKILL");
      await vi.advanceTimersByTimeAsync(0);
    }
    expect(downs).toEqual([0, 0, 0, 0]);
  });

  it("forgets old deaths when a host stayed up", async () => {
    const { supervisor, hosts, downs } = setup();
    await supervisor.host();
    for (let death = 0; death < 3; death += 1) {
      await vi.advanceTimersByTimeAsync(61_000);
      hosts.at(-1)?.die("SIGKILL");
      await vi.advanceTimersByTimeAsync(0);
    }
    expect(downs).toEqual([0, 0, 0]);
  });
  it("reports a start that failed to its caller and tries again", async () => {
    const { supervisor, ups } = setup([new Error("no such program"), null]);
    await expect(supervisor.host()).rejects.toThrow("no such program");
    await vi.advanceTimersByTimeAsync(0);
    expect(ups).toEqual([100]);
    expect(supervisor.status.lastProblem).toBe("no such program");
  });
  it("stays down after close, whatever was under way", async () => {
    const { supervisor, hosts, starts } = setup();
    await supervisor.host();
    await supervisor.close();
    expect(hosts[0]?.gone()).toBe(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(starts()).toBe(1);
    await expect(supervisor.host()).rejects.toMatchObject({ code: "HOST_CLOSED" });
    const early = setup();
    const starting = early.supervisor.host();
    const closing = early.supervisor.close();
    await expect(starting).rejects.toMatchObject({ code: "HOST_CLOSED" });
    await closing;
  });
});
