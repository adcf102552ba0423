// protocol/families/*.json, checked, as one table for each language. A family that is `like` another takes the fields that it does not give.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { replaceBetween } from "./between.mjs";

/** Descriptions in list order. Throws with the file's name and the field that is wrong. */
export function readFamilies(folder, schema) {
  const raw = new Map(
    readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .map((name) => [name.slice(0, -".json".length), JSON.parse(readFileSync(join(folder, name), "utf8"))]),
  );
  const place = (name) => raw.get(name).listed ?? Infinity;
  const names = [...raw.keys()].sort(
    (a, b) =>
      (place(a) < place(b) ? -1 : place(a) > place(b) ? 1 : 0) ||
      (raw.get(a).checkpoint?.order ?? 0) - (raw.get(b).checkpoint?.order ?? 0) ||
      (a < b ? -1 : 1),
  );
  return names.map((name) => {
    const own = raw.get(name);
    const base = own.like === undefined ? {} : raw.get(own.like);
    if (base === undefined) throw new Error(`${name}.json: like names a family without a description, ${own.like}`);
    const { like: _like, listed: _listed, ...whole } = { ...base, ...own };
    const checked = schema.safeParse(whole);
    if (!checked.success) throw new Error(`${name}.json: ${z.prettifyError(checked.error)}`);
    if (checked.data.family !== name) throw new Error(`${name}.json: its family is called ${checked.data.family}`);
    checkInputs(checked.data);
    return checked.data;
  });
}

/** Argument and engine input of everything that a call feeds, lists taken apart. */
const fedBy = (call) =>
  [
    call.inputs,
    call.finer ?? {},
    call.settings ?? {},
    call.options ?? {},
    call.controls ?? {},
    call.words?.inputs ?? {},
    call.words?.settings ?? {},
  ]
    .flatMap(Object.entries)
    .flatMap(([argument, names]) => [names].flat().map((name) => [argument, name.input ?? name]));

/** Settings of a call, as the table of the plugin has them. */
const settings = (call) =>
  Object.fromEntries(Object.entries(call.settings ?? {}).map(([name, to]) => [name, typeof to === "string" ? to : [to.input, to.is]]));

function checkInputs({ family, inputs = [], calls = [] }) {
  const known = new Set(inputs.map(({ name }) => name));
  for (const call of calls) {
    const named = new Set([
      ...call.arguments,
      ...Object.keys(call.inputs).filter((name) => name.includes(".")),
      ...Object.keys(call.options ?? {}),
      ...Object.keys(call.controls ?? {}),
      ...Object.keys(call.settings ?? {}),
      ...(call.words?.arguments ?? []),
      ...Object.keys(call.words?.settings ?? {}),
    ]);
    for (const [argument, name] of fedBy(call)) {
      if (!known.has(name)) throw new Error(`${family}.json: ${argument} feeds ${name}, which is no engine input of the family`);
      if (!named.has(argument)) throw new Error(`${family}.json: ${argument} is not among the arguments`);
    }
  }
}

/** Models without a family, checked. A family's name in braces stands for its title. */
export function readOtherModels(file, schema, families) {
  const title = (name) => {
    const found = families.find(({ family }) => family === name);
    if (found === undefined) throw new Error(`${file}: {${name}} names a family without a description`);
    return found.title;
  };
  const filled = (text) => text.replace(/\{([^}]*)\}/g, (_, name) => title(name));
  return schema.parse(JSON.parse(readFileSync(file, "utf8"))).map((one) => ({ ...one, title: filled(one.title) }));
}

export function typescriptTable(families, others) {
  return `// The families' descriptions. Generated from protocol/families by \`npm run generate\`; do not edit.

import type { FamilyDescription, OtherModels } from "./schema.ts";

export const familyNames = [${families.map(({ family }) => JSON.stringify(family)).join(", ")}] as const;

export const familyTable: readonly FamilyDescription[] = [
${families.map((one) => `  ${JSON.stringify(one)},`).join("\n")}
];

export const otherModelTable: OtherModels = [
${others.map((one) => `  ${JSON.stringify(one)},`).join("\n")}
];
`;
}

/** The table of families in a page, between its two marks. */
export function familyPage(families, page) {
  const spelled = ({ spellings = [], layout }) => {
    const names = layout === "unet" ? ["native", "diffusers"] : ["native", "diffusers", "file"];
    const rows = [
      ["native", ["diffusion_model.", "lora_unet_"]],
      ["diffusers", []],
      ["file", []],
    ].map(([kind, usual]) => [
      kind,
      [
        ...usual,
        ...spellings
          .filter((row) => row.names === kind && row.mode !== "extended")
          .map(({ prefix, form }) => (form === "processor" ? `${prefix}…processor` : prefix === "" ? "none" : prefix)),
      ],
    ]);
    return rows
      .filter(([kind, prefixes]) => names.includes(kind) && prefixes.length > 0)
      .map(([kind, prefixes]) => `${kind}: ${prefixes.map((prefix) => (prefix === "none" ? "no prefix" : `\`${prefix}\``)).join(", ")}`)
      .join("; ");
  };
  const lines = families.map(
    (one) =>
      `| \`${one.family}\` | ${one.title} | ${one.layout === "unet" ? "UNet" : (one.diffusers?.class ?? "the same names")} | ${spelled(one)} |`,
  );
  const table = `| family | models | diffusers' class | adapter names that ComfyUI accepts |\n|---|---|---|---|\n${lines.join("\n")}`;
  return replaceBetween(page, "families", table, "docs/develop/adapters.md");
}

/** One JSON file for the Python hosts. */
export const hostTable = (families) => `[\n${families.map((one) => JSON.stringify(one)).join(",\n")}\n]\n`;

const quote = (text) => JSON.stringify(text);
/** One line, or one line an item where that would be too long. */
const held = (open, items, close) => {
  const line = `${open}${items.join(", ")}${close}`;
  return line.length <= 120 ? line : `${open}\n${items.map((item) => `            ${item},\n`).join("")}        ${close}`;
};
const tuple = (texts) => (texts.length === 1 ? `(${quote(texts[0])},)` : held("(", texts.map(quote), ")"));

const mapping = (table) =>
  held(
    "{",
    Object.entries(table).map(([argument, name]) => `${quote(argument)}: ${Array.isArray(name) ? tuple(name) : quote(name)}`),
    "}",
  );

/** What the plugin asks: which class of a UI is served, and how its call feeds the engine. */
export function pluginTable(families) {
  const seen = new Map();
  const rows = families.flatMap(({ family, title, inputs = [], calls = [] }) =>
    calls.map((call) => {
      const names = new Set(fedBy(call).map(([, name]) => name));
      const fed = inputs.filter(({ name }) => names.has(name));
      const once = fed.filter(({ each }) => each === "run").map(({ name }) => name);
      const order = call.arguments;
      for (const [ui, classes] of Object.entries(call.classes)) {
        for (const name of classes) {
          const same = JSON.stringify([order, call.inputs, call.finer]);
          const known = seen.get(`${ui} ${name}`);
          if (known !== undefined && known !== same)
            throw new Error(`${family}.json: ${ui} calls ${name} in another way in another family`);
          seen.set(`${ui} ${name}`, same);
        }
      }
      return `    FamilyCall(
        ${quote(family)},
        ${quote(title)},
        {${Object.entries(call.classes)
          .map(([ui, classes]) => `${quote(ui)}: ${tuple(classes)}`)
          .join(", ")}},
        ${tuple(order)},
        ${mapping(call.inputs)},
        frozenset({${once.map(quote).join(", ")}}),
        frozenset({${(call.ignored ?? []).map(quote).join(", ")}}),
        frozenset({${[...new Set(fed.filter(({ when }) => when !== undefined).map(({ name }) => quote(name)))].join(", ")}}),
        frozenset({${fed
          .filter(({ optional }) => optional)
          .map(({ name }) => quote(name))
          .join(", ")}}),
        {${fed
          .filter(({ many }) => many !== undefined)
          .map(({ name, many }) => `${quote(name)}: ${many}`)
          .join(", ")}},
        ${mapping(call.finer ?? {})},
        ${mapping(settings(call))},
        ${mapping(call.options ?? {})},
        {${Object.entries(call.controls ?? {})
          .map(([part, { input, blocks }]) => `${quote(part)}: (${quote(input)}, ${quote(blocks)})`)
          .join(", ")}},
        {${Object.entries(call.usual ?? {})
          .map(([argument, { setting = "", value }]) => `${quote(argument)}: (${quote(setting)}, ${quote(value)})`)
          .join(", ")}},
        {${Object.entries(call.scaled ?? {})
          .map(([argument, factor]) => `${quote(argument)}: ${factor.toFixed(1)}`)
          .join(", ")}},
        ${call.patch ?? 1},
        ${
          call.words === undefined
            ? "None"
            : `WordsCall(
            ${quote(call.words.method)},
            ${tuple(call.words.arguments)},
            ${mapping(call.words.inputs)},
            frozenset({${(call.words.ignored ?? []).map(quote).join(", ")}}),
            ${mapping(settings(call.words))},
            ${call.words.unless === undefined ? "None" : tuple([call.words.unless.argument ?? "", call.words.unless.as])},
        )`
        },
    ),`.replaceAll("frozenset({})", "frozenset()");
    }),
  );
  return `"""Which model classes of a UI an engine serves, and how their calls feed its inputs. Generated from protocol/families by \`npm run generate\`; do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class WordsCall(NamedTuple):
    method: str
    #: In the order in which the UI gives them.
    arguments: tuple[str, ...]
    #: Argument -> engine input.
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str]
    #: As those of a step.
    settings: Mapping[str, str | tuple[str, str]]
    #: Without this argument ("": always), what is as wide as this input of a step is its words already.
    unless: tuple[str, str] | None


class FamilyCall(NamedTuple):
    family: str
    title: str
    #: UI ("comfyui", "forge") -> names of its model classes.
    classes: Mapping[str, tuple[str, ...]]
    #: Arguments in the order in which the UI gives them.
    arguments: tuple[str, ...]
    #: Argument -> engine input; several for an argument that is a list of tensors of different kinds.
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Engine inputs that are the same over a run.
    once_per_run: frozenset[str]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str]
    #: Engine inputs that not every structure of the family has; without it, the UI's own model does not look at the argument.
    conditional: frozenset[str]
    #: Engine inputs that a call may leave out.
    optional: frozenset[str]
    #: Engine inputs that take a list: at most so many tensors, as name_0, name_1, ...
    many: Mapping[str, int]
    #: Argument of one number a batch entry -> the input for numbers of parts of the sample.
    finer: Mapping[str, str | tuple[str, ...]]
    #: Value in the configuration that the UI read off a file -> engine input; with a word: 1 where the value is that word.
    settings: Mapping[str, str | tuple[str, str]]
    #: Value in the call's own options -> engine input.
    options: Mapping[str, str]
    #: Part of a ControlNet's answer -> (engine input, key of the UI's configuration under which the number of blocks stands).
    controls: Mapping[str, tuple[str, str]]
    #: Argument -> (key of the UI's configuration, word where that has none) with which it asks for what the model does anyway.
    usual: Mapping[str, tuple[str, str]]
    #: Argument -> the number by which the UI's class multiplies it in its own float type.
    scaled: Mapping[str, float]
    #: Height and width of the sample are filled up to a multiple of it, from the start.
    patch: int
    #: The method of the UI's model that makes a run's words.
    words: WordsCall | None


FAMILY_CALLS: tuple[FamilyCall, ...] = (
${rows.join("\n")}
)


def call_of(ui: str, class_name: str) -> FamilyCall | None:
    """The call of a UI's model class; None when no engine serves it. Families of one class have one call."""
    return next((call for call in FAMILY_CALLS if class_name in call.classes.get(ui, ())), None)
`;
}
