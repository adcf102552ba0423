// Remembers content between runs. In: units as they change. Out: what an earlier run knew, by unit. Trouble with the file is told, never thrown.

import type { Reader } from "./reader.ts";
import { decodeSaved, encodeSaved } from "./saved.ts";
import type { Content } from "./unit.ts";

export interface KeeperParts {
  readonly reader: Reader;
  readonly onTrouble: (text: string) => void;
  /** What is known now: generation, and content by unit. */
  readonly current: () => { readonly generation: number; readonly units: ReadonlyMap<string, Content> };
}

export interface Keeper {
  /** Generation of the earlier run; 0 when nothing was kept. */
  readonly open: () => Promise<number>;
  readonly remembered: (unitKey: string) => Content | undefined;
  /** Every file of the folder has been seen: what was not claimed by then is gone. */
  readonly release: (folderKey: string) => void;
  /** Something changed: save soon. */
  readonly touch: () => void;
  readonly close: () => Promise<void>;
}

/** Wait for more of a burst before writing a megabyte. */
const saveDelayMs = 1000;

export function createKeeper(parts: KeeperParts): Keeper {
  const { reader } = parts;
  /** Of folders that have not been scanned in this run: a drive that is away today may be back tomorrow. */
  const old = new Map<string, Content>();
  let timer: NodeJS.Timeout | null = null;
  let saving: Promise<void> = Promise.resolve();
  let dirty = false;

  const save = async (): Promise<void> => {
    if (!dirty) return;
    dirty = false;
    const { generation, units } = parts.current();
    const text = encodeSaved(generation, new Map([...old, ...units]));
    try {
      await reader.save(text);
    } catch (error) {
      const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : String(error);
      parts.onTrouble(`the catalog could not be saved (${code}); headers will be read again at the next start`);
    }
  };

  return {
    async open() {
      const { text, reason } = await reader.load();
      const saved = text === null ? null : decodeSaved(text);
      const trouble = reason ?? (text !== null && saved === null ? "it does not hold a catalog" : null);
      if (trouble !== null) parts.onTrouble(`the saved catalog is not used (${trouble}); headers are read again`);
      for (const [key, content] of saved?.units ?? []) old.set(key, content);
      return saved?.generation ?? 0;
    },
    remembered: (unitKey) => old.get(unitKey),
    release(folderKey) {
      for (const key of old.keys()) if (key.includes(` ${folderKey}/`)) old.delete(key);
    },
    touch() {
      dirty = true;
      timer ??= setTimeout(() => {
        timer = null;
        saving = saving.then(save);
      }, saveDelayMs).unref();
    },
    async close() {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      await saving;
      await save();
    },
  };
}
