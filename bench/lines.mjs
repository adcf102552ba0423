#!/usr/bin/env node
// Lines of hand-written code by area: not blank, no comment alone, no generated file, no data. Of a commit, or of two beside each other.
//   npm run bench -- lines [--from COMMIT] [--to HEAD] [--of COMMIT,COMMIT,...] [--only PATTERN]
// `--only` counts the files alone whose paths fit the regular expression.
// `--of` sums what single commits added and took away, area by area: it separates a piece of work from all that came beside it.
import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    from: { type: "string" },
    to: { type: "string", default: "HEAD" },
    of: { type: "string" },
    only: { type: "string", default: "" },
  },
});
const git = (args, input) => execFileSync("git", args, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 30, input });

const areas = ["protocol", "native", "sidecar/src", "sidecar/hosts", "plugin", "page", "tools", "test", "bench"];
const only = new RegExp(values.only);
const areaOf = (path) => (only.test(path) ? (areas.find((area) => path.startsWith(`${area}/`)) ?? null) : null);
const isCode = (path) => /\.(ts|tsx|mjs|cjs|js|py|cpp|h|css)$/.test(path);
/** Every generator heads its files so. */
const isGenerated = (text) => /Generated (by|from)[^\n]*`npm run generate`[^\n]*; (do not edit|edit that)/.test(text.slice(0, 400));
const isWritten = (line) => line.trim() !== "" && !/^\s*(\/\/|#|\*|\/\*)/.test(line);
const linesOf = (text) => text.split("\n").filter(isWritten).length;

/** Area to lines of one commit. */
function counted(commit) {
  const rows = git(["ls-tree", "-r", commit, "--format=%(objectname) %(path)"])
    .trim()
    .split("\n")
    .map((row) => ({ object: row.slice(0, 40), path: row.slice(41) }))
    .filter(({ path }) => isCode(path) && areaOf(path) !== null);
  const counts = Object.fromEntries(areas.map((area) => [area, 0]));
  // One object after the other: header line with its size, the text, a line break.
  const all = execFileSync("git", ["cat-file", "--batch"], {
    cwd: root,
    maxBuffer: 2 ** 30,
    input: rows.map(({ object }) => object).join("\n") + "\n",
  });
  let at = 0;
  for (const { path } of rows) {
    const end = all.indexOf(10, at);
    const size = Number(all.subarray(at, end).toString().split(" ")[2]);
    const text = all.subarray(end + 1, end + 1 + size).toString();
    at = end + size + 2;
    if (!isGenerated(text)) counts[areaOf(path)] += linesOf(text);
  }
  return counts;
}

/** Area to what one commit added less what it took away. */
function changed(commit) {
  const counts = Object.fromEntries(areas.map((area) => [area, 0]));
  let area = null;
  for (const line of git(["show", "-M", "-U0", "--format=", commit]).split("\n")) {
    if (line.startsWith("+++ ") || line.startsWith("--- ")) {
      const path = line.slice(6);
      if (line.slice(4) === "/dev/null") continue;
      area = isCode(path) ? areaOf(path) : null;
      // A file that goes was in the commit before.
      const holder = line.startsWith("--- ") ? `${commit}^` : commit;
      if (area !== null && isGenerated(git(["show", `${holder}:${path}`]))) area = null;
    } else if (area !== null && /^[+-]/.test(line) && isWritten(line.slice(1))) counts[area] += line[0] === "+" ? 1 : -1;
  }
  return counts;
}

const after = counted(values.to);
const before = values.from === undefined ? null : counted(values.from);
const of = (values.of ?? "").split(",").filter(Boolean).map(changed);
const rows = areas.map((area) => ({
  area,
  ...(before === null ? {} : { before: before[area] }),
  now: after[area],
  ...(of.length === 0 ? {} : { ofCommits: of.reduce((sum, counts) => sum + counts[area], 0) }),
}));
const total = (key) => rows.reduce((sum, row) => sum + (row[key] ?? 0), 0);
console.table(rows);
console.log(
  JSON.stringify({
    bench: "lines",
    from: values.from ?? null,
    to: values.to,
    rows,
    before: total("before"),
    now: total("now"),
    ofCommits: total("ofCommits"),
  }),
);
