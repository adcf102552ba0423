// Which files there are, and which unit each belongs to. In: arrival events. Out: units whose content has to be looked at again. Pure.

import type { ArrivalEvent, Place, WatchedFolder } from "../arrivals/types.ts";
import { completeShards, indexedName, shardName, shardNames } from "./names.ts";
import { newUnit } from "./unit.ts";
import type { Member, Unit } from "./unit.ts";

export interface FileTable {
  /** Applies an event about a file. Returns the units that it concerns; one that has lost its last file is no longer in `units`. */
  readonly apply: (event: ArrivalEvent & Place) => readonly Unit[];
  /** Drops every file of a folder. */
  readonly drop: (folder: WatchedFolder) => readonly Unit[];
  readonly units: ReadonlyMap<string, Unit>;
  /** Files that the unit needs, in order; null for one that is not there. */
  readonly membersOf: (unit: Unit) => readonly { readonly name: string; readonly member: Member | null }[];
  readonly tableOf: (unit: Unit) => Member | null;
  /** Takes what a shard table lists. Files that it names otherwise than `-00001-of-00002` belong to this unit from now on. Returns units to look at again. */
  readonly setTable: (unit: Unit, readAs: string, files: readonly string[]) => readonly Unit[];
}

const incompleteCodes = new Set(["ARRIVALS_INCOMPLETE", "ARRIVALS_NOT_SAFETENSORS"]);

function folderOf(name: string): string {
  return name.slice(0, name.lastIndexOf("/") + 1);
}

function memberOf(event: ArrivalEvent & Place): Member | null {
  const place = { folder: event.folder, name: event.name, path: event.path };
  switch (event.type) {
    case "settled":
      return { ...place, state: { is: "settled", stamp: event.stamp } };
    case "changed":
      return { ...place, state: { is: "changing" } };
    case "refused":
      return {
        ...place,
        state: {
          is: "refused",
          problem: { code: event.code, message: event.message },
          stamp: event.stamp,
          look: incompleteCodes.has(event.code),
        },
      };
    default:
      return null;
  }
}

export function createFileTable(): FileTable {
  const files = new Map<string, Member>();
  const units = new Map<string, Unit>();
  /** Files that a shard table names in its own way: file → unit. */
  const claims = new Map<string, string>();
  const fileKey = (folder: WatchedFolder, name: string) => `${folder.key}/${name}`;

  const unitKey = (folder: WatchedFolder, name: string): string => {
    const whole = indexedName(name) ?? shardName(name)?.whole ?? null;
    return claims.get(fileKey(folder, name)) ?? (whole === null ? `file ${fileKey(folder, name)}` : `shards ${fileKey(folder, whole)}`);
  };

  const unitOf = (folder: WatchedFolder, name: string): Unit => {
    const key = unitKey(folder, name);
    const known = units.get(key);
    if (known !== undefined) return known;
    const whole = indexedName(name) ?? shardName(name)?.whole ?? null;
    const unit = newUnit(key, folder, whole ?? name, whole !== null);
    units.set(key, unit);
    return unit;
  };

  const expectedOf = (unit: Unit): readonly string[] => {
    if (!unit.sharded) return [unit.name];
    if (unit.table !== null && unit.table.files.length > 0)
      return completeShards(unit.table.files).map((name) => folderOf(unit.name) + name);
    // Without a table, any shard tells how many there are.
    for (const member of unit.members) if (shardName(member.name) !== null) return shardNames(member.name);
    return [];
  };

  const release = (unit: Unit): Unit[] => {
    const freed: Unit[] = [];
    for (const [key, owner] of claims) {
      if (owner !== unit.key) continue;
      claims.delete(key);
      const member = files.get(key);
      if (member !== undefined) freed.push(unitOf(member.folder, member.name));
    }
    return freed;
  };

  /** Brings a unit's list of present files up to date; drops a unit without any. */
  const settleMembers = (unit: Unit, changedName: string): void => {
    const names = new Set(unit.members.map((member) => member.name)).add(changedName);
    for (const name of expectedOf(unit)) names.add(name);
    const isOwn = (name: string) => indexedName(name) === null && unitKey(unit.folder, name) === unit.key;
    unit.members = [...names]
      .filter(isOwn)
      .sort()
      .flatMap((name) => files.get(fileKey(unit.folder, name)) ?? []);
    unit.version += 1;
    if (unit.members.length === 0 && unit.table === null) units.delete(unit.key);
  };

  return {
    units,
    apply(event) {
      const key = fileKey(event.folder, event.name);
      const member = memberOf(event);
      const unit = unitOf(event.folder, event.name);
      if (member === null) files.delete(key);
      else files.set(key, member);
      const concerned = [unit];
      if (indexedName(event.name) !== null) {
        if (member === null) {
          unit.table = null;
          concerned.push(...release(unit));
        } else {
          unit.table = { name: event.name, readAs: null, files: unit.table?.files ?? [] };
        }
      }
      for (const each of concerned) settleMembers(each, event.name);
      return concerned;
    },
    drop(folder) {
      const dropped: Unit[] = [];
      for (const [key, member] of files) if (member.folder.key === folder.key) files.delete(key);
      for (const [key, unit] of units) {
        if (unit.folder.key !== folder.key) continue;
        units.delete(key);
        unit.members = [];
        unit.version += 1;
        dropped.push(unit);
      }
      for (const [key, owner] of claims) if (!units.has(owner)) claims.delete(key);
      return dropped;
    },
    membersOf: (unit) => expectedOf(unit).map((name) => ({ name, member: files.get(fileKey(unit.folder, name)) ?? null })),
    tableOf: (unit) => (unit.table === null ? null : (files.get(fileKey(unit.folder, unit.table.name)) ?? null)),
    setTable(unit, readAs, names) {
      if (unit.table === null) return [];
      const concerned = release(unit);
      unit.table = { name: unit.table.name, readAs, files: names };
      for (const short of names) {
        const name = folderOf(unit.name) + short;
        if (shardName(name)?.whole === unit.name) continue;
        const member = files.get(fileKey(unit.folder, name));
        // Its own unit, if it had one, loses its only file.
        if (member !== undefined) {
          const own = unitOf(member.folder, name);
          if (own !== unit && !own.sharded) {
            own.members = [];
            own.version += 1;
            units.delete(own.key);
            concerned.push(own);
          }
        }
        claims.set(fileKey(unit.folder, name), unit.key);
      }
      settleMembers(unit, unit.name);
      return concerned;
    },
  };
}
