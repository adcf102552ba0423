// Notes and pictures of adapters, asked for when a row is seen, the rest of the notes while nothing else is wanted. Nothing is asked twice until its file changes.

import type { WireResult } from "@refit-sidecar/protocol";
import type { Client } from "../wire/client.ts";
import { onceAFrame } from "./frames.ts";

export type AdapterNotes = WireResult<"catalog.notes">["notes"][number];

export interface Notes {
  readonly of: (id: string) => AdapterNotes | undefined;
  /** Address of a picture for an <img>; null while it is unknown, or when there is none. */
  readonly pictureOf: (id: string) => string | null;
  /** These rows are on the screen: they come first. */
  readonly seen: (ids: readonly string[]) => void;
  /** The whole list: its notes follow in the background, for filters and search. */
  readonly all: (ids: readonly string[]) => void;
  /** A file was changed or removed. */
  readonly forget: (ids: readonly string[]) => void;
  /** Listeners hear whose notes or picture came. */
  readonly subscribe: (listener: (ids: ReadonlySet<string>) => void) => () => void;
}

const atOnce = 50;
const keptPictures = 200;
/** Between two questions of the background, so that a run on the same computer does not notice. */
const pauseMs = 60;

export function createNotes(client: Client): Notes {
  const notes = new Map<string, AdapterNotes>();
  const pictures = new Map<string, string | null>();
  const asked = new Set<string>();
  const listeners = new Set<(ids: ReadonlySet<string>) => void>();
  let visible: readonly string[] = [];
  let whole: readonly string[] = [];
  /** All before this place of `whole` were asked for. */
  let reached = 0;
  let working = false;
  let changed = new Set<string>();

  /** Several answers in a row are one drawing. */
  const tell = onceAFrame(() => {
    const ids = changed;
    changed = new Set();
    for (const listener of listeners) listener(ids);
  });

  const unknown = (ids: readonly string[]): string[] => ids.filter((id) => !asked.has(id)).slice(0, atOnce);

  function unknownOfAll(): string[] {
    const found: string[] = [];
    for (; reached < whole.length && found.length < atOnce; reached += 1) {
      const id = whole[reached];
      if (id !== undefined && !asked.has(id)) found.push(id);
    }
    return found;
  }

  async function askNotes(ids: readonly string[]): Promise<void> {
    for (const id of ids) asked.add(id);
    const answer = await client.read("catalog.notes", { ids: [...ids] });
    for (const each of answer.notes) {
      notes.set(each.id, each);
      changed.add(each.id);
    }
    tell();
  }

  async function askPicture(id: string): Promise<void> {
    pictures.set(id, null);
    const { picture } = await client.read("catalog.preview", { id });
    pictures.set(id, picture === null ? null : `data:${picture.type};base64,${picture.data}`);
    for (const old of pictures.keys()) {
      if (pictures.size <= keptPictures) break;
      if (!visible.includes(old)) pictures.delete(old);
    }
    changed.add(id);
    tell();
  }

  async function work(): Promise<void> {
    for (;;) {
      const wanted = unknown(visible);
      const picture = visible.find((id) => notes.get(id)?.preview === true && !pictures.has(id));
      const rest = wanted.length > 0 ? wanted : picture === undefined ? unknownOfAll() : [];
      if (rest.length === 0 && picture === undefined) return;
      if (rest.length > 0) await askNotes(rest);
      else if (picture !== undefined) await askPicture(picture);
      if (wanted.length === 0 && picture === undefined) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  function start(): void {
    if (working) return;
    working = true;
    void work()
      // An older sidecar has no notes; rows do without.
      .catch(() => undefined)
      .finally(() => (working = false));
  }

  return {
    of: (id) => notes.get(id),
    pictureOf: (id) => pictures.get(id) ?? null,
    seen(ids) {
      visible = ids;
      start();
    },
    all(ids) {
      whole = ids;
      reached = 0;
      start();
    },
    forget(ids) {
      for (const id of ids) {
        asked.delete(id);
        pictures.delete(id);
      }
      reached = 0;
      start();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
