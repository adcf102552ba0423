// Pages as the doc test reads them: their links, their anchors, their blocks of commands.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dirname, "../..");

export interface Block {
  readonly page: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  /** Why it is not run, where a comment right above says so. */
  readonly notRun: string | null;
}

/** Every page of the repository: what is committed or about to be, without vectors and generated text of others. */
export const pages = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((page) => page !== "" && !page.startsWith("test/golden") && existsSync(join(root, page)));

export const textOf = (page: string): string => readFileSync(join(root, page), "utf8").replaceAll("\r\n", "\n");

export function blocksOf(page: string): readonly Block[] {
  const lines = textOf(page).split("\n");
  const blocks: Block[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const opened = /^\s*```(\w*)\s*$/.exec(lines[at] ?? "");
    if (!opened) continue;
    const end = lines.findIndex((line, index) => index > at && line.trim() === "```");
    if (end === -1) throw new Error(`${page}:${at + 1}: the block never ends`);
    const marked = /^\s*<!-- not run: (.+) -->\s*$/.exec(lines[at - 1] ?? "");
    blocks.push({ page, line: at + 1, language: opened[1] ?? "", text: lines.slice(at + 1, end).join("\n"), notRun: marked?.[1] ?? null });
    at = end;
  }
  return blocks;
}

/** The page without its blocks and code, in which links are looked for. */
const prose = (page: string): string =>
  textOf(page)
    .replace(/^\s*```[\s\S]*?^\s*```\s*$/gm, "")
    .replace(/`[^`\n]*`/g, "");

export interface Link {
  readonly page: string;
  readonly target: string;
  readonly anchor: string | null;
}

/** Relative links and pictures, those in HTML too. */
export function linksOf(page: string): readonly Link[] {
  const text = prose(page);
  const found = [...text.matchAll(/\]\(([^)\s]+)(?:\s+"[^"]*")?\)/g), ...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  return found
    .filter((link) => !/^[a-z]+:/i.test(link))
    .map((link) => {
      const [target = "", anchor = null] = link.split("#");
      return { page, target, anchor };
    });
}

/** As GitHub makes them of headings, and those that a page names itself. */
export function anchorsOf(page: string): ReadonlySet<string> {
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  const text = textOf(page);
  for (const [, heading = ""] of text.replace(/^\s*```[\s\S]*?^\s*```\s*$/gm, "").matchAll(/^#{1,6} +(.+?)\s*$/gm)) {
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, "")
      .replaceAll(" ", "-");
    const times = seen.get(slug) ?? 0;
    seen.set(slug, times + 1);
    anchors.add(times === 0 ? slug : `${slug}-${times}`);
  }
  for (const [, id = ""] of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id);
  return anchors;
}
