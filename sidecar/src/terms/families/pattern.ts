// Names with places: `{n}` stands for a number, `{*}` for any run of characters.

const compiled = new Map<string, RegExp | null>();
const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** The expression of a whole name, with a group for each place; null for a name without places. */
export function patternOf(text: string): RegExp | null {
  const known = compiled.get(text);
  if (known !== undefined) return known;
  const places = text.split(/(\{n\}|\{\*\})/);
  const made =
    places.length === 1
      ? null
      : new RegExp(`^${places.map((piece) => (piece === "{n}" ? "(\\d+)" : piece === "{*}" ? "(.*)" : escaped(piece))).join("")}$`);
  compiled.set(text, made);
  return made;
}

/** The first of `names` that fits; undefined when none does. */
export function findName(names: { has(name: string): boolean; keys(): Iterable<string> }, text: string): string | undefined {
  const pattern = patternOf(text);
  if (pattern === null) return names.has(text) ? text : undefined;
  for (const name of names.keys()) if (pattern.test(name)) return name;
  return undefined;
}

/** `name` with the places of `from` put into `to`, from left to right; null when it does not fit. */
export function renamedBy(from: string, to: string, name: string): string | null {
  const pattern = patternOf(from);
  if (pattern === null) return name === from ? to : null;
  const match = pattern.exec(name);
  if (match === null) return null;
  let group = 0;
  return to.replace(/\{n\}|\{\*\}/g, () => match[(group += 1)] ?? "");
}
