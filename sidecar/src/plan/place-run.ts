// On which device a run goes. Pure: it is told what every device holds and does, and answers one of them.

/** What a run's own engine is on a device. */
export interface EngineLook {
  /** States (`stateKey`) that its weights are, or that its active runs are bringing: a run that joins one of them needs no refit of its own. */
  readonly states: ReadonlySet<string>;
  /** Since when nobody used it; the one that rests longest is refitted first, so that weights in use stay. */
  readonly restingMs: number;
}

/** One device, as a run that wants a place sees it. */
export interface DeviceLook<Name> {
  readonly name: Name;
  /** Null: it serves. Else why no new run goes there while another device serves. */
  readonly drained: "down" | "slow" | null;
  /** Runs that use it now or are on their way to it, whatever their engine. */
  readonly runs: number;
  /** Free memory as far as it is known; null: its host has not started, nothing of ours is there. */
  readonly freeBytes: number | null;
  /** Engines there, of any structure. */
  readonly engines: number;
  /** The engine of the run's structure; null: none is there. */
  readonly engine: EngineLook | null;
}

export interface PlacementRules {
  /** `load`: of the devices that have the structure the least busy one, whatever weights it has. */
  readonly by: "affinity" | "load";
  /** Memory that a further engine of the structure takes. */
  readonly engineBytes: number;
}

export interface Placement<Name> {
  readonly device: Name;
  /** A device that should get the structure too, because runs on those that have it wait for each other; null: none. */
  readonly spreadTo: Name | null;
}

/** A device that has the weights is preferred while it has at most so many more runs than the least busy one: a refit costs less than standing in a long queue. */
const affinitySlack = 2;

const drainedOrder = { slow: 1, down: 2 } as const;
const drainOf = ({ drained }: DeviceLook<unknown>): number => (drained === null ? 0 : drainedOrder[drained]);

/**
 * A device that holds the structure and the stack, else one that holds the structure, else the least busy one, then an empty one, then the one with the most free memory.
 * Throws RangeError without a device.
 */
export function placeRun<Name>(devices: readonly DeviceLook<Name>[], state: string, { by, engineBytes }: PlacementRules): Placement<Name> {
  const health = Math.min(...devices.map(drainOf));
  const open = devices.filter((device) => drainOf(device) === health);
  const least = Math.min(...open.map(({ runs }) => runs));
  const holders = open.filter(({ engine }) => engine !== null).toSorted(byLoad);
  const same = holders.find(({ engine, runs }) => by === "affinity" && engine?.states.has(state) === true && runs <= least + affinitySlack);
  if (same !== undefined) return { device: same.name, spreadTo: null };
  const fits = ({ freeBytes }: DeviceLook<Name>): boolean => freeBytes === null || freeBytes >= engineBytes;
  const others = open.filter(({ engine }) => engine === null).toSorted(byRoom);
  const [holder] = holders;
  const [first] = others;
  if (holder === undefined) {
    const chosen = others.find((device) => device.runs === first?.runs && fits(device)) ?? first;
    if (chosen === undefined) throw new RangeError("expected at least one device");
    return { device: chosen.name, spreadTo: null };
  }
  // Somebody uses every copy of the structure: two runs there take turns, and each turn is a refit.
  const further = others.find((device) => device.runs < holder.runs && fits(device));
  return { device: holder.name, spreadTo: further?.name ?? null };
}

/**
 * A device that a run which waits for its turn had better go on at, though it has to be refitted or loaded there; null: none is so much less busy.
 * `device` is where the run is.
 */
export function lessBusy<Name>(devices: readonly DeviceLook<Name>[], device: Name, engineBytes: number): Name | null {
  const runs = devices.find(({ name }) => name === device)?.runs ?? 0;
  const isBetter = (other: DeviceLook<Name>): boolean =>
    other.drained === null &&
    (other.runs === 0 ? runs > 1 : runs - other.runs > affinitySlack) &&
    (other.engine !== null || other.freeBytes === null || other.freeBytes >= engineBytes);
  const better = devices.filter((other) => other.name !== device && isBetter(other));
  return better.toSorted(byLoad)[0]?.name ?? null;
}

const byLoad = (a: DeviceLook<unknown>, b: DeviceLook<unknown>): number =>
  a.runs - b.runs || (b.engine?.restingMs ?? 0) - (a.engine?.restingMs ?? 0);

/** An empty device whose host is up, then one whose host has yet to start, then one that holds something else. */
const emptiness = ({ engines, freeBytes }: DeviceLook<unknown>): number => (engines > 0 ? 2 : freeBytes === null ? 1 : 0);

const byRoom = (a: DeviceLook<unknown>, b: DeviceLook<unknown>): number =>
  a.runs - b.runs || emptiness(a) - emptiness(b) || (b.freeBytes ?? 0) - (a.freeBytes ?? 0);
