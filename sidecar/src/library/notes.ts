// What people wrote about an adapter: the file's own metadata, and the notes that UIs and downloaders keep beside it. Strings by anyone, so everything is cut and made plain.

import { readBeside } from "./beside.ts";

export interface AdapterNotes {
  readonly title: string | null;
  /** The base model by its maker's word. */
  readonly base: string | null;
  readonly triggerWords: readonly string[];
  readonly rank: number | null;
  readonly description: string | null;
}

/** Notes with a long description and many sample pictures are some 100 KB. */
const notesLimitBytes = 2 * 1024 * 1024;
const most = { title: 200, base: 100, word: 300, words: 40, description: 2000 } as const;

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);
const objectAt = (value: unknown, key: string): Json => (isObject(value) && isObject(value[key]) ? value[key] : {});

/** Markup and control characters out, white space folded; null when nothing is left. */
export function plain(value: unknown, limit: number): string | null {
  if (typeof value !== "string") return null;
  const text = value
    .slice(0, limit * 20)
    .replace(/<[^>]*>/g, " ")
    .replace(/&nbsp;/g, " ")
    .replace(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim();
  return text === "" ? null : text.slice(0, limit);
}

function words(...sources: readonly unknown[]): string[] {
  const given = sources.flatMap((source) =>
    Array.isArray(source) ? (source as readonly unknown[]) : typeof source === "string" ? [source] : [],
  );
  const found = given.slice(0, 400).flatMap((word) => plain(word, most.word)?.replace(/^[,\s]+|[,\s]+$/g, "") ?? []);
  return [...new Set(found)].filter((word) => word !== "").slice(0, most.words);
}

/** The tags that a trainer saw most, for a file of which nobody wrote a trigger word. */
function frequentTags(text: string | undefined): string[] {
  const table = parsed(text);
  const counts = new Map<string, number>();
  for (const tags of Object.values(table))
    if (isObject(tags))
      for (const [tag, count] of Object.entries(tags)) if (typeof count === "number") counts.set(tag, (counts.get(tag) ?? 0) + count);
  const top = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3);
  const largest = top[0]?.[1] ?? 0;
  return words(top.filter(([, count]) => count >= largest * 0.8).map(([tag]) => tag));
}

function parsed(text: string | undefined): Json {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

async function json(model: string, ending: string): Promise<Json> {
  return parsed((await readBeside(model, [ending], notesLimitBytes))?.toString("utf8"));
}

const positive = (value: unknown): number | null => {
  const number = typeof value === "string" ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number > 0 && number < 100_000 ? number : null;
};

/** `metadata` and `shapes` are those of the file's own header. Never throws: notes that cannot be read are none. */
export async function adapterNotes(
  model: string,
  metadata: Readonly<Record<string, string>>,
  shapes: Iterable<readonly [name: string, shape: readonly number[]]>,
): Promise<AdapterNotes> {
  const [civitai, manager, webui] = [await json(model, ".civitai.info"), await json(model, ".metadata.json"), await json(model, ".json")];
  const managed = objectAt(manager, "civitai");
  const first = <T>(...values: readonly (T | null)[]): T | null => values.find((value) => value !== null) ?? null;
  const written = words(civitai["trainedWords"], managed["trainedWords"], webui["activation text"], metadata["modelspec.trigger_phrase"]);
  return {
    title: first(
      plain(objectAt(civitai, "model")["name"], most.title),
      plain(manager["model_name"], most.title),
      plain(metadata["modelspec.title"], most.title),
      plain(metadata["ss_output_name"], most.title),
    ),
    base: first(
      plain(civitai["baseModel"], most.base),
      plain(manager["base_model"], most.base),
      plain(webui["sd version"], most.base),
      plain(metadata["ss_base_model_version"], most.base),
      plain(metadata["modelspec.architecture"], most.base),
    ),
    triggerWords: written.length > 0 ? written : frequentTags(metadata["ss_tag_frequency"]),
    rank: positive(metadata["ss_network_dim"]) ?? rankOf(shapes),
    description: first(
      plain(objectAt(civitai, "model")["description"], most.description),
      plain(civitai["description"], most.description),
      plain(manager["modelDescription"], most.description),
      plain(webui["description"], most.description),
      plain(metadata["modelspec.description"], most.description),
    ),
  };
}

const downNames = /(?:\.lora_down\.weight|\.lora_A(?:\.\w+)?\.weight|\.lora\.down\.weight|\.hada_w1_b|\.lokr_w2_b|_lora\.down\.weight)$/;

/** Of the first layer that says it; the whole distribution is `inspect`'s. */
function rankOf(shapes: Iterable<readonly [name: string, shape: readonly number[]]>): number | null {
  for (const [name, shape] of shapes) if (downNames.test(name)) return positive(shape[0] ?? null);
  return null;
}
