import { errorTable, failureTables, hostErrors, type FailureRow } from "@refit-sidecar/protocol";
import type { Command } from "commander";
import { Failure, systemTexts } from "../failure/index.ts";
import { exitCode, exitCodeOf, failureText } from "./exit.ts";

/** What a code means and what to do, from the tables that docs/operate/errors.md is made of; null for one that stands in none. */
function rowOf(code: string): FailureRow | null {
  const hosts = Object.entries(hostErrors).map(([name, { meaning, remedy }]) => [name, { summary: meaning, remedy }] as const);
  const rows = new Map<string, FailureRow>([
    ...Object.entries(failureTables.readerFailures).map(([name, row]) => [`CATALOG_${name}`, row] as const),
    ...Object.values(failureTables).flatMap((table) => Object.entries<FailureRow>(table)),
    ...Object.entries<FailureRow>(errorTable),
    ...hosts,
    ...Object.entries(systemTexts).map(
      ([name, text]) => [`SYSTEM_${name}`, { summary: `The file system: ${text}.`, remedy: "See the text." }] as const,
    ),
  ]);
  return rows.get(code) ?? null;
}

/** `error CODE`: the error reference on a terminal. */
export function addError(program: Command, done: (code: number) => void): void {
  program
    .command("error <code>")
    .description("what the code at the end of a message means, and what to do")
    .option("--json", "print one JSON object")
    .action((given: string, { json = false }: { readonly json?: boolean }) => {
      try {
        const code = given.replace(/^\[|\]$/g, "").toUpperCase();
        const row = rowOf(code);
        if (row === null)
          throw new Failure("CLI_ARGUMENTS", `expected a code as a message ends with, such as CATALOG_SHARD_MISSING; ${code} is none`, {});
        if (json) console.log(JSON.stringify({ code, summary: row.summary, remedy: row.remedy }));
        else console.log(`${code}\n${row.summary}\n${row.remedy}`);
        done(exitCode.ok);
      } catch (error) {
        if (json) console.log(failureText(error, true));
        else console.error(failureText(error, false));
        done(exitCodeOf(error));
      }
    });
}
