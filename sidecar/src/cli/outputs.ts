// An output never lands on something that the command reads. Files are compared as what they are (device and inode; the place that a new file will have), never as
// texts: `./a`, `x/../a`, a symbolic link, a hard link and another case of the letters are all one file.

import { open, readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { wholeCheckpoint } from "../catalog/index.ts";
import { Failure, type FailureCode } from "../failure/index.ts";

/** Something that a command reads, and what to call it in a message. */
export interface Input {
  readonly what: string;
  readonly path: string;
}

const foldsCase = process.platform === "win32" || process.platform === "darwin";

async function statOrNull(path: string) {
  return stat(path, { bigint: true }).catch(() => null);
}

interface FileIdentity {
  /** It is there now, by device and inode: hard links share it. */
  readonly present: string | null;
  /** Where it lies or will lie, all links followed. null: not even its folder is there. */
  readonly place: string | null;
}

async function identityOf(path: string): Promise<FileIdentity> {
  const target = await realpath(path).catch(() => resolve(path));
  const [found, folder] = await Promise.all([statOrNull(target), statOrNull(dirname(target))]);
  const name = basename(target).normalize("NFC");
  return {
    present: found === null ? null : `${found.dev}:${found.ino}`,
    place: folder === null ? null : `${folder.dev}:${folder.ino}/${foldsCase ? name.toLowerCase() : name}`,
  };
}

const sameFile = (a: FileIdentity, b: FileIdentity): boolean =>
  (a.present !== null && a.present === b.present) || (a.place !== null && a.place === b.place);

const refused = (code: FailureCode, message: string) => new Failure(code, message, {});

/** A file is written as a new one and renamed into place: its folder has to be there, and what is in the place must be a plain file. */
async function requirePlace(code: FailureCode, option: string, out: string): Promise<void> {
  const there = await statOrNull(out);
  if (there?.isDirectory() === true) throw refused(code, `${option} expects the file to write, ${out} is a folder; name a file in it`);
  // The new file would take its place: /dev/null would be a file for every program of the computer.
  if (there !== null && !there.isFile())
    throw refused(code, `${option} expects the file to write, ${out} is a device, a pipe or a socket; name a file`);
  const folder = await statOrNull(dirname(resolve(out)));
  if (folder === null) throw refused(code, `the folder of ${option} does not exist: ${dirname(out)}; make it first, or write elsewhere`);
  if (!folder.isDirectory()) throw refused(code, `the folder of ${option} is a file: ${dirname(out)}; write elsewhere`);
}

/** All files of a checkpoint as inputs: the file, or its table and every shard. What is wrong with it is for its reader to say. */
export async function checkpointInputs(what: string, path: string): Promise<readonly Input[]> {
  const whole = await wholeCheckpoint(path).catch(() => null);
  if (whole === null) return [{ what, path }];
  return [{ what, path }, ...whole.files.map((file) => ({ what: whole.files.length === 1 ? what : `a shard of ${what}`, path: file }))];
}

/** Every file of a folder as an input. */
export async function folderInputs(what: string, folder: string): Promise<readonly Input[]> {
  const names = await readdir(folder).catch((): string[] => []);
  return names.map((name) => ({ what, path: join(folder, name) }));
}

export interface OutputRequest {
  readonly out: string;
  /** How the user names it: `--out`, or the argument. */
  readonly option: string;
  /** Code of the refusal, one that means "the arguments are wrong". */
  readonly code: FailureCode;
  readonly inputs: readonly Input[];
  /** What the command writes, and how such a file begins: only an older one of these is replaced. Absent: whatever is there may be. */
  readonly replaces?: { readonly what: string; readonly begins: string };
}

/** An older file of the same command, or an empty one. Throws Failure `code` for any other: a model that is replaced by a report is gone. */
async function requireOwnKind(
  code: FailureCode,
  option: string,
  out: string,
  { what, begins }: NonNullable<OutputRequest["replaces"]>,
): Promise<void> {
  const handle = await open(out).catch(() => null);
  if (handle === null) return;
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(64), 0, 64, 0);
    const start = buffer.subarray(0, bytesRead).toString("latin1").replace(/\s+/g, " ");
    if (bytesRead === 0 || start.startsWith(begins)) return;
  } finally {
    await handle.close();
  }
  throw refused(code, `${option} is a file of another kind, which would be lost: ${out} is no ${what}; choose another place`);
}

/** Checks an output before any work is done. Throws Failure `code` for an output that is one of the inputs, that has no folder, that is a folder, a device or a pipe, or that is of another kind. */
export async function checkOutput({ out, option, code, inputs, replaces }: OutputRequest): Promise<void> {
  await requirePlace(code, option, out);
  const own = await identityOf(out);
  for (const { what, path } of inputs) {
    if (sameFile(await identityOf(path), own))
      throw refused(
        code,
        `the output would overwrite one of its inputs: ${out} is ${what}${path === out ? "" : ` (${path})`}; choose another ${option}`,
      );
  }
  if (replaces !== undefined) await requireOwnKind(code, option, out, replaces);
}

export interface OutputFolderRequest extends OutputRequest {
  /** Whether a folder with these names was made by this command, so that it may be replaced. */
  readonly isOurs: (names: readonly string[]) => boolean;
}

/** Checks a folder that a command makes anew, what was there before going away. Throws Failure `code` for a file, for a folder with anything in it that is not ours, and for one that holds an input. */
export async function checkOutputFolder({ out, option, code, inputs, isOurs }: OutputFolderRequest): Promise<void> {
  const found = await statOrNull(out);
  if (found === null) return;
  if (!found.isDirectory()) throw refused(code, `${option} expects a folder to make, ${out} is a file; choose another`);
  const names = await readdir(out);
  if (names.length > 0 && !isOurs(names))
    throw refused(
      code,
      `${option} expects a folder to make, or one that this command made before: ${out} holds other files (${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}) and would be emptied; choose another`,
    );
  const own = await realpath(out);
  for (const { what, path } of inputs) {
    const real = await realpath(path).catch(() => resolve(path));
    if (real.startsWith(own + sep))
      throw refused(code, `the output would remove one of its inputs: ${what} lies in ${out}; choose another ${option}`);
  }
}

/** What several jobs of one command read and write, so that none writes where another does. */
export interface OutputLedger {
  /** Remembers a job. `label` names it in messages ("line 3"). */
  readonly add: (label: string, out: string, inputs: readonly Input[]) => Promise<void>;
  /**
   * Throws Failure `code` when an earlier job has the same output, or the output is a present file that another job reads. A job may read what an earlier one makes: that file
   * was not there when the command began.
   */
  readonly check: (label: string) => void;
}

export function outputLedger(code: FailureCode): OutputLedger {
  interface Job {
    readonly label: string;
    readonly path: string;
    readonly out: FileIdentity;
  }
  const jobs = new Map<string, Job>();
  /** First job that writes a place; jobs that read a file. */
  const writers = new Map<string, Job>();
  const readers = new Map<string, Set<string>>();
  const keysOf = ({ present, place }: FileIdentity): readonly string[] => [present, place].filter((key) => key !== null);
  return {
    async add(label, out, inputs) {
      const job: Job = { label, path: out, out: await identityOf(out) };
      jobs.set(label, job);
      for (const key of keysOf(job.out)) if (!writers.has(key)) writers.set(key, job);
      for (const { path } of inputs)
        for (const key of keysOf(await identityOf(path))) readers.set(key, (readers.get(key) ?? new Set()).add(label));
    },
    check(label) {
      const job = jobs.get(label);
      if (job === undefined) throw new TypeError(`no job ${label} was added`);
      for (const key of keysOf(job.out)) {
        const writer = writers.get(key);
        if (writer !== undefined && writer !== job)
          throw refused(code, `${label} would overwrite ${job.path}, which ${writer.label} writes; give each job its own "out"`);
        if (job.out.present === null) continue;
        const reader = [...(readers.get(key) ?? [])].find((other) => other !== label);
        if (reader !== undefined) throw refused(code, `${label} would overwrite ${job.path}, which ${reader} reads; give it another "out"`);
      }
    },
  };
}
