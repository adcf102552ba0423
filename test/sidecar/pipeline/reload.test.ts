// The configuration file and ComfyUI's paths are followed while the sidecar runs.

import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { copyFile, rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readDiscovery } from "../../../sidecar/src/client/index.ts";
import { demoLora, idOf, startBench, until } from "./harness.ts";

it(
  "takes over what may change, says what needs a restart, and keeps what it had when the file is wrong",
  { timeout: 120_000 },
  async () => {
    const place = mkdtempSync(join(tmpdir(), "refit-reload-"));
    const config = join(place, "refit.toml");
    const paths = join(place, "extra_model_paths.yaml");
    writeFileSync(config, "turn = 1000\n");
    writeFileSync(paths, "comfyui:\n  base_path: .\n");
    const bench = await startBench({ flags: ["--comfyui-paths", paths], env: { REFIT_CONFIG: config } });
    try {
      const { token } = await readDiscovery(bench.dataDir);
      const statusFrom = async (origin: string) =>
        (await fetch(`${bench.url}/status`, { headers: { Authorization: `Bearer ${token}`, Origin: origin } })).status;
      const said = (text: string) => until(text, () => bench.logged.some((line) => line.includes(text)));
      expect(await statusFrom("https://ui.example")).toBe(403);

      writeFileSync(config, 'turn = 1000\nprecision = "fp16"\nallow-origin = ["https://ui.example"]\n');
      await said("changed options that take effect with the next start: precision");
      expect(await statusFrom("https://ui.example")).toBe(200);

      writeFileSync(config, 'turn = "soon"\nallow-origin = []\n');
      await said("turn expects a number from 50 to 600000");
      expect(await statusFrom("https://ui.example")).toBe(200);

      mkdirSync(join(place, "more"));
      await copyFile(demoLora("small"), join(place, "incoming"));
      await rename(join(place, "incoming"), join(place, "more", "elsewhere.safetensors"));
      writeFileSync(config, "turn = 1000\n");
      writeFileSync(paths, "comfyui:\n  base_path: .\n  loras: more\n");
      await idOf(bench, "adapter", "elsewhere.safetensors");
      await until("the origin refused again", async () => (await statusFrom("https://ui.example")) === 403);
    } finally {
      await bench.close();
    }
  },
);
