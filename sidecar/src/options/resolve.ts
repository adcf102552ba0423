// Given options (flags over environment over file over defaults) to resolved ones. A wrong value is an error that names its source.

import { Failure } from "../failure/index.ts";
import { optionTable } from "./table.ts";
import type { OptionSpec } from "./table.ts";

type Table = typeof optionTable;
type ValueOf<S> = S extends { type: "list" }
  ? readonly string[]
  : S extends { type: "number" }
    ? number
    : S extends { type: "flag" }
      ? boolean
      : S extends { type: "choice"; choices: readonly (infer C)[] }
        ? C
        : string | null;

/** Every option with its final value; the property name is the option's own. */
export type Options = { readonly [S in Table[number] as S["name"]]: S extends { default: string; type: "text" } ? string : ValueOf<S> };
export type OptionName = keyof Options;

/** Raw values by option name, as they came from one source. */
export type RawValues = Readonly<Record<string, unknown>>;

export interface Source {
  /** Shown in errors: "--port", "REFIT_PORT", "config.toml: port". */
  readonly label: (name: string) => string;
  readonly values: RawValues;
}

export function envName(name: string): string {
  return `REFIT_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Values of `REFIT_…` variables. Lists are separated as PATH is on this platform. */
export function environmentSource(environment: Readonly<Record<string, string | undefined>>, listSeparator: string): Source {
  const values: Record<string, unknown> = {};
  for (const spec of optionTable) {
    const value = environment[envName(spec.name)];
    if (value === undefined) continue;
    values[spec.name] = spec.type === "list" ? value.split(listSeparator).filter((part) => part !== "") : value;
  }
  return { label: envName, values };
}

function wrong(source: Source, spec: OptionSpec, expected: string, value: unknown): Failure {
  return new Failure("OPTIONS_INVALID", `${source.label(spec.name)} expects ${expected}, got ${JSON.stringify(value)}`, {
    option: spec.name,
  });
}

function checked(spec: OptionSpec, value: unknown, source: Source): unknown {
  switch (spec.type) {
    case "folder":
    case "text":
      if (typeof value === "string" && value !== "") return value;
      throw wrong(source, spec, "a text that is not empty", value);
    case "list":
      if (Array.isArray(value) && value.every((item) => typeof item === "string" && item !== "")) return value;
      throw wrong(source, spec, "a list of texts", value);
    case "flag":
      if (value === true || value === "true" || value === "1" || value === "on") return true;
      if (value === false || value === "false" || value === "0" || value === "off") return false;
      throw wrong(source, spec, "on or off", value);
    case "number": {
      const number =
        typeof value === "number" ? value : typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
      if (number >= spec.min && number <= spec.max) return number;
      throw wrong(source, spec, `a number from ${spec.min} to ${spec.max}${spec.unit === "" ? "" : ` (${spec.unit})`}`, value);
    }
    case "choice":
      if (typeof value === "string" && spec.choices.includes(value)) return value;
      throw wrong(source, spec, `one of ${spec.choices.join(", ")}`, value);
  }
}

/** What a running sidecar takes over of newly read options: those that the table calls reloadable. `ignored`: others that differ, which need a restart. */
export function reloadedOptions(present: Options, next: Options): { readonly options: Options; readonly ignored: readonly OptionName[] } {
  const changed = optionTable.filter(({ name }) => JSON.stringify(present[name]) !== JSON.stringify(next[name]));
  const taken = Object.fromEntries(changed.filter(({ reload }) => reload).map(({ name }) => [name, next[name]]));
  return { options: { ...present, ...taken }, ignored: changed.filter(({ reload }) => !reload).map(({ name }) => name) };
}

/** Resolves the table against sources, strongest first. Unknown names in a source are errors, so that a typing mistake is not silently a default. */
export function resolveOptions(sources: readonly Source[]): Options {
  const known = new Set<string>(optionTable.map((spec) => spec.name));
  for (const source of sources) {
    for (const name of Object.keys(source.values)) {
      if (!known.has(name))
        throw new Failure("OPTIONS_UNKNOWN", `${source.label(name)} is not an option; run "refit-sidecar serve --help" for the list`, {
          option: name,
        });
    }
  }
  const resolved: Record<string, unknown> = {};
  for (const spec of optionTable) {
    const source = sources.find((candidate) => candidate.values[spec.name] !== undefined);
    resolved[spec.name] = source ? checked(spec, source.values[spec.name], source) : spec.default;
  }
  const options = resolved as Options;
  if ((options["tls-cert"] === null) !== (options["tls-key"] === null)) {
    throw new Failure("OPTIONS_CONFLICT", "--tls-cert and --tls-key belong together: expected both or neither, got one", {});
  }
  return options;
}
