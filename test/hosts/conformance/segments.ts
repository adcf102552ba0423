import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, open, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { alignTo64, encodeFrame, type FrameTensor, type JsonObject } from "../../../protocol/src/index.ts";
import {
  startHost,
  type Host,
  type HostCommand,
  type PlacedTensor,
  type SharedTensor,
  type StepTensor,
} from "../../../sidecar/src/host/index.ts";
import { Engines, type Wanted } from "../../../sidecar/src/refit/index.ts";
import { Leases } from "../../../sidecar/src/step/index.ts";
import { demoGraph, demoStates, demoStructure, goldenSteps, readSteps, specOf, type NamedStack } from "../demo-model.ts";
import { noise } from "../fixtures.ts";
import { startRawHost } from "../raw-host.ts";

const shapes = [
  [32, 8],
  [32, 8],
  [32, 8],
  [32, 4],
  [64, 4],
  [64, 4],
  [64, 2],
  [64, 2],
  [64, 2],
  [64, 1],
  [64, 1],
  [64, 1],
] as const;

/** ControlNet residuals of the demo model: the inputs that are large enough to stay in a client's segment. */
function residuals(seed: number): FrameTensor[] {
  const next = noise(seed);
  const one = (name: string, channels: number, size: number): FrameTensor => ({
    name,
    dtype: "f32",
    shape: [2, channels, size, size],
    data: new Uint8Array(Float32Array.from({ length: 2 * channels * size * size }, next).buffer),
  });
  return [...shapes.map(([channels, size], index) => one(`down_residual_${index}`, channels, size)), one("mid_residual", 64, 1)];
}

/** Inputs that a client left in its segment: read by a host that offers it, sent by the sidecar to any other. */
export function segments(command: HostCommand): void {
  describe("segments", () => {
    let host: Host;
    let folder = "";
    let scratch = "";
    let wanted: Wanted;
    let states: (stack: NamedStack) => Wanted;
    let reads = 0;
    const { inputs } = readSteps(goldenSteps);
    beforeAll(async () => {
      scratch = await mkdtemp(join(tmpdir(), "refit-segments-"));
      folder = join(scratch, "segments");
      await mkdir(folder, { mode: 0o700 });
      host = await startHost(command, { segmentFolder: folder });
      states = await demoStates(scratch);
      wanted = states([]);
      await host.call("load", {
        engine: "placed",
        graph: { folder: demoGraph, variant: "fp32" },
        weightDtype: "f32",
        checkpoint: wanted.checkpoint,
        stack: [],
      });
    });
    afterAll(async () => {
      await host.close();
      await rm(scratch, { recursive: true, force: true });
    });

    /** Writes tensors into a segment, each on a multiple of 64. */
    async function place(tensors: readonly FrameTensor[], segment = "request"): Promise<PlacedTensor[]> {
      let end = 64;
      const placed = tensors.map((tensor): PlacedTensor => {
        const { name, dtype, shape, data } = tensor;
        const offset = alignTo64(end);
        end = offset + data.byteLength;
        const read = async (): Promise<FrameTensor> => {
          reads += 1;
          return tensor;
        };
        return { name, dtype, shape, bytes: data.byteLength, segment, offset, read };
      });
      const file = new Uint8Array(end);
      for (const [index, { data }] of tensors.entries()) file.set(data, placed[index]?.offset ?? 0);
      await writeFile(join(folder, segment), file, { mode: 0o600 });
      return placed;
    }
    const step = async (tensors: readonly StepTensor[], from = host): Promise<Buffer> =>
      Buffer.from((await from.call("step", { engine: "placed", generation: 1 }, { tensors })).tensors[0]?.data ?? []);
    const readsThem = ({ skip }: TestContext): void =>
      skip(host.about.segments !== true, "this host reads no segments: the sidecar reads them for it");

    it("a step with inputs in a segment equals the one with their bytes, bit for bit, whatever came before", async () => {
      const outputs = new Set<string>();
      for (const seed of [1, 2, 1]) {
        const given = residuals(seed);
        const expected = await step([...inputs, ...given]);
        expect(Buffer.compare(await step([...(await place(given)), ...inputs]), expected)).toBe(0);
        expect(Buffer.compare(await step(await place([...given, ...inputs], "all")), expected)).toBe(0);
        outputs.add(expected.toString("hex"));
      }
      expect(outputs.size).toBe(2);
      expect(Buffer.compare(await step(await place(inputs)), await step(inputs))).toBe(0);
      if (host.about.segments === true) expect(reads).toBe(0);
      else expect(reads).toBeGreaterThan(0);
    });

    it("a host killed in such a step comes back, and the repeated step gives the same", async () => {
      const engines = new Engines({
        startHost: () => startHost(command, { segmentFolder: folder }),
        keepsSpare: () => false,
        budgetBytes: () => 2 ** 30,
        emit: () => undefined,
      });
      const leases = new Leases<null>({ turnMs: () => 2000, graceMs: 20, maxWaiting: 64, idleMs: 60_000, nowMs: () => performance.now() });
      try {
        const acquired = await engines.acquire(specOf(wanted.checkpoint, demoGraph, demoStructure));
        const lease = await leases.open({ ...acquired, wanted, origin: null });
        const given = residuals(3);
        const expected = Buffer.from((await lease.step([...inputs, ...given])).tensors[0]?.data ?? []);
        const tensors = [...(await place(given)), ...inputs];
        const [first] = engines.runningHosts().values();
        const repeated = lease.step(tensors);
        await new Promise((resolve) => setTimeout(resolve, 3));
        first?.kill("a test ends it in a step");
        for (const reply of [await repeated, await lease.step(tensors)])
          expect(Buffer.compare(Buffer.from(reply.tensors[0]?.data ?? []), expected)).toBe(0);
        expect([...engines.runningHosts().values()][0]?.pid).not.toBe(first?.pid);
        lease.end();
      } finally {
        await engines.close();
      }
    });

    it.for<[string, string, (placed: PlacedTensor[]) => Promise<PlacedTensor[]> | PlacedTensor[]]>([
      [
        "HOST_INVALID_PARAMS",
        "a path that leads out of the folder",
        (placed) => placed.map((tensor) => ({ ...tensor, segment: "../outside" })),
      ],
      ["HOST_INVALID_PARAMS", "an absolute path", (placed) => placed.map((tensor) => ({ ...tensor, segment: join(scratch, "outside") }))],
      ["HOST_SEGMENT_REFUSED", "a file that is not there", (placed) => placed.map((tensor) => ({ ...tensor, segment: "missing" }))],
      [
        "HOST_SEGMENT_REFUSED",
        "a link to a file outside",
        async (placed) => {
          await symlink(join(scratch, "outside"), join(folder, "link"));
          return placed.map((tensor) => ({ ...tensor, segment: "link" }));
        },
      ],
      [
        "HOST_SEGMENT_REFUSED",
        "a folder",
        async (placed) => {
          await mkdir(join(folder, "inner"));
          return placed.map((tensor) => ({ ...tensor, segment: "inner" }));
        },
      ],
      [
        "HOST_SEGMENT_REFUSED",
        "a named pipe that nobody writes to",
        (placed) => {
          execFileSync("mkfifo", [join(folder, "pipe")]);
          return placed.map((tensor) => ({ ...tensor, segment: "pipe" }));
        },
      ],
      [
        "HOST_SEGMENT_SHORT",
        "a range beyond the end",
        (placed) => placed.map((tensor, index) => (index === 0 ? { ...tensor, offset: 2 ** 30 } : tensor)),
      ],
      [
        "HOST_SEGMENT_SHORT",
        "a file that its client cut",
        async (placed) => {
          await truncate(join(folder, "refused"), 1000);
          return placed;
        },
      ],
    ])("%s for %s, and the engine goes on", async ([code, _, change], context) => {
      readsThem(context);
      const given = residuals(4);
      const expected = await step([...inputs, ...given]);
      await writeFile(join(scratch, "outside"), new Uint8Array(2 ** 20));
      const failure: unknown = await step([...(await change(await place(given, "refused"))), ...inputs]).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code });
      expect((failure as Error).message).not.toContain(scratch);
      expect(Buffer.compare(await step([...(await place(given)), ...inputs]), expected)).toBe(0);
    });

    it("memory that it shares carries inputs and output, and equals the other ways bit for bit", async ({ skip }) => {
      const { shares } = host.about;
      skip(shares?.medium !== "memfd", "this host shares no memory as a file");
      const memory = await host.call("share", { ...shares!, bytes: 2 ** 20 });
      const [process, block] = Buffer.from(memory.handle, "base64").toString().split(":");
      const file = await open(`/proc/${process}/fd/${block}`, "r+");
      try {
        const given = residuals(6);
        const expected = await step([...inputs, ...given]);
        let end = 64;
        const shared = await Promise.all(
          [...inputs, ...given].map(async ({ name, dtype, shape, data }): Promise<SharedTensor> => {
            const offset = alignTo64(end);
            end = offset + data.byteLength;
            await file.write(data, 0, data.byteLength, offset);
            return { name, dtype, shape, bytes: data.byteLength, segment: memory.name, offset, read: null };
          }),
        );
        const reply = { segment: memory.name, offset: alignTo64(end), bytes: 2 ** 16, bell: 2 ** 40 + 7 };
        const answer = await host.call("step", { engine: "placed", generation: 1, reply }, { tensors: shared });
        expect([answer.tensors, answer.placed.length]).toEqual([[], 1]);
        const { offset, bytes } = answer.placed[0]!;
        const output = Buffer.alloc(bytes);
        await file.read(output, 0, bytes, offset);
        expect(Buffer.compare(output, expected)).toBe(0);
        const [, bell] = Buffer.from(memory.bell ?? "", "base64")
          .toString()
          .split(":");
        const rung = await open(`/proc/${process}/fd/${bell}`, "r");
        const number = async () => (await rung.read(Buffer.alloc(8), 0, 8, 0)).buffer.readBigInt64LE();
        expect(await number()).toBe(2n ** 40n + 7n);
        // Where the output does not fit it travels, and nothing rings.
        const narrow = { ...reply, bytes: 64, bell: 8 };
        const tight = await host.call("step", { engine: "placed", generation: 1, reply: narrow }, { tensors: shared });
        expect(await number()).toBe(2n ** 40n + 7n);
        await rung.close();
        expect([tight.placed, Buffer.compare(Buffer.from(tight.tensors[0]!.data), expected)]).toEqual([[], 0]);
        const outside = shared.map((tensor) => ({ ...tensor, offset: memory.bytes - 64 }));
        await expect(step(outside)).rejects.toMatchObject({ code: "HOST_SEGMENT_SHORT" });
        await expect(
          host.call("step", { engine: "placed", generation: 1, reply: { ...reply, bytes: memory.bytes } }, { tensors: inputs }),
        ).rejects.toMatchObject({ code: "HOST_SEGMENT_SHORT" });
        expect((await host.call("status", {})).memory.sharedBytes).toBe(memory.bytes);
        expect(await host.call("unshare", { name: memory.name })).toMatchObject({ bytes: memory.bytes });
        expect((await host.call("status", {})).memory.sharedBytes).toBe(0);
        await expect(step(shared)).rejects.toMatchObject({ code: "HOST_SEGMENT_STALE" });
      } finally {
        await file.close();
      }
    });

    it("HOST_SHARE_REFUSED for another device, and HOST_SEGMENT_STALE for memory that it does not have", async () => {
      for (const wish of [
        { medium: "memfd", device: "elsewhere", bytes: 64 },
        { medium: "cuda-ipc", device: "elsewhere", bytes: 64 },
      ] as const)
        await expect(host.call("share", wish)).rejects.toMatchObject({ code: "HOST_SHARE_REFUSED" });
      expect((await host.call("unshare", { name: "shared-none" })).bytes).toBe(0);
      const foreign = inputs.map(({ name, dtype, shape, data }): SharedTensor => {
        return { name, dtype, shape, bytes: data.byteLength, segment: "shared-none", offset: 0, read: null };
      });
      await expect(step(foreign)).rejects.toMatchObject({ code: "HOST_SEGMENT_STALE" });
    });

    it("HOST_MALFORMED_FRAME for a byte count that is not the shape's", async (context) => {
      readsThem(context);
      const raw = startRawHost(command);
      await raw.hello();
      const tensors = (await place(residuals(5), "wrong")).map(({ read: _, segment, ...tensor }) => ({
        ...tensor,
        segment: segment === "wrong" ? 0 : 1,
        bytes: tensor.bytes + 4,
      }));
      raw.write(
        encodeFrame(
          { jsonrpc: "2.0", id: 2, method: "step", params: { engine: "placed", generation: 1, segments: ["wrong"] } } satisfies JsonObject,
          [],
          tensors,
        ),
      );
      expect((await raw.next())?.message).toMatchObject({ id: null, error: { data: { code: "HOST_MALFORMED_FRAME" } } });
      await raw.ended;
    });

    it("are not offered without a folder, nor for one that is a link or open to others", async (context) => {
      readsThem(context);
      await mkdir(join(scratch, "open"), { mode: 0o700 });
      await chmod(join(scratch, "open"), 0o755);
      await symlink(folder, join(scratch, "alias"));
      for (const segmentFolder of [null, join(scratch, "open"), join(scratch, "alias"), join(scratch, "nowhere")]) {
        const other = await startHost(command, { segmentFolder });
        expect(other.about.segments).toBe(false);
        await other.close();
      }
    });
  });
}
