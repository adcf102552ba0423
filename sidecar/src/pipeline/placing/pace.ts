// Which devices have become slow, by the times of like steps on the others.

/** Steps of a device that are judged: its newest of a kind. */
const judged = 9;
/** Steps of another device in the same time, at least: what it did before or after says nothing of a computer that is busier now. */
const beside = 5;
/** Steps of a kind that are kept for each device: those of a fast one while a slow one runs a few. */
const kept = 64;
/** Tiers differ by less: one device may compile while another runs eager. */
const slowFactor = 4;
/** It has to go on for so long: the first steps of an engine, or a moment in which its computer did something else, are no reason. */
const lastsMs = 5_000;
/** A slow device gets another try after this. */
const restMs = 60_000;
/** Kinds of steps that are kept. */
const maxKinds = 64;

export interface Pace<Device> {
  /** A step of that kind (engine and size) took so long in that device's engine. */
  readonly note: (device: Device, kind: string, ms: number) => void;
  /** Its median is several times that of the fastest device on the same kind of step in the same time, for some seconds; forgotten after a minute. */
  readonly isSlow: (device: Device) => boolean;
}

interface Step {
  readonly atMs: number;
  readonly ms: number;
}

export function createPace<Device>(nowMs: () => number): Pace<Device> {
  const kinds = new Map<string, Map<Device, Step[]>>();
  const slowSince = new Map<Device, number>();
  const suspects = new Map<Device, { readonly sinceMs: number; readonly seenMs: number }>();

  function judge(device: Device, times: ReadonlyMap<Device, readonly Step[]>): void {
    const own = times.get(device)?.slice(-judged) ?? [];
    const [first] = own;
    if (first === undefined || own.length < judged || slowSince.has(device)) return;
    const others = [...times].flatMap(([other, list]) => {
      const meanwhile = other === device ? [] : list.filter(({ atMs }) => atMs >= first.atMs);
      return meanwhile.length < beside ? [] : [medianOf(meanwhile)];
    });
    if (others.length === 0) return;
    const now = nowMs();
    const before = suspects.get(device);
    suspects.delete(device);
    if (medianOf(own) <= Math.min(...others) * slowFactor) return;
    const sinceMs = before === undefined || now - before.seenMs > restMs ? now : before.sinceMs;
    if (now - sinceMs < lastsMs) suspects.set(device, { sinceMs, seenMs: now });
    else slowSince.set(device, now);
  }

  return {
    note(device, kind, ms) {
      const times = kinds.get(kind) ?? new Map<Device, Step[]>();
      kinds.delete(kind);
      kinds.set(kind, times);
      times.set(device, [...(times.get(device) ?? []), { atMs: nowMs(), ms }].slice(-kept));
      const [oldest] = kinds.keys();
      if (kinds.size > maxKinds && oldest !== undefined) kinds.delete(oldest);
      judge(device, times);
    },
    isSlow(device) {
      const since = slowSince.get(device);
      if (since === undefined) return false;
      if (nowMs() - since < restMs) return true;
      // Judged anew, by steps that it has yet to run.
      slowSince.delete(device);
      for (const times of kinds.values()) times.delete(device);
      return false;
    },
  };
}

const medianOf = (steps: readonly Step[]): number => steps.map(({ ms }) => ms).toSorted((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0;
