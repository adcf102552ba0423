// The stage's door for the pipeline: arrivals in, snapshots out, and the questions that others ask about an entry.

import { LRUCache } from "lru-cache";
import { Failure } from "../failure/index.ts";
import type { ArrivalEvent, Place } from "../arrivals/types.ts";
import type { Catalog, CatalogOptions } from "./door.ts";
import { createFileTable } from "./files.ts";
import { createHasher } from "./identity.ts";
import type { HashedFile } from "./identity.ts";
import { createKeeper } from "./keeper.ts";
import { sameName } from "./names.ts";
import { createPublisher } from "./publish.ts";
import { adapterFile, createPushed } from "./pushed.ts";
import { isHeaderOf } from "./read/content.ts";
import { createReader } from "./read/index.ts";
import { createRefresher } from "./refresh.ts";
import { buildCheckpointSource } from "./source.ts";
import type { StoredFile } from "./source.ts";
import type { CatalogEntry, CheckpointSource, Identity } from "./types.ts";
import { entryOf, signatureOf } from "./unit.ts";
import type { Content, Unit } from "./unit.ts";

/** A host asks for the same source again at every refit. One has an object per parameter, about 260 bytes: half a megabyte for SDXL. */
const keptSourceBytes = 4 * 1024 * 1024;
const sourceBytes = ({ parameters }: CheckpointSource): number => 1024 + 260 * Object.keys(parameters).length;

export function createCatalog(options: CatalogOptions): Catalog {
  const reader = options.reader ?? createReader(options.storePath);
  const nowMs = options.nowMs ?? (() => performance.now());
  const files = createFileTable();
  const hasher = createHasher(reader);
  const publisher = createPublisher(nowMs);
  const lost = new Set<string>();
  const shown = new Map<string, Unit>();
  const pushed = createPushed(reader);
  const hashing = new Map<string, Promise<Identity>>();
  const sources = new LRUCache<string, CheckpointSource>({ maxSize: keptSourceBytes, sizeCalculation: sourceBytes });
  const closing = new AbortController();

  const keeper = createKeeper({
    reader,
    onTrouble: options.onStoreTrouble ?? (() => {}),
    current: () => {
      const units = new Map<string, Content>();
      for (const unit of files.units.values()) if (unit.content !== null) units.set(unit.key, unit.content);
      return { generation: publisher.snapshot().generation, units };
    },
  });

  // A snapshot is published after the change that caused it: without this its generation could miss a save that falls in between.
  publisher.subscribe(() => keeper.touch());

  const show = (unit: Unit) => {
    const entry = files.units.get(unit.key) === unit ? entryOf(unit) : null;
    if (unit.shownAs !== null && unit.shownAs !== entry?.id) {
      shown.delete(unit.shownAs);
      publisher.remove(unit.shownAs);
    }
    unit.shownAs = entry?.id ?? null;
    if (entry !== null) {
      shown.set(entry.id, unit);
      publisher.put(entry);
    }
    keeper.touch();
  };

  const refresher = createRefresher({ files, reader, remembered: keeper.remembered, isLost: (key) => lost.has(key), show });

  const ofFolder = (key: string) => [...files.units.values()].filter((unit) => unit.folder.key === key);

  const acceptFile = (event: ArrivalEvent & Place, departed: Map<string, Content>) => {
    const concerned = files.apply(event);
    if (event.type === "gone") for (const unit of concerned) if (unit.content !== null) departed.set(event.path, unit.content);
    const carried = event.type === "settled" && event.renamedFrom !== undefined ? departed.get(event.renamedFrom.path) : undefined;
    for (const unit of concerned) refresher.refresh(unit, carried);
  };

  const accept = (batch: readonly ArrivalEvent[]) => {
    const departed = new Map<string, Content>();
    for (const event of batch) {
      switch (event.type) {
        case "settled":
        case "changed":
        case "gone":
        case "refused":
          acceptFile(event, departed);
          break;
        case "scanned": {
          const { key } = event.folder;
          if (lost.delete(key)) for (const unit of ofFolder(key)) refresher.refresh(unit);
          void refresher.idle().then(() => keeper.release(key));
          break;
        }
        case "lost":
          lost.add(event.folder.key);
          for (const unit of ofFolder(event.folder.key)) refresher.refresh(unit);
          break;
        case "dropped":
          lost.delete(event.folder.key);
          for (const unit of files.drop(event.folder)) refresher.refresh(unit);
          break;
      }
    }
  };

  const entry = (id: string): CatalogEntry => {
    const found = publisher.get(id);
    if (found !== undefined) return found;
    throw new Failure("CATALOG_ENTRY_UNKNOWN", "expected the id of a catalogued file; there is none by this id. List the catalog again.", {
      id,
    });
  };

  const usable = (id: string, kind?: CatalogEntry["kind"]): CatalogEntry => {
    const found = entry(id);
    if (found.problem !== null)
      throw new Failure("CATALOG_ENTRY_UNUSABLE", `${found.name} cannot be used: ${found.problem.message}`, {
        id,
        problem: found.problem.code,
      });
    if (kind !== undefined && found.kind !== kind)
      throw new Failure(
        "CATALOG_ENTRY_UNUSABLE",
        `expected ${kind === "adapter" ? "an adapter" : "a checkpoint"}; ${found.name} is a ${found.kind}`,
        { id },
      );
    return found;
  };

  /** The unit behind a usable entry, its files at rest, and what is known of them. */
  const atRest = (id: string): { readonly unit: Unit; readonly content: Content; readonly parts: readonly HashedFile[] } => {
    const unit = shown.get(id);
    const content = unit?.content ?? null;
    if (unit === undefined || content === null) throw new TypeError(`a usable entry without content: ${id}`);
    const parts = unit.members.flatMap(({ name, path, state }) => (state.is === "settled" ? [{ name, path, stamp: state.stamp }] : []));
    // A file has moved on and its header is just being read again.
    if (signatureOf(parts) !== content.signature)
      throw new Failure(
        "CATALOG_FILE_CHANGED",
        "expected the file as it was catalogued; it was replaced or written to since. Ask again when the catalog has caught up.",
        { id },
      );
    return { unit, content, parts };
  };

  /** One hash per content and proof at a time, whoever asks; its result is kept only while the files are still the same. */
  const hashOnce = (id: string, proof: Identity["proof"]): Promise<Identity> => {
    const { unit, content, parts } = atRest(id);
    const task = `${proof}\n${unit.key}\n${content.signature}`;
    const known = hashing.get(task);
    if (known !== undefined) return known;
    const hash = proof === "full" ? hasher.full(parts, content.identity?.sampled, closing.signal) : hasher.sampled(parts);
    const result = hash
      .then((identity) => {
        if (unit.content?.signature === content.signature && unit.content.identity?.proof !== "full") {
          unit.content = { ...unit.content, identity };
          show(unit);
        }
        return identity;
      })
      .finally(() => hashing.delete(task));
    hashing.set(task, result);
    return result;
  };

  const identity = async (id: string, proof?: "full"): Promise<Identity> => {
    const found = usable(id);
    if (found.identity?.proof === "full") return found.identity;
    if (found.kind === "adapter" || proof === "full") return hashOnce(id, "full");
    if (found.identity !== null) return found.identity;
    const sampled = await hashOnce(id, "sampled");
    // A confirmation that fails leaves the sampled identity; the next one that asks tries again.
    if (shown.has(id)) void hashOnce(id, "full").catch(() => undefined);
    return sampled;
  };

  const checkpointSource = async (id: string): Promise<CheckpointSource> => {
    usable(id, "checkpoint");
    const { content, parts } = atRest(id);
    const key = `${id}\n${content.signature}`;
    const known = sources.get(key);
    if (known !== undefined) return known;
    const read: StoredFile[] = [];
    for (const { path, stamp } of parts) {
      const header = await reader.header(path);
      if (!isHeaderOf(header, stamp))
        throw new Failure(
          "CATALOG_FILE_CHANGED",
          "expected the checkpoint as it was catalogued; it was replaced or written to since. Ask again when the catalog has caught up.",
          { id },
        );
      read.push({ path, header, notes: await reader.notes(path, header) });
    }
    const source = buildCheckpointSource(read);
    sources.set(key, source);
    return source;
  };

  return {
    async open() {
      publisher.startAt(await keeper.open());
    },
    accept,
    snapshot: publisher.snapshot,
    onChange: publisher.subscribe,
    async idle() {
      await refresher.idle();
      publisher.flush();
    },
    entry,
    present: (id) => publisher.get(id) ?? null,
    find(kind, idOrName) {
      const byId = publisher.get(idOrName);
      if (byId?.kind === kind) return byId;
      const named = [...publisher.snapshot().entries.values()].filter(
        (candidate) => candidate.kind === kind && sameName(candidate.name, idOrName),
      );
      const [only] = named;
      if (only === undefined)
        throw new Failure(
          "CATALOG_ENTRY_UNKNOWN",
          `expected the id or the name of a catalogued ${kind}, got ${JSON.stringify(idOrName.slice(0, 100))}. List the catalog again.`,
          {},
        );
      if (named.length > 1)
        throw new Failure(
          "CATALOG_NAME_AMBIGUOUS",
          `expected a name that one ${kind} has; ${named.length} have it. Use one of the ids ${named.map(({ id }) => id).join(", ")}.`,
          {},
        );
      return only;
    },
    identity,
    publish: publisher.flush,
    adapterFile(id) {
      usable(id, "adapter");
      const own = pushed.file(id);
      if (own !== null) return own;
      const [part] = atRest(id).parts;
      if (part === undefined) throw new TypeError(`an adapter without a file: ${id}`);
      return adapterFile(part.path, part.stamp);
    },
    checkpointSource,
    async adopt(file) {
      const adopted = await pushed.adopt(file);
      publisher.put(adopted);
      // Whoever pushed it names it in the very next call, and that looks into the snapshot.
      publisher.flush();
      return adopted;
    },
    forget(id) {
      if (pushed.forget(id)) publisher.remove(id);
    },
    async close() {
      closing.abort(new Failure("CATALOG_CLOSING", "the sidecar is ending", {}));
      await refresher.idle();
      publisher.close();
      await keeper.close();
      await reader.close();
    },
  };
}
