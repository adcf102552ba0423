import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HostCommand } from "../host/index.ts";
import { openEngine } from "./engine-under-test.ts";
import { openSmallModel } from "./small-model.ts";

/** The shortest trial that shows that a host can work: start, load the small model, refit it, step. Throws what fails. */
export async function tryHost(
  command: HostCommand,
): Promise<{ readonly versions: Readonly<Record<string, string>>; readonly deviceType: string; readonly device: string }> {
  const folder = await mkdtemp(join(tmpdir(), "refit-trial-"));
  try {
    const model = await openSmallModel(folder);
    const asked = await openEngine(command, model.spec(command.kind, "f32"), () => undefined);
    const { device, versions } = await asked
      .host()
      .then((host) => host.about)
      .finally(() => asked.close());
    const engine = await openEngine(command, model.spec(command.kind, device.type === "cpu" ? "f32" : "f16"), () => undefined);
    try {
      await engine.bring(model.wanted("base", []));
      await engine.bring(model.wanted("base", [["only-sevens", 1]]));
      await engine.step(model.inputs);
    } finally {
      await engine.close();
    }
    return { versions, deviceType: device.type, device: device.name };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
