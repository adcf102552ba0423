// The table of what has run on which hardware, inside docs/operate/gpu.md, from sidecar/hardware.json; `doctor` prints the same rows.
import { replaceBetween } from "./between.mjs";

const cell = (text) => String(text).replaceAll("|", "\\|");

export function hardwarePage(rows, page, file) {
  const lines = rows.map(
    ({ host, what, hardware, software, ran }) =>
      `| \`${host}\` | ${cell(what)} | ${cell(hardware)} | ${cell(software)} | ${ran ? "yes" : "**not run**"} |`,
  );
  return replaceBetween(
    page.replaceAll("\r\n", "\n"),
    "hardware",
    ["| host | what | hardware | with | run |", "|---|---|---|---|---|", ...lines].join("\n"),
    file,
  );
}
