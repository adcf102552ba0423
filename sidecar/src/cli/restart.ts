// `refit-sidecar restart`: engine hosts of a running sidecar begin anew, device by device, while the others serve.

import type { Command } from "commander";
import { connect, readDiscovery } from "../client/index.ts";
import { exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";

interface RestartFlags {
  readonly dataDir?: string;
  readonly json?: boolean;
}

export function addRestart(program: Command, done: (code: number) => void): void {
  program
    .command("restart")
    .argument("[device]", "one device, as `top` shows it; without it all of them, one after another")
    .description("restart the engine hosts of a running sidecar, one device after another; no step fails for it")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--json", "print one JSON line")
    .action(async (device: string | undefined, flags: RestartFlags) => {
      const client = await connect(await readDiscovery(dataDirOf(flags)), "restart");
      try {
        const { restarted } = (await client.call("device.restart", { device: device ?? null })).result;
        console.log(flags.json === true ? JSON.stringify({ ok: true, restarted }) : `restarted ${restarted.join(", ")}`);
      } finally {
        await client.close();
      }
      done(exitCode.ok);
    });
}
