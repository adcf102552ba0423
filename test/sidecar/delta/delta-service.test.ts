import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { DeltaService, type DeltaRequest } from "../../../sidecar/src/delta/index.ts";
import { loraQ, target, toQ, writeAdapter } from "./files.ts";

// A thread runs compiled code: Node has no loader for TypeScript here. `npm test` builds first.
const entry = new URL("../../../sidecar/dist/src/delta/read/worker.js", import.meta.url);
const root = mkdtempSync(join(tmpdir(), "refit-delta-service-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function requestFor(name: string): Promise<DeltaRequest> {
  const path = join(root, `${name}.safetensors`);
  return { adapter: { path, sha256: await writeAdapter(path, loraQ, { name }) }, target, mode: "comfyui", folder: join(root, "deltas") };
}

describe.skipIf(!existsSync(entry))("DeltaService (skipped without sidecar/dist: run `npm run build`)", () => {
  test("makes deltas in its thread, shares work under way, finds them later", async () => {
    const service = new DeltaService(entry);
    const request = await requestFor("one");
    const [first, joined] = [service.ready(request), service.ready(request)];
    expect(await first).toMatchObject({ cached: false, header: { terms: [{ kind: "lowRank" }] } });
    expect(await joined).toBe(await first);
    expect((await service.ready(request)).cached).toBe(true);
    await service.close();
  });

  test("failures keep their code and evidence across the thread", async () => {
    const service = new DeltaService(entry);
    const path = join(root, "bad.safetensors");
    writeFileSync(path, "GGUF and some more bytes");
    const request = { ...(await requestFor("two")), adapter: { path, sha256: "a".repeat(64) } };
    await expect(service.ready(request)).rejects.toMatchObject({
      name: "Failure",
      code: "DELTA_ADAPTER_UNREADABLE",
      evidence: { reason: "NOT_SAFETENSORS" },
    });
    await service.close();
  });

  test("a folder that cannot be written is named", async () => {
    const service = new DeltaService(entry);
    const blocked = join(root, "blocked");
    writeFileSync(blocked, "a file where a folder should be");
    await expect(service.ready({ ...(await requestFor("three")), folder: blocked })).rejects.toMatchObject({ code: "DELTA_WRITE_FAILED" });
    await service.close();
  });

  test("cancelling ends the work", async () => {
    const service = new DeltaService(entry);
    await expect(service.ready(await requestFor("four"), AbortSignal.abort())).rejects.toMatchObject({ code: "DELTA_CANCELLED" });
    await service.close();
    await expect(service.ready(await requestFor("five"))).rejects.toMatchObject({ code: "DELTA_CANCELLED" });
  });

  test("a lost thread is reported, and the next call starts another", async () => {
    const dying = join(root, "dying.mjs");
    writeFileSync(dying, `import { parentPort } from "node:worker_threads"; parentPort.on("message", () => process.exit(3));`);
    const service = new DeltaService(pathToFileURL(dying));
    const request = await requestFor("six");
    await expect(service.ready(request)).rejects.toMatchObject({ code: "DELTA_WORKER_DIED" });
    await expect(service.ready(request)).rejects.toMatchObject({ code: "DELTA_WORKER_DIED" });
    await service.close();
  });
});

describe.skipIf(!existsSync(entry))("many adapters", () => {
  test("200 adapters of mixed kinds leave the thread's memory where it was", async () => {
    const service = new DeltaService(entry);
    const kinds = [
      loraQ,
      {
        [`${toQ}.hada_w1_a`]: { shape: [16, 2] },
        [`${toQ}.hada_w1_b`]: { shape: [2, 16] },
        [`${toQ}.hada_w2_a`]: { shape: [16, 2] },
        [`${toQ}.hada_w2_b`]: { shape: [2, 16] },
      },
      { [`${toQ}.lokr_w1`]: { shape: [4, 4] }, [`${toQ}.lokr_w2`]: { shape: [4, 4] } },
      { [`${toQ}.oft_blocks`]: { shape: [4, 4, 4] } },
      { [`${toQ}.diff`]: { shape: [16, 16] } },
    ];
    const make = async (index: number): Promise<void> => {
      const path = join(root, "many.safetensors");
      const sha256 = await writeAdapter(path, kinds[index % kinds.length]!, {}, index);
      const { path: made } = await service.ready({ adapter: { path, sha256 }, target, mode: "comfyui", folder: join(root, "many") });
      rmSync(made);
    };
    for (let index = 0; index < 50; index += 1) await make(index);
    const before = process.memoryUsage().rss;
    for (let index = 50; index < 250; index += 1) await make(index);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 << 20);
    await service.close();
  });
});
