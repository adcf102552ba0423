// Which devices have become slow, by the times of like steps on the others.

/** Steps that are compared: the newest of a kind on a device. */
const compared = 9;
/** Tiers differ by less: one device may compile while another runs eager. */
const slowFactor = 4;
/** A slow device gets another try after this. */
const restMs = 60_000;
/** Kinds of steps that are kept. */
const maxKinds = 64;

export interface Pace<Device> {
  /** A step of that kind (engine and size) took so long in that device's engine. */
  readonly note: (device: Device, kind: string, ms: number) => void;
  /** Its median is several times that of the fastest device on the same kind of step; forgotten after a minute. */
  readonly isSlow: (device: Device) => boolean;
}

export function createPace<Device>(nowMs: () => number): Pace<Device> {
  const kinds = new Map<string, Map<Device, number[]>>();
  const slowSince = new Map<Device, number>();

  function judge(times: ReadonlyMap<Device, readonly number[]>): void {
    const medians = [...times].flatMap(([device, list]) => (list.length < compared ? [] : [{ device, ms: medianOf(list) }]));
    const fastest = Math.min(...medians.map(({ ms }) => ms));
    for (const { device, ms } of medians) if (ms > fastest * slowFactor && !slowSince.has(device)) slowSince.set(device, nowMs());
  }

  return {
    note(device, kind, ms) {
      const times = kinds.get(kind) ?? new Map<Device, number[]>();
      kinds.delete(kind);
      kinds.set(kind, times);
      times.set(device, [...(times.get(device) ?? []), ms].slice(-compared));
      const [oldest] = kinds.keys();
      if (kinds.size > maxKinds && oldest !== undefined) kinds.delete(oldest);
      judge(times);
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

const medianOf = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
