import { failureRow, type FailureRow } from "@refit-sidecar/protocol";
import type { Command } from "commander";
import { Failure, systemTexts } from "../failure/index.ts";
import { exitCode } from "./exit.ts";

/** What the file system's codes mean: they stand in no table of the protocol. */
function systemRow(code: string): FailureRow | null {
  const text = code.startsWith("SYSTEM_") ? systemTexts[code.slice("SYSTEM_".length)] : undefined;
  return text === undefined ? null : { summary: `The file system: ${text}.`, remedy: "See the text." };
}

/** `error CODE`: the error reference on a terminal. */
export function addError(program: Command, done: (code: number) => void): void {
  program
    .command("error <code>")
    .description("what the code at the end of a message means, and what to do")
    .option("--json", "print one JSON object")
    .action((given: string, { json = false }: { readonly json?: boolean }) => {
      const code = given.replace(/^\[|\]$/g, "").toUpperCase();
      const row = failureRow(code) ?? systemRow(code);
      if (row === null)
        throw new Failure("CLI_ARGUMENTS", `expected a code as a message ends with, such as CATALOG_SHARD_MISSING; ${code} is none`, {});
      if (json) console.log(JSON.stringify({ code, summary: row.summary, remedy: row.remedy }));
      else console.log(`${code}\n${row.summary}\n${row.remedy}`);
      done(exitCode.ok);
    });
}
