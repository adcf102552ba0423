import { watchFile, unwatchFile } from "node:fs";
import { delimiter, resolve } from "node:path";
import { Option } from "commander";
import type { Command } from "commander";
import { comfyuiFolders, environmentSource, fileSource, optionTable, reloadedOptions, resolveOptions } from "../options/index.ts";
import type { OptionSpec, Options, Source } from "../options/index.ts";
import { startSidecar } from "../pipeline/index.ts";
import { createLog } from "../telemetry/index.ts";
import type { Log } from "../telemetry/index.ts";
import { defaultDataDir } from "./data-dir.ts";
import { exitCode, failureText } from "./exit.ts";

function flagOf(spec: OptionSpec): Option {
  const fallback =
    spec.default === null || (Array.isArray(spec.default) && spec.default.length === 0) || spec.type === "flag"
      ? ""
      : ` (default ${String(spec.default)}${spec.type === "number" && spec.unit !== "" ? ` ${spec.unit}` : ""})`;
  const text = `${spec.help}${fallback}`;
  switch (spec.type) {
    case "flag":
      return new Option(`--${spec.name}`, text);
    case "list":
      return new Option(`--${spec.name} <${spec.paths ? "dir" : "value"}>`, text).argParser((value: string, list: string[] | undefined) => [
        ...(list ?? []),
        value,
      ]);
    case "choice":
      return new Option(`--${spec.name} <${spec.choices.join("|")}>`, text);
    case "number":
      return new Option(`--${spec.name} <number>`, text);
    case "folder":
      return new Option(`--${spec.name} <dir>`, text);
    case "text":
      return new Option(`--${spec.name} <text>`, text);
  }
}

/** Adds every option of the table, so that flags, file and environment cannot drift apart. */
function addOptions(command: Command): Command {
  for (const spec of optionTable) command.addOption(flagOf(spec));
  return command.option("--config <file>", "TOML file with the same options; flags and REFIT_… variables go before it");
}

const camel = (name: string) => name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Options from flags, environment and the configuration file, with ComfyUI's folders added. */
async function gatherOptions(flags: Readonly<Record<string, unknown>>): Promise<Options> {
  const given: Record<string, unknown> = {};
  for (const spec of optionTable) {
    const value = flags[camel(spec.name)];
    if (value === undefined) continue;
    given[spec.name] =
      spec.type === "folder"
        ? resolve(String(value))
        : spec.type === "list" && spec.paths
          ? (value as string[]).map((path) => resolve(path))
          : value;
  }
  const sources: Source[] = [{ label: (name) => `--${name}`, values: given }, environmentSource(process.env, delimiter)];
  const config = flags["config"] ?? process.env["REFIT_CONFIG"];
  if (typeof config === "string") sources.push(await fileSource(config));
  const options = resolveOptions(sources);
  if (options["comfyui-paths"] === null) return options;
  const extra = await comfyuiFolders(options["comfyui-paths"]);
  return {
    ...options,
    loras: [...new Set([...options.loras, ...extra.loras])],
    checkpoints: [...new Set([...options.checkpoints, ...extra.checkpoints])],
  };
}

/** Editors write a file in pieces; half a second later it is whole. */
const configPollMs = 500;

function followFiles(paths: readonly string[], reread: () => Promise<void>, log: Log): () => void {
  const listener = () => {
    reread().then(
      () => log.info("the configuration was read again"),
      (error: unknown) => log.error(`the configuration was changed but not applied: ${failureText(error, false)}`),
    );
  };
  for (const path of paths) watchFile(path, { interval: configPollMs }, listener);
  return () => {
    for (const path of paths) unwatchFile(path, listener);
  };
}

/** Resolves on the first request to stop. Windows sends no SIGTERM; closing the console is SIGHUP there, and a parent may close stdin instead. */
function stopRequested(stdinEnds: boolean): Promise<void> {
  return new Promise((stop) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop());
    if (stdinEnds) {
      process.stdin.once("end", () => stop());
      process.stdin.resume();
    }
  });
}

interface ServeFlags {
  readonly json?: boolean;
  readonly stopWithStdin?: boolean;
  readonly config?: string;
}

export function addServe(program: Command, version: string, done: (code: number) => void): void {
  addOptions(program.command("serve").description("watch folders, keep engines ready, serve UIs"))
    .option("--json", "print one JSON line with url and data folder when it listens")
    .option("--stop-with-stdin", "end when standard input closes: for a parent that starts the sidecar and may be killed")
    .action(async (flags: ServeFlags & Record<string, unknown>) => {
      const options = await gatherOptions(flags);
      const log = createLog(options["log-level"], (line) => void process.stderr.write(line));
      const dataDir = options["data-dir"] ?? defaultDataDir();
      const sidecar = await startSidecar({ options, dataDir, version, log });
      if (flags.json === true)
        console.log(JSON.stringify({ ok: true, url: sidecar.wire.url, ws_url: sidecar.wire.wsUrl, data_dir: dataDir, pid: process.pid }));
      else if (process.stdout.isTTY)
        console.log(
          `Refit Sidecar on ${sidecar.wire.url} — dashboard: ${sidecar.wire.url}/?ticket=${sidecar.wire.createTicket("control")}`,
        );
      const files = [flags.config ?? process.env["REFIT_CONFIG"], options["comfyui-paths"]].flatMap((path) => path ?? []);
      let present = options;
      const unfollow = followFiles(
        files,
        async () => {
          const { options: next, ignored } = reloadedOptions(present, await gatherOptions(flags));
          await sidecar.reload(next);
          present = next;
          if (ignored.length > 0) log.warn(`changed options that take effect with the next start: ${ignored.join(", ")}`);
        },
        log,
      );
      await Promise.race([stopRequested(flags.stopWithStdin === true), sidecar.wire.stopAsked]);
      unfollow();
      log.info("ending");
      await sidecar.close();
      done(exitCode.ok);
    });
}
