// protocol/families/*.json, checked, as the table of TypeScript. Python reads them itself (protocol/python/checked/families.py). A family that is `like` another takes the fields that it does not give.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { replaceBetween } from "./between.mjs";

/** Descriptions in list order. Throws with the file's name and the field that is wrong. */
export function readFamilies(folder, schema, autoencoders) {
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
  const families = names.map((name) => {
    const own = raw.get(name);
    const base = own.like === undefined ? {} : raw.get(own.like);
    if (base === undefined) throw new Error(`${name}.json: like names a family without a description, ${own.like}`);
    const { like: _like, listed: _listed, ran: _ran, ...whole } = { ...base, ...own };
    if (own.ran !== undefined) whole.ran = own.ran;
    const checked = schema.safeParse(whole);
    if (!checked.success) throw new Error(`${name}.json: ${z.prettifyError(checked.error)}`);
    if (checked.data.family !== name) throw new Error(`${name}.json: its family is called ${checked.data.family}`);
    const latents = checked.data.sampling?.latents;
    if (latents !== undefined && !(latents in autoencoders))
      throw new Error(`${name}.json: its latents are of ${latents}, an autoencoder without a description`);
    checkInputs(checked.data);
    return checked.data;
  });
  checkCalls(families);
  return families;
}

/** protocol/autoencoders/*.json, checked, by name. */
export function readAutoencoders(folder, schema) {
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return Object.fromEntries(
    names.sort().map((name) => {
      const checked = schema.safeParse(JSON.parse(readFileSync(join(folder, name), "utf8")));
      if (!checked.success) throw new Error(`${name}: ${z.prettifyError(checked.error)}`);
      return [name.slice(0, -".json".length), checked.data];
    }),
  );
}

/** Argument and engine input of everything that a call feeds, lists taken apart. */
const fedBy = (call) =>
  [
    call.inputs,
    call.finer ?? {},
    call.settings ?? {},
    call.options ?? {},
    call.guides === undefined ? {} : { keyframe_idxs: Object.values(call.guides) },
    call.controls ?? {},
    Object.fromEntries(Object.entries(call.controls ?? {}).flatMap(([part, { last }]) => (last === undefined ? [] : [[part, last]]))),
    call.words?.inputs ?? {},
    call.words?.settings ?? {},
  ]
    .flatMap(Object.entries)
    .flatMap(([argument, names]) => [names].flat().map((name) => [argument, name.input ?? name]));

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

/** A class of a UI is found by its name alone, so its calls are the same in all families that have it. */
function checkCalls(families) {
  const seen = new Map();
  for (const { family, calls = [] } of families)
    for (const call of calls)
      for (const [ui, classes] of Object.entries(call.classes))
        for (const name of classes) {
          const same = JSON.stringify([call.arguments, call.inputs, call.finer]);
          const known = seen.get(`${ui} ${name}`);
          if (known !== undefined && known !== same)
            throw new Error(`${family}.json: ${ui} calls ${name} in another way in another family`);
          seen.set(`${ui} ${name}`, same);
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

export function typescriptTable(families, others, autoencoders) {
  return `// The families' descriptions. Generated from protocol by \`npm run generate\`; do not edit.

import type { AutoencoderDescription, FamilyDescription, OtherModels } from "./schema.ts";

export const familyNames = [${families.map(({ family }) => JSON.stringify(family)).join(", ")}] as const;

export const familyTable: readonly FamilyDescription[] = [
${families.map((one) => `  ${JSON.stringify(one)},`).join("\n")}
];

export const otherModelTable: OtherModels = [
${others.map((one) => `  ${JSON.stringify(one)},`).join("\n")}
];

export const autoencoderTable = {
${Object.entries(autoencoders)
  .map(([name, one]) => `  ${JSON.stringify(name)}: ${JSON.stringify(one)},`)
  .join("\n")}
} satisfies Readonly<Record<string, AutoencoderDescription>>;
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
