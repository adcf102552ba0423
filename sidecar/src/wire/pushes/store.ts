// Adapters that clients sent by content. In: tensors, in one or several calls. Out: a safetensors file named by its SHA-256, handed to the backend.
// Nothing stays in memory but a row per adapter; on disk the least recently pushed go first, unless a stack uses them.

import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { PushedAdapter } from "../backend.ts";
import { encodeHeader, inFileOrder, type TensorSource } from "./safetensors.ts";
import { memorySources, openSpool, type Spool } from "./spool.ts";

export interface PushLimits {
  /** Tensor bytes of one adapter. */
  readonly pushBytes: number;
  /** Unfinished pushes of one session. */
  readonly open: number;
  readonly storeBytes: number;
  readonly storeCount: number;
}

export interface PushCall {
  readonly push: string;
  readonly name: string;
  readonly last: boolean;
  readonly tensors: readonly FrameTensor[];
}

export interface PushReply {
  readonly id: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly known: boolean;
}

export interface PushStore {
  /** null until the last call of a push. Throws WIRE_PUSH_*. */
  readonly push: (session: string, call: PushCall) => Promise<PushReply | null>;
  /** Forgets what a session did not finish. */
  readonly dropSession: (session: string) => Promise<void>;
  readonly storedBytes: () => number;
}

/** What the store asks of the backend. */
export interface PushOwner {
  readonly adopt: (adapter: PushedAdapter) => Promise<{ readonly id: string }>;
  /** false: in use, keep the file. */
  readonly forget: (sha256: string) => boolean;
}

interface Unfinished {
  readonly spool: Spool;
  readonly names: Set<string>;
}

/** `folder` is emptied: pushes are not kept over a restart, because a client sends again what the sidecar does not know. */
export async function createPushStore(folder: string, limits: PushLimits, owner: PushOwner): Promise<PushStore> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const unfinished = new Map<string, Map<string, Unfinished>>();
  /** SHA-256 to size, least recently pushed first. */
  const stored = new Map<string, number>();
  let storedBytes = 0;

  /** One at a time: two calls of one push must not interleave their bytes, and two pushes of one content must not both be new. */
  let tail: Promise<unknown> = Promise.resolve();
  function inTurn<Value>(work: () => Promise<Value>): Promise<Value> {
    const run = tail.then(work);
    tail = run.catch(() => undefined);
    return run;
  }

  async function evict(): Promise<void> {
    for (const [sha256, sizeBytes] of stored) {
      if (storedBytes <= limits.storeBytes && stored.size <= limits.storeCount) return;
      if (!owner.forget(sha256)) continue;
      stored.delete(sha256);
      storedBytes -= sizeBytes;
      await rm(join(folder, `${sha256}.safetensors`), { force: true });
    }
  }

  async function assemble(sources: readonly TensorSource[], name: string): Promise<PushReply> {
    if (sources.length === 0) throw new Failure("WIRE_PUSH_INVALID", "expected at least one tensor in a pushed adapter");
    const ordered = inFileOrder(sources);
    const temporary = join(folder, `${randomUUID()}.part`);
    const { sha256, sizeBytes } = await writeHashed(temporary, ordered);
    const path = join(folder, `${sha256}.safetensors`);
    const known = stored.has(sha256);
    if (known) await rm(temporary, { force: true });
    else await rename(temporary, path);
    storedBytes += known ? 0 : sizeBytes;
    stored.delete(sha256);
    stored.set(sha256, sizeBytes);
    const { id } = await owner.adopt({ path, sha256, sizeBytes, name });
    await evict();
    return { id, sha256, sizeBytes, known };
  }

  function checkNames(names: Set<string>, tensors: readonly FrameTensor[]): void {
    for (const { name } of tensors) {
      if (names.has(name)) throw new Failure("WIRE_PUSH_INVALID", "expected each tensor once in a pushed adapter, got a name twice");
      names.add(name);
    }
  }

  function checkBytes(bytes: number): void {
    if (bytes > limits.pushBytes)
      throw new Failure("WIRE_PUSH_TOO_LARGE", `expected at most ${limits.pushBytes} bytes in a pushed adapter, got ${bytes}`);
  }

  async function discard(session: string, push: string): Promise<void> {
    const mine = unfinished.get(session);
    const entry = mine?.get(push);
    mine?.delete(push);
    if (mine?.size === 0) unfinished.delete(session);
    await entry?.spool.remove();
  }

  async function spooled(session: string, { push, tensors, last, name }: PushCall): Promise<PushReply | null> {
    const mine = unfinished.get(session) ?? new Map<string, Unfinished>();
    if (!mine.has(push) && mine.size >= limits.open)
      throw new Failure("WIRE_PUSH_TOO_LARGE", `expected at most ${limits.open} unfinished pushes, finish one first`);
    const entry = mine.get(push) ?? { spool: await openSpool(join(folder, `${randomUUID()}.spool`)), names: new Set<string>() };
    mine.set(push, entry);
    unfinished.set(session, mine);
    try {
      checkNames(entry.names, tensors);
      checkBytes(tensors.reduce((sum, { data }) => sum + data.byteLength, entry.spool.bytes()));
      await entry.spool.append(tensors);
      if (!last) return null;
      const reply = await assemble(entry.spool.sources(), name);
      await discard(session, push);
      return reply;
    } catch (error) {
      await discard(session, push);
      throw error;
    }
  }

  async function take(session: string, call: PushCall): Promise<PushReply | null> {
    try {
      if (!call.last || unfinished.get(session)?.has(call.push)) return await spooled(session, call);
      checkNames(new Set(), call.tensors);
      checkBytes(call.tensors.reduce((sum, { data }) => sum + data.byteLength, 0));
      return await assemble(memorySources(call.tensors), call.name);
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw new Failure("WIRE_PUSH_FAILED", "the pushed adapter could not be stored; free space in the data folder", {}, { cause: error });
    }
  }

  return {
    push: (session, call) => inTurn(() => take(session, call)),
    dropSession: (session) =>
      inTurn(async () => {
        for (const push of [...(unfinished.get(session)?.keys() ?? [])]) await discard(session, push);
      }),
    storedBytes: () => storedBytes,
  };
}

/** Writes header and tensors, hashing on the way; synced before it is named. Leaves nothing behind when it fails. */
async function writeHashed(
  path: string,
  ordered: readonly TensorSource[],
): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  const file = await open(path, "wx", 0o600);
  try {
    const hash = createHash("sha256");
    const write = async (bytes: Uint8Array): Promise<void> => {
      hash.update(bytes);
      for (let done = 0; done < bytes.byteLength;) done += (await file.write(bytes, done)).bytesWritten;
    };
    await write(encodeHeader(ordered));
    for (const source of ordered) for await (const chunk of source.chunks()) await write(chunk);
    await file.sync();
    await file.close();
    return { sha256: hash.digest("hex"), sizeBytes: (await stat(path)).size };
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(path, { force: true });
    throw error;
  }
}
