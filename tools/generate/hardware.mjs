// The table of what has run on which hardware, inside docs/operate/gpu.md, from sidecar/hardware.json; `doctor` prints the same rows.
import { cell, replaceBetween } from "./between.mjs";

export function hardwarePage(rows, page, file) {
  const lines = rows.map(
    ({ host, what, hardware, software, ran }) =>
      `| \`${host}\` | ${cell(what)} | ${cell(hardware)} | ${cell(software)} | ${ran ? "yes" : "**not run**"} |`,
  );
  const table = ["| host | what | hardware | with | run |", "|---|---|---|---|---|", ...lines].join("\n");
  return replaceBetween(page, "hardware", table, file);
}
