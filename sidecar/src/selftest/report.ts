import { gibibytes } from "../telemetry/index.ts";
import type { HostReport, Row, SelftestReport } from "./types.ts";

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const marks = { pass: "pass", fail: "**FAIL**", skip: "not run" } as const;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.map(cell).join(" | ")} |`).join("\n");
}

const rowCells = ({ title, status, detail, firstOnHardware }: Row): string[] => [
  title,
  `${marks[status]}${firstOnHardware ? ", first run on hardware" : ""}`,
  detail,
];

function hostPart({ host, about, precision, tier, rows }: HostReport): string {
  const facts =
    about === null
      ? []
      : [
          `- device: ${about.device["name"] ?? "unknown"}${about.device["type"] === "cuda" ? `, compute capability ${about.device["capability"] ?? "unknown"}` : ""}, ${gibibytes(about.memory.totalBytes)} of memory, ${gibibytes(about.memory.freeBytes)} free at the start`,
          `- versions: ${Object.entries(about.versions)
            .map(([name, version]) => `${name} ${version}`)
            .join(", ")}`,
          `- weights: ${precision}; tier in use: ${tier ?? "the host has one way of stepping"}`,
        ];
  return [`## ${host}`, ...facts, "", table(["check", "result", "seen"], rows.map(rowCells))].join("\n");
}

/** Hosts whose whole run on this hardware is the first that the project hears of: the label "not run" can go when such a report comes in. */
function firstRuns(hosts: readonly HostReport[]): string {
  const first = hosts.filter(({ rows }) => rows.some((row) => row.firstOnHardware));
  if (first.length === 0) return "";
  const lines = first.map(({ host, about, rows }) => {
    const failed = rows.filter(({ status }) => status === "fail").length;
    return `- \`${host}\` on ${about?.device["name"] ?? "this device"}: ${rows.filter((row) => row.firstOnHardware).length} checks passed for the first time on such hardware${failed === 0 ? '; none failed, so its label "not run" can be lifted' : `; ${failed} failed`}`;
  });
  return [
    "## First runs on hardware",
    "The table of what has run on which hardware (README) has no run of these yet. Please send this report.",
    "",
    ...lines,
    "",
  ].join("\n");
}

/** The report as one Markdown file, with all of it again as JSON at the end. */
export function reportMarkdown(report: SelftestReport): string {
  const { system, hosts } = report;
  const rows = hosts.flatMap((host) => host.rows);
  const count = (status: Row["status"]) => rows.filter((row) => row.status === status).length;
  return `# Refit Sidecar self-test: ${report.ok ? "passed" : "FAILED"}

${count("pass")} passed, ${count("fail")} failed, ${count("skip")} not run. Version ${report.version}, ${report.madeAt}. This file holds no paths, file names or tokens.

${table(
  ["system", ""],
  [
    ["platform", `${system.platform}, ${system.release}`],
    ["processor", `${system.processor}, ${system.processors} threads, ${gibibytes(system.memoryBytes)}`],
    ["Node", system.node],
    ...(system.gpus.length === 0
      ? [["NVIDIA cards", "none visible"]]
      : system.gpus.map((gpu) => [
          "card",
          `${gpu.name}, compute capability ${gpu.capability}, driver ${gpu.driver}, ${gibibytes(gpu.memoryMib * 2 ** 20)}`,
        ])),
  ],
)}

${firstRuns(hosts)}${hosts.map(hostPart).join("\n\n")}

## How
Every host runs the demo's model (sd15 family, 4.5 million parameters) in a process of its own, through the planning, refit and recovery code of a running sidecar. "Bit for bit" compares a
SHA-256 of every weight in the engine, and the bytes of a step's output. PyTorch's pictures were drawn beforehand in f32 on a CPU and ship with the package. Times are taken on the caller's side.

\`\`\`json
${JSON.stringify(report)}
\`\`\`
`;
}
