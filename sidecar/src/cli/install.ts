import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { Failure } from "../failure/index.ts";
import { applyPlan, look, planInstall, planUninstall } from "../install/index.ts";
import type { InstallPlan, Named } from "../install/index.ts";
import { packageRoot } from "../package-root.ts";
import { exitCode, exitCodeOf, failureText } from "./exit.ts";

interface Given {
  readonly comfyui?: string;
  readonly webui?: string;
  readonly copy?: boolean;
  readonly packages: boolean;
  readonly json?: boolean;
}

/** The plugin lies in the package, beside it in a checkout, or around it where a UI got the whole as an archive. */
function pluginFolder(): string {
  const found = [join(packageRoot, "plugin"), join(dirname(packageRoot), "plugin"), dirname(packageRoot)].find((folder) => existsSync(join(folder, "pyproject.toml")));
  if (found === undefined) throw new Failure("INSTALL_PLUGIN_MISSING", "expected the plugin's folder in this package; found none. Install the package again.", {});
  return found;
}

interface Target {
  readonly named: Named;
  readonly folder: string;
}

function targetOf(given: Given): Target {
  if (given.comfyui !== undefined && given.webui === undefined) return { named: "comfyui", folder: given.comfyui };
  if (given.webui !== undefined && given.comfyui === undefined) return { named: "webui", folder: given.webui };
  throw new Failure("CLI_INSTALL_TARGET", `expected one of --comfyui DIR and --webui DIR; got ${given.comfyui === undefined ? "neither" : "both"}`, {});
}

function addTargets(command: Command): Command {
  return command
    .option("--comfyui <dir>", "folder of ComfyUI, or of its portable download")
    .option("--webui <dir>", "folder of A1111, Forge or reForge (which one is found out)")
    .option("--json", "print one JSON line with what was done");
}

async function carryOut(given: Given, done: (code: number) => void, plan: (target: Target) => InstallPlan): Promise<void> {
  try {
    const made = plan(targetOf(given));
    await applyPlan(made, (action) => console.error(`refit-sidecar: ${action.kind} ${"command" in action ? action.command.join(" ") : "path" in action ? action.path : "at" in action ? action.at : action.to}`));
    if (given.json === true) console.log(JSON.stringify({ ok: true, ...made }));
    else for (const note of made.notes) console.log(note);
    done(exitCode.ok);
  } catch (error) {
    if (given.json === true) console.log(failureText(error, true));
    else console.error(failureText(error, false));
    done(exitCodeOf(error));
  }
}

/** `install` and `uninstall`: the plugin into a UI and out of it. */
export function addInstall(program: Command, done: (code: number) => void): void {
  addTargets(program.command("install").description("put the plugin into ComfyUI, A1111, Forge or reForge"))
    .option("--copy", "copy the plugin instead of linking it (for containers and other drives)")
    .option("--no-packages", "do not install the plugin's Python packages into the UI's Python; say how instead")
    .action(async (given: Given) =>
      carryOut(given, done, ({ named, folder }) =>
        planInstall(look(folder), named, { plugin: pluginFolder(), entry: join(packageRoot, "bin", "refit-sidecar.mjs"), mode: given.copy === true ? "copy" : "link", packages: given.packages }),
      ),
    );
  addTargets(program.command("uninstall").description("take the plugin out of a UI again")).action(async (given: Given) => carryOut(given, done, ({ named, folder }) => planUninstall(look(folder), named)));
}
