// A web UI on this computer: what the plugin needs of it, tried in the UI's own Python without starting the UI.

import { spawn } from "node:child_process";
import { Failure } from "../failure/index.ts";
import { withoutPaths } from "./rows.ts";
import type { HostReport, Row } from "./types.ts";

interface UiCheck {
  /** The UI's folder. */
  readonly uiFolder: string;
  /** The Python that runs the UI. */
  readonly python: string;
  /** The plugin's folder, with its package in it. */
  readonly plugin: string;
  readonly onRow: (row: Row) => void;
}

interface Told {
  readonly about: Readonly<Record<string, string>>;
  readonly rows: readonly { readonly id: string; readonly title: string; readonly status: Row["status"]; readonly detail: string }[];
}

/** Importing PyTorch and a UI's backend takes a minute on a slow disk. */
const patienceMs = 300_000;
const maxAnswerBytes = 1 << 20;

function ask({ uiFolder, python, plugin }: UiCheck): Promise<Told> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown) =>
      reject(
        new Failure(
          "SELFTEST_UI",
          `expected the check to run in the UI's Python; ${why}. Name the Python that starts the UI with --python.`,
          {},
          cause === undefined ? {} : { cause },
        ),
      );
    const child = spawn(python, ["-m", "refit_sidecar_plugin.ui.webui.selfcheck", uiFolder], {
      cwd: uiFolder,
      env: { ...process.env, PYTHONPATH: plugin, PYTHONDONTWRITEBYTECODE: "1" },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: patienceMs,
    });
    let [answer, last] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      if (answer.length < maxAnswerBytes) answer += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => (last = chunk.toString().trim().split("\n").at(-1) ?? last));
    child.once("error", (error) => fail("it could not be started", error));
    child.once("close", (code) => {
      try {
        resolve(JSON.parse(answer) as Told);
      } catch {
        fail(`it ended with ${code ?? "a signal"}: ${last}`);
      }
    });
  });
}

/** Throws Failure SELFTEST_UI where the UI's Python does not run the check at all. */
export async function checkUi(check: UiCheck): Promise<HostReport> {
  const { about, rows: told } = await ask(check);
  const rows: Row[] = told.map(({ id, title, status, detail }) => ({
    id,
    title,
    status,
    detail: withoutPaths(detail),
    figures: {},
    firstOnHardware: false,
  }));
  const facts = Object.entries(about)
    .filter(([name]) => name !== "ui")
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  const all: Row[] = [{ id: "ui", title: "the UI", status: "pass", detail: facts, figures: {}, firstOnHardware: false }, ...rows];
  for (const row of all) check.onRow(row);
  return {
    host: about["ui"] ?? "web UI",
    about: null,
    precision: "",
    tier: null,
    rows: all,
    ok: all.every(({ status }) => status !== "fail"),
  };
}
