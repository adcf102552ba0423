import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseSafetensorsHeader } from "./safetensors-oracle.ts";
import type { FrameTensor } from "../../../protocol/src/index.ts";
import { createPushStore, type PushLimits, type PushStore } from "../../../sidecar/src/wire/pushes/index.ts";
import { bearer, connect, startFake, temporaryFolder } from "./support.ts";

const roomy: PushLimits = { pushBytes: 10_000, open: 2, storeBytes: 100_000, storeCount: 100 };
const tensor = (name: string, values: number[], dtype: FrameTensor["dtype"] = "f32"): FrameTensor => {
  const data = dtype === "f32" ? new Uint8Array(new Float32Array(values).buffer) : new Uint8Array(values);
  return { name, dtype, shape: [values.length], data };
};
const up = tensor("lora_unet_x.lora_up.weight", [1, 2, 3]);
const down = tensor("lora_unet_x.lora_down.weight", [4, 5]);
const odd = tensor("an odd one", [9, 9, 9], "u8");

async function openStore(
  limits: PushLimits = roomy,
  pinned = new Set<string>(),
): Promise<{ folder: string; store: PushStore; adopted: string[]; forgotten: string[] }> {
  const folder = join(temporaryFolder(), "pushed");
  const adopted: string[] = [];
  const forgotten: string[] = [];
  const store = await createPushStore(folder, limits, {
    adopt: async ({ sha256 }) => {
      adopted.push(sha256);
      return { id: `id-${sha256.slice(0, 4)}` };
    },
    forget: (sha256) => !pinned.has(sha256) && forgotten.push(sha256) > 0,
  });
  return { folder, store, adopted, forgotten };
}
const whole = (tensors: readonly FrameTensor[], push = "p") => ({ push, name: "test", last: true, tensors });

describe("createPushStore", () => {
  it("writes a valid safetensors file named by its hash", async () => {
    const { folder, store } = await openStore();
    const reply = await store.push("s1", whole([odd, up, down]));
    const file = readFileSync(join(folder, `${reply!.sha256}.safetensors`));
    expect(createHash("sha256").update(file).digest("hex")).toBe(reply!.sha256);
    expect(file.byteLength).toBe(reply!.sizeBytes);
    const header = parseSafetensorsHeader(file);
    expect(Object.keys(header.tensors)).toEqual([down.name, up.name, odd.name]);
    expect(header.bytesOf(up.name)).toEqual(Buffer.from(up.data));
    expect(header.bytesOf(odd.name)).toEqual(Buffer.from(odd.data));
  });

  it("gives one content one hash, whatever the order and the cut into calls", async () => {
    const { store, adopted, folder } = await openStore();
    const first = await store.push("s1", whole([up, down, odd]));
    expect(await store.push("s2", { push: "q", name: "n", last: false, tensors: [odd] })).toBeNull();
    expect(await store.push("s2", { push: "q", name: "n", last: false, tensors: [up] })).toBeNull();
    const second = await store.push("s2", { push: "q", name: "n", last: true, tensors: [down] });
    expect(second).toEqual({ ...first, known: true });
    expect([first!.known, adopted.length, readdirSync(folder).length]).toEqual([false, 2, 1]);
    const other = await store.push("s1", whole([tensor(up.name, [1, 2, 4]), down, odd]));
    expect(other!.sha256).not.toBe(first!.sha256);
  });

  it("takes calls of one push in turn, even when they are sent at once", async () => {
    const { store } = await openStore();
    const alone = await store.push("s1", whole([up, down]));
    const replies = await Promise.all([
      store.push("s1", { push: "r", name: "n", last: false, tensors: [up] }),
      store.push("s1", { push: "r", name: "n", last: true, tensors: [down] }),
      store.push("s2", whole([down, up])),
    ]);
    expect(replies.map((reply) => reply?.sha256 ?? null)).toEqual([null, alone!.sha256, alone!.sha256]);
  });

  it("removes the least recently pushed beyond its size, but nothing that is in use", async () => {
    const pinned = new Set<string>();
    const { folder, store, forgotten } = await openStore({ ...roomy, storeCount: 2 }, pinned);
    const [a, b] = [await store.push("s", whole([tensor("a", [1])])), await store.push("s", whole([tensor("b", [1])]))];
    pinned.add(a!.sha256);
    await store.push("s", whole([tensor("c", [1])]));
    expect(forgotten).toEqual([b!.sha256]);
    expect(readdirSync(folder)).toContain(`${a!.sha256}.safetensors`);
    await store.push("s", whole([tensor("a", [1])]));
    pinned.clear();
    await store.push("s", whole([tensor("d", [1])]));
    expect(forgotten).toHaveLength(2);
    expect(forgotten).not.toContain(a!.sha256);
  });

  it("starts empty: what an earlier sidecar left is removed", async () => {
    const folder = join(temporaryFolder(), "pushed");
    const owner = { adopt: async () => ({ id: "x" }), forget: () => true };
    await (await createPushStore(folder, roomy, owner)).push("s", whole([up]));
    writeFileSync(join(folder, "left.part"), "x");
    await createPushStore(folder, roomy, owner);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each<[string, () => [PushLimits, (store: PushStore) => Promise<unknown>], string]>([
    ["no tensors", () => [roomy, (store) => store.push("s", whole([]))], "WIRE_PUSH_INVALID"],
    ["a name twice in one call", () => [roomy, (store) => store.push("s", whole([up, up]))], "WIRE_PUSH_INVALID"],
    [
      "a name twice over two calls",
      () => [roomy, async (store) => (await store.push("s", { ...whole([up]), last: false }), store.push("s", whole([up])))],
      "WIRE_PUSH_INVALID",
    ],
    ["too many bytes in one call", () => [{ ...roomy, pushBytes: 11 }, (store) => store.push("s", whole([up]))], "WIRE_PUSH_TOO_LARGE"],
    [
      "too many bytes over two calls",
      () => [
        { ...roomy, pushBytes: 19 },
        async (store) => (await store.push("s", { ...whole([up]), last: false }), store.push("s", whole([down]))),
      ],
      "WIRE_PUSH_TOO_LARGE",
    ],
    [
      "too many unfinished pushes",
      () => [
        roomy,
        async (store) => (
          await store.push("s", { ...whole([up], "a"), last: false }),
          await store.push("s", { ...whole([up], "b"), last: false }),
          store.push("s", { ...whole([up], "c"), last: false })
        ),
      ],
      "WIRE_PUSH_TOO_LARGE",
    ],
  ])("refuses %s and leaves nothing behind", async (_name, make, code) => {
    const [limits, act] = make();
    const { folder, store } = await openStore(limits);
    await expect(act(store)).rejects.toMatchObject({ code });
    await store.dropSession("s");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("says so when the disk refuses, and works again when it does not", async () => {
    const { folder, store } = await openStore();
    rmSync(folder, { recursive: true });
    await expect(store.push("s", whole([up]))).rejects.toMatchObject({ code: "WIRE_PUSH_FAILED" });
    const again = await openStore();
    expect(await again.store.push("s", whole([up]))).toMatchObject({ known: false });
  });

  it("forgets the unfinished pushes of a session that goes", async () => {
    const { folder, store } = await openStore();
    await store.push("s", { ...whole([up]), last: false });
    expect(readdirSync(folder)).toHaveLength(1);
    await store.dropSession("s");
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("adapter.push", () => {
  it("sends an adapter over the wire, in one call or several", async () => {
    const running = await startFake();
    const client = await connect(running);
    const first = await client.call("adapter.push", { push: "p", last: true, name: "from memory" }, [up, down]);
    expect(first.result["adapter"]).toMatchObject({ known: false, sizeBytes: expect.any(Number) });
    expect((await client.call("adapter.push", { push: "q", last: false }, [up])).result).toEqual({ adapter: null });
    expect((await client.call("adapter.push", { push: "q", last: true }, [down])).result["adapter"]).toMatchObject({ known: true });
    expect((await client.call("adapter.push", { push: "p", last: true })).code).toBe("WIRE_PUSH_INVALID");
    expect(readdirSync(join(running.dataDir, "pushed"))).toHaveLength(1);
  });

  it("keeps memory flat over 1,000 different adapters", async () => {
    const running = await startFake();
    const client = await connect(running, bearer(running.discovery.token));
    const bytes = 128 * 1024;
    const pushOne = async (index: number): Promise<void> => {
      const data = new Uint8Array(bytes).fill(index % 251);
      new DataView(data.buffer).setUint32(0, index);
      expect(
        (await client.call("adapter.push", { push: "p", last: true }, [{ name: "x", dtype: "u8", shape: [bytes], data }])).code,
      ).toBeNull();
    };
    for (let index = 0; index < 100; index += 1) await pushOne(index);
    const residentBytes = (): number => process.memoryUsage().rss;
    const before = residentBytes();
    for (let index = 100; index < 1000; index += 1) await pushOne(index);
    // 900 pushes of 128 KiB are 118 MB; what may grow is the heap's slack.
    expect(residentBytes() - before).toBeLessThan(60 * 2 ** 20);
    expect(readdirSync(join(running.dataDir, "pushed"))).toHaveLength(1000);
  });
});
