import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { Failure } from "../failure/index.ts";
import { findGpus, installedHost } from "../install/host/index.ts";
import { applyPlan, look, planGpuHost, planInstall, planUninstall } from "../install/index.ts";
import type { InstallPlan, Interface, Named } from "../install/index.ts";
import { packageRoot } from "../package-root.ts";
import { codedText, exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";
import { installHostByName } from "./host.ts";

interface Given {
  readonly comfyui?: string;
  readonly webui?: string;
  readonly copy?: boolean;
  readonly packages: boolean;
  readonly gpu: boolean;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** The plugin lies in the package, beside it in a checkout, or around it where a UI got the whole as an archive. */
export function pluginFolder(): string {
  const found = [join(packageRoot, "plugin"), join(dirname(packageRoot), "plugin"), dirname(packageRoot)].find((folder) =>
    existsSync(join(folder, "pyproject.toml")),
  );
  if (found === undefined)
    throw new Failure("INSTALL_PLUGIN_MISSING", "expected the plugin's folder in this package; found none. Install the package again.", {});
  return found;
}

interface Target {
  readonly named: Named;
  readonly folder: string;
}

function targetOf(given: Given): Target {
  if (given.comfyui !== undefined && given.webui === undefined) return { named: "comfyui", folder: given.comfyui };
  if (given.webui !== undefined && given.comfyui === undefined) return { named: "webui", folder: given.webui };
  throw new Failure(
    "CLI_INSTALL_TARGET",
    `expected one of --comfyui DIR and --webui DIR; got ${given.comfyui === undefined ? "neither" : "both"}`,
    {},
  );
}

function addTargets(command: Command): Command {
  return command
    .option("--comfyui <dir>", "folder of ComfyUI, or of its portable download")
    .option("--webui <dir>", "folder of A1111, Forge, reForge or Forge Neo (which one is found out)")
    .option("--json", "print one JSON line with what was done");
}

/** The engine host of a graphics card, with the plugin. Returns what the user has still to do; the plugin is in place whatever comes of it. */
async function bringGpuHost(given: Given, ui: Interface, python: string | null): Promise<readonly string[]> {
  const plan = planGpuHost({ ui, python, gpus: await findGpus(), installed: installedHost(dataDirOf(given), "torch"), wanted: given.gpu });
  if (plan.kind === "nothing") return [];
  if (plan.kind === "note") return [plan.note];
  console.error(`refit-sidecar: ${plan.says}`);
  try {
    await installHostByName("torch", {
      reuse: plan.python,
      wheels: "auto",
      index: true,
      ...(given.dataDir === undefined ? {} : { dataDir: given.dataDir }),
    });
    return [];
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [`The plugin is in place; the engine for the graphics card is not: ${codedText(error)} Try again with: ${plan.command}`];
  }
}

async function carryOut(
  given: Given,
  done: (code: number) => void,
  plan: (target: Target) => InstallPlan,
  more: (made: InstallPlan, target: Target) => Promise<readonly string[]> = async () => [],
): Promise<void> {
  const target = targetOf(given);
  const planned = plan(target);
  const otherwise = await applyPlan(planned, (action) =>
    console.error(
      `refit-sidecar: ${action.kind} ${"command" in action ? action.command.join(" ") : "path" in action ? action.path : "at" in action ? action.at : action.to}`,
    ),
  );
  const made = { ...planned, notes: [...otherwise, ...(await more(planned, target)), ...planned.notes] };
  if (given.json === true) console.log(JSON.stringify({ ok: true, ...made }));
  else for (const note of made.notes) console.log(note);
  done(exitCode.ok);
}

/** `install` and `uninstall`: the plugin into a UI and out of it. */
export function addInstall(program: Command, done: (code: number) => void): void {
  addTargets(program.command("install").description("put the plugin into ComfyUI, A1111, Forge, reForge or Forge Neo"))
    .option("--copy", "copy the plugin instead of linking it (for containers and other drives)")
    .option("--no-packages", "do not install the plugin's Python packages into the UI's Python; say how instead")
    .option("--no-gpu", "leave out the engine host of a graphics card (about 150 MB beside the UI's own PyTorch)")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .action(async (given: Given) =>
      carryOut(
        given,
        done,
        ({ named, folder }) =>
          planInstall(look(folder), named, {
            plugin: pluginFolder(),
            entry: join(packageRoot, "bin", "refit-sidecar.mjs"),
            mode: given.copy === true ? "copy" : "link",
            packages: given.packages,
          }),
        async ({ ui }, { folder }) => bringGpuHost(given, ui, given.packages ? look(folder).python : null),
      ),
    );
  addTargets(program.command("uninstall").description("take the plugin out of a UI again")).action(async (given: Given) =>
    carryOut(given, done, ({ named, folder }) => planUninstall(look(folder), named)),
  );
}
