// `refit-sidecar top`: engines, work and times of a running sidecar in the terminal, drawn anew every second.

import { setTimeout as wait } from "node:timers/promises";
import type { Command } from "commander";
import type { WireResult } from "@refit-sidecar/protocol";
import { connect, readDiscovery } from "../client/index.ts";
import type { Client } from "../client/index.ts";
import { mebibyte } from "../options/index.ts";
import { exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";

interface TopFlags {
  readonly dataDir?: string;
  readonly once?: boolean;
}

export interface TopFacts {
  readonly status: WireResult<"status">;
  readonly work: WireResult<"jobs.list">;
  readonly figures: WireResult<"telemetry.figures">["figures"];
}

const everyMs = 1000;
const inMebibytes = (bytes: number): string => `${Math.round(bytes / mebibyte)} MiB`;
const inMs = (value: number | null): string => (value === null ? "-" : value < 10 ? value.toFixed(1) : String(Math.round(value)));
/** Names come from files: nothing of them may move the cursor. */
const plain = (text: string): string => text.replace(/[\p{Cc}\p{Cf}]/gu, "?");

/** The whole screen, one text a line. */
export function topLines({ status, work, figures }: TopFacts): string[] {
  const { memory, catalog } = status;
  const open = work.jobs.filter(({ state }) => state === "running" || state === "queued");
  const more = work.queued - open.filter(({ state }) => state === "queued").length;
  return [
    `refit-sidecar ${status.version}   up ${Math.round(status.uptimeMs / 1000)} s   ${status.clients} clients   ${catalog.adapters} LoRAs   ${catalog.checkpoints} checkpoints`,
    `memory ${inMebibytes(memory.processBytes)}, engines ${inMebibytes(memory.enginesBytes)} of ${inMebibytes(memory.budgetBytes)}   refits ${status.totals.refits}   steps ${status.totals.steps}`,
    "",
    "ENGINE                                    STATE             MEMORY  LEASES   STEPS  STACK",
    ...(status.engines.length === 0 ? ["no engine is loaded"] : status.engines.map(engineLine)),
    "",
    "DEVICE      STATE    RUNS  WAITING  ENGINES    MEMORY  FREE OF ALL          STEPS",
    ...status.devices.flatMap(deviceLines),
    "",
    "TIME     COUNT   P50 ms   P95 ms   P99 ms",
    ...figures.map(
      ({ name, count, p50Ms, p95Ms, p99Ms }) =>
        `${name.padEnd(6)}${String(count).padStart(8)}${[p50Ms, p95Ms, p99Ms].map((value) => inMs(value).padStart(9)).join("")}`,
    ),
    "",
    ...(open.length === 0
      ? ["no work in the background"]
      : open.map(({ title, state, stage, done, total }) =>
          plain(`${state.padEnd(8)} ${title} ${stage}${total > 0 ? ` ${Math.round((100 * done) / total)} %` : ""}`),
        )),
    ...(more > 0 ? [`and ${more} more that wait`] : []),
  ];
}

/** A second one says why it is down. */
function deviceLines(device: TopFacts["status"]["devices"][number]): string[] {
  const { name, state, runs, waiting, engines, enginesBytes, memory, tiers, problem } = device;
  const free = memory === null ? "-" : `${inMebibytes(memory.freeBytes)} of ${inMebibytes(memory.totalBytes)}`;
  const counts = [
    String(runs).padStart(6),
    String(waiting).padStart(9),
    String(engines).padStart(9),
    inMebibytes(enginesBytes).padStart(10),
  ];
  return [
    plain(`${name.slice(0, 10).padEnd(12)}${state.padEnd(7)}${counts.join("")}  ${free.padEnd(20)} ${tiers.join(", ") || "-"}`),
    ...(problem === null ? [] : [plain(`            ${problem}`)]),
  ];
}

function engineLine(engine: WireResult<"engine.list">["engines"][number]): string {
  const name = `${engine.family ?? "unknown"} ${engine.precision} ${engine.host} ${engine.device}`.slice(0, 40);
  const stack = (engine.weights?.stack ?? []).map(({ strength }) => strength).join(" ");
  return plain(
    `${name.padEnd(42)}${engine.state.padEnd(16)}${inMebibytes(engine.memoryBytes).padStart(8)}${String(engine.leases).padStart(8)}${String(engine.steps).padStart(8)}  ${stack === "" ? "-" : stack}`,
  );
}

async function factsOf(client: Client): Promise<TopFacts> {
  const { result: status } = await client.call("status", {});
  const { result: work } = await client.call("jobs.list", {});
  const { figures } = (await client.call("telemetry.figures", {})).result;
  return { status, work, figures };
}

export function addTop(program: Command, done: (code: number) => void): void {
  program
    .command("top")
    .description("watch engines, work and times of a running sidecar in the terminal")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--once", "print it once and end; the default where the output is no terminal")
    .action(async (flags: TopFlags) => {
      const client = await connect(await readDiscovery(dataDirOf(flags)), "top");
      try {
        const once = flags.once === true || !process.stdout.isTTY;
        let on = true;
        process.once("SIGINT", () => (on = false));
        while (on) {
          const lines = topLines(await factsOf(client)).map((line) => (once ? line : `${line.slice(0, process.stdout.columns)}\x1b[K`));
          process.stdout.write(`${once ? "" : "\x1b[H"}${lines.join("\n")}\n${once ? "" : "\x1b[J"}`);
          if (once) break;
          await wait(everyMs);
        }
      } finally {
        await client.close();
      }
      done(exitCode.ok);
    });
}
