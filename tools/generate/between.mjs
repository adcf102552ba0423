// What the generators of pages share.

/** A value as a cell of a Markdown table takes it. */
export const cell = (value) => String(value).replaceAll("|", "\\|");

/** `page` with the text between the markers of `name` replaced. `file` names the page in the error. */
export function replaceBetween(page, name, content, file) {
  const begin = `<!-- generated: ${name} -->`;
  const end = `<!-- end of ${name} -->`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from === -1 || to < from) throw new Error(`${file} lacks the markers of ${name}`);
  return `${page.slice(0, from + begin.length)}\n${content}\n${page.slice(to)}`;
}
