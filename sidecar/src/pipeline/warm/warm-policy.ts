// What is prepared ahead of need, and when: the part of the options that the warm-up obeys.

import { isAbsolute, relative, resolve, sep } from "node:path";
import { Failure } from "../../failure/index.ts";
import type { Options } from "../../options/index.ts";

/** `now`: as soon as a file arrives; `idle`: after everything else; `off`: only when somebody asks for it. */
export type FolderRule = "now" | "idle" | "off";

export interface WarmPolicy {
  /** Last used stacks that are brought to an engine after a start; 0 with `warm = off`. */
  readonly stacks: number;
  /** The rule of the longest folder that holds the file; `now` without one, `off` for all with `warm = off`. */
  readonly ruleFor: (path: string) => FolderRule;
  /** No background work starts at that time of day (this computer's clock). */
  readonly isQuiet: (now: Date) => boolean;
}

type WarmOptions = Pick<Options, "warm" | "warm-stacks" | "warm-folder" | "quiet-hours">;

/** Throws Failure OPTIONS_INVALID naming the option and what it expects. */
export function warmPolicy(options: WarmOptions): WarmPolicy {
  const rules = options["warm-folder"].map(folderRule).toSorted((a, b) => b.folder.length - a.folder.length);
  const quiet = options["quiet-hours"] === null ? [] : options["quiet-hours"].split(",").map((span) => quietSpan(span.trim()));
  const off = options.warm === "off";
  return {
    stacks: off ? 0 : options["warm-stacks"],
    ruleFor: (path) => (off ? "off" : (rules.find(({ folder }) => liesIn(path, folder))?.rule ?? "now")),
    isQuiet: (now) => quiet.some(({ from, to }) => within(now.getHours() * 60 + now.getMinutes(), from, to)),
  };
}

function folderRule(text: string): { readonly folder: string; readonly rule: FolderRule } {
  // The last "=": a folder's name may hold one.
  const at = text.lastIndexOf("=");
  const rule = text.slice(at + 1);
  if (at <= 0 || (rule !== "now" && rule !== "idle" && rule !== "off")) throw invalid("warm-folder", "DIR=now, DIR=idle or DIR=off", text);
  return { folder: resolve(text.slice(0, at)), rule };
}

/** By the system's own way of comparing: Windows knows no case, and its drives end in a separator. */
function liesIn(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== "" && !isAbsolute(way) && way.split(sep)[0] !== "..";
}

function quietSpan(text: string): { readonly from: number; readonly to: number } {
  const [, fromHours, fromMinutes, toHours, toMinutes] = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/.exec(text) ?? [];
  const minutes = (hours: string | undefined, rest: string | undefined): number =>
    Number(hours) < 24 && Number(rest) < 60 ? Number(hours) * 60 + Number(rest) : Number.NaN;
  const [from, to] = [minutes(fromHours, fromMinutes), minutes(toHours, toMinutes)];
  if (Number.isNaN(from) || Number.isNaN(to) || from === to)
    throw invalid("quiet-hours", "times as 22:00-07:30, several separated by commas", text);
  return { from, to };
}

/** Spans may go over midnight; the end is not part of a span. */
const within = (minute: number, from: number, to: number): boolean =>
  from < to ? minute >= from && minute < to : minute >= from || minute < to;

const invalid = (option: string, expected: string, got: string): Failure =>
  new Failure("OPTIONS_INVALID", `--${option} expects ${expected}, got ${JSON.stringify(got)}`, { option });
