import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, realpath, rename, rm, stat, symlink, unlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Failure } from "../failure/index.ts";
import { replaceFile } from "../files/index.ts";
import type { InstallAction, InstallPlan } from "./types.ts";

/** Bytecode and links of a checkout do not travel. */
const leftOut = new Set(["__pycache__", ".pytest_cache", "node_modules"]);

/** Copies beside the place first, so that a copy cut short is never taken for a plugin: folders that start with a dot are not loaded by any UI. */
async function copyWhole(from: string, to: string): Promise<void> {
  const partial = join(dirname(to), `.${basename(to)}.partial`);
  await rm(partial, { recursive: true, force: true });
  await cp(from, partial, { recursive: true, filter: (path) => !leftOut.has(basename(path)) });
  // Beside a plugin in a checkout; a released one has them inside.
  const families = join(dirname(from), "protocol", "families");
  if (existsSync(families)) await cp(families, join(partial, "refit_sidecar_plugin", "described"), { recursive: true });
  await rename(partial, to);
}

/** A text of a UI's folder, whole or not at all. What the user made of the place stays: its rights, and a link to where it lies. */
async function replaceText(path: string, text: string): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const mode = await stat(target).then(
    (found) => found.mode & 0o777,
    () => 0o666,
  );
  await replaceFile(target, (handle) => handle.writeFile(text), { mode });
}

function run(command: readonly string[]): Promise<void> {
  const [program, ...args] = command;
  if (program === undefined) throw new TypeError("an action to run needs a command");
  return new Promise((done, failed) => {
    // stdout stays free for the command line's own result.
    const child = spawn(program, args, { stdio: ["ignore", 2, 2] });
    child.once("error", (cause) =>
      failed(
        new Failure(
          "INSTALL_COMMAND_FAILED",
          `expected ${basename(program)} to run; it could not be started. Run it by hand: ${command.join(" ")}`,
          {},
          { cause },
        ),
      ),
    );
    child.once("exit", (code) =>
      code === 0
        ? done()
        : failed(
            new Failure(
              "INSTALL_COMMAND_FAILED",
              `expected ${basename(program)} to succeed; it ended with ${code ?? "a signal"}. Run it by hand: ${command.join(" ")}`,
              { code },
            ),
          ),
    );
  });
}

/** What systems answer where the disk takes no links: FAT and exFAT, network drives, Wine. */
const linklessCodes = new Set(["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EPERM", "EINVAL"]);

type MakeLink = (to: string, at: string) => Promise<void>;

/** Only a junction needs no special right on Windows; elsewhere the kind is ignored. */
const makeJunction: MakeLink = (to, at) => symlink(to, at, "junction");

/** Returns what the user has to know of it, or null. */
async function link({ at, to, note }: InstallAction & { readonly kind: "link" }, makeLink: MakeLink): Promise<string | null> {
  await mkdir(dirname(at), { recursive: true });
  try {
    await makeLink(to, at);
    return null;
  } catch (error) {
    if (!(error instanceof Error && "code" in error && linklessCodes.has(String(error.code)))) throw error;
  }
  await copyWhole(to, at);
  await writeFile(join(at, note.file), note.text);
  return "The disk of the UI takes no links, so the plugin was copied: run this command again after each update of the sidecar.";
}

async function doAction(action: InstallAction, makeLink: MakeLink): Promise<string | null | void> {
  switch (action.kind) {
    case "link":
      return link(action, makeLink);
    case "copy":
      await mkdir(dirname(action.to), { recursive: true });
      return copyWhole(action.from, action.to);
    case "write":
      return replaceText(action.path, action.text);
    case "unlink":
      return unlink(action.path);
    case "remove":
      return rm(action.path, { recursive: true });
    case "run":
      return run(action.command);
    default:
      action satisfies never;
  }
}

/** Does a plan's actions in order; returns what turned out otherwise than planned. Throws Failure INSTALL_DISK_REFUSED or INSTALL_COMMAND_FAILED; earlier actions stay done. */
export async function applyPlan(
  plan: InstallPlan,
  told: (action: InstallAction) => void = () => undefined,
  makeLink: MakeLink = makeJunction,
): Promise<readonly string[]> {
  const notes: string[] = [];
  for (const action of plan.actions) {
    told(action);
    try {
      const note = await doAction(action, makeLink);
      if (note) notes.push(note);
    } catch (cause) {
      if (cause instanceof Failure) throw cause;
      const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown";
      throw new Failure(
        "INSTALL_DISK_REFUSED",
        `expected to ${action.kind} in the UI's plugins folder; the system answered ${code}. Close the UI, see to the folder's permissions, and run the command again.`,
        { kind: action.kind, code },
        { cause },
      );
    }
  }
  return notes;
}
