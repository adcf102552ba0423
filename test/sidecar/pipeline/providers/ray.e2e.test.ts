// A whole sidecar whose engines run in the actors of a real Ray cluster of several nodes on this computer.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { demoCheckpoint, demoLora, idOf, prepare, startBench, statusOf, step, until } from "../harness.ts";
import type { Bench, Stack } from "../harness.ts";
import { parentOf, rayPython, startCluster } from "./ray-cluster.ts";
import type { RayCluster } from "./ray-cluster.ts";

const skips = rayPython === null;
const hasTorch = rayPython !== null && spawnSync(rayPython, ["-c", "import torch, diffusers"]).status === 0;
if (!skips && !hasTorch) console.warn("the torch host is not tried in an actor: the Python of REFIT_TEST_RAY has no torch and diffusers");

describe.skipIf(skips)("engines in a Ray cluster of two nodes", { timeout: 120_000 }, () => {
  const caches = mkdtempSync(join(tmpdir(), "refit-ray-test-"));
  const arriving = join(caches, "adapters");
  let cluster: RayCluster;
  let bench: Bench;
  let checkpoint: string;
  let stacks: Stack[][];
  let right: Buffer[];

  const devices = async () => (await statusOf(bench)).devices;
  const open = (stack: readonly Stack[]) => prepare(bench, checkpoint, stack, { host: "onnxruntime" });

  beforeAll(async () => {
    // Actors inherit what the nodes were started with.
    process.env["REFIT_RAY_CACHE"] = join(caches, "copies");
    mkdirSync(arriving);
    cluster = await startCluster(2, 1);
    bench = await startBench({
      flags: [
        ...["--engines", "ray", "--ray-address", cluster.address, "--ray-actors", "2", "--ray-gpus", "0", "--ray-files", "store"],
        ...["--ray-adapters", arriving, "--python", rayPython ?? "", "--host", "onnxruntime", "--warm", "off"],
      ],
      env: { REFIT_RAY_CONTACT_SECONDS: "6" },
      fill: (place) => {
        place("checkpoints", "base.safetensors", demoCheckpoint);
        for (const name of ["thick-strokes", "small"]) place("loras", `${name}.safetensors`, demoLora(name));
        place("loras", "never-used.safetensors", demoLora("only-sevens"));
      },
    });
    checkpoint = await idOf(bench, "checkpoint", "base.safetensors");
    stacks = [[]];
    for (const name of ["thick-strokes", "small"])
      stacks.push([{ adapter: await idOf(bench, "adapter", `${name}.safetensors`), strength: 0.8 }]);
    await until("both actors", async () => (await devices()).every(({ state }) => state !== "down"), 90_000);
  }, 180_000);
  afterAll(async () => {
    await bench.close();
    await cluster.close();
    rmSync(caches, { recursive: true, force: true });
  }, 60_000);

  it("places runs on actors as on cards, and steps there with the run's own weights", async () => {
    right = [];
    const runs: { readonly lease: string }[] = [];
    for (const stack of stacks) {
      const run = await open(stack);
      runs.push(run);
      expect(run.engine).toMatch(/@ray:\d$/);
      right.push(await step(bench, run.lease));
    }
    expect(new Set(right.map((output) => output.toString("hex"))).size).toBe(3);
    await until("a copy of the engine on the second actor", async () => {
      await Promise.all(runs.map(({ lease }) => step(bench, lease)));
      return (await devices()).every(({ engines, state }) => engines === 1 && state === "up");
    });
    for (const [index, { lease }] of runs.entries()) {
      expect(await step(bench, lease)).toEqual(right[index]);
      await bench.client.call("engine.release", { lease });
    }
  });

  it("brings each file once to each node", () => {
    // Both nodes are this computer, with a folder each.
    const copies = readdirSync(join(caches, "copies")).map((node) =>
      readdirSync(join(caches, "copies", node), { recursive: true })
        .map(String)
        .filter((name) => name.endsWith(".safetensors"))
        .map((name) => name.split("/").at(-1)),
    );
    expect(copies).toHaveLength(2);
    for (const names of copies) {
      expect(names).toContain("base.safetensors");
      expect(new Set(names).size).toBe(names.length);
    }
  });

  /** Clients step while `harm` is done, from their `first` answers on; every answer is the right one. */
  async function steady(harm: () => Promise<void>, least: number, first = 4): Promise<void> {
    let isOver = false;
    let answers = 0;
    const clients = [0, 1, 2, 1].map(async (index) => {
      const { lease } = await open(stacks[index] ?? []);
      while (!isOver || answers < least) {
        expect(await step(bench, lease)).toEqual(right[index]);
        answers += 1;
      }
      await bench.client.call("engine.release", { lease });
    });
    const harmed = until("some answers", () => answers >= first)
      .then(harm)
      .finally(() => (isOver = true));
    await Promise.all([...clients, harmed]);
  }

  it("computes a step elsewhere when its actor is killed, and Ray starts the actor again", async () => {
    let victim = "";
    await steady(async () => {
      const busy = (await devices()).find(({ pids, runs }) => pids.length > 0 && runs > 0);
      victim = busy?.name ?? "";
      process.kill(parentOf(busy?.pids[0] ?? 0), "SIGKILL");
      await until("the device to be taken for down", async () => (await devices()).find(({ name }) => name === victim)?.state === "down");
    }, 40);
    await until("the actor to serve again", async () => (await devices()).find(({ name }) => name === victim)?.state === "up", 60_000);
  });

  it("restarts one actor after another without a failed step", async () => {
    const before = (await devices()).map(({ pids }) => pids);
    await steady(async () => {
      const { result } = await bench.client.call("device.restart", { device: null });
      expect(result.restarted).toEqual(["ray:0", "ray:1"]);
    }, 10);
    const after = (await devices()).map(({ pids }) => pids);
    for (const [index, pids] of after.entries()) expect(before[index]).not.toEqual(pids);
    await expect(bench.client.call("device.restart", { device: "ray:9" })).rejects.toMatchObject({ code: "ENGINE_DEVICE_UNKNOWN" });
  });

  it("gives up an actor that does not answer, and takes no answer of it afterwards", async () => {
    const frozen: number[] = [];
    try {
      await steady(async () => {
        const busy = (await devices()).find(({ pids, runs }) => pids.length > 0 && runs > 0);
        const actor = parentOf(busy?.pids[0] ?? 0);
        frozen.push(actor);
        process.kill(actor, "SIGSTOP");
        await until(
          "contact to be lost",
          async () => (await devices()).some(({ problem }) => problem?.includes("no word") === true),
          30_000,
        );
      }, 20);
    } finally {
      for (const pid of frozen) process.kill(pid, "SIGCONT");
    }
    await until("both devices", async () => (await devices()).every(({ state }) => state === "up"), 60_000);
    await steady(async () => undefined, 8);
  });

  it("goes on when a node is lost, and uses the next one", async () => {
    await steady(async () => {
      await cluster.do("lose 0");
      await until("a device to be down", async () => (await devices()).some(({ state }) => state === "down"));
    }, 20);
    await cluster.do("add");
    await until("both devices", async () => (await devices()).every(({ state }) => state !== "down"), 60_000);
  });

  it("catalogues an adapter that arrives in a node's folder", async () => {
    copyFileSync(demoLora("small"), join(arriving, "from-a-node.safetensors"));
    const { name } = await until("the adapter", async () => {
      const { entries } = (await bench.client.call("catalog.list", { kind: "adapter" })).result;
      return entries.find((entry) => entry.name.endsWith("from-a-node.safetensors") && entry.problem === null);
    });
    const run = await open([{ adapter: await idOf(bench, "adapter", name), strength: 0.8 }]);
    expect(await step(bench, run.lease)).not.toEqual(right[0]);
    await bench.client.call("engine.release", { lease: run.lease });
  });

  const allDown = async () => {
    const now = await devices();
    return now.every(({ state }) => state === "down") ? now : null;
  };

  it("steps on while the head is away, and joins the cluster of the head that comes back", { timeout: 240_000 }, async () => {
    await steady(async () => {
      await cluster.do("lose-head");
      // What a node has not had before cannot come there now.
      await expect(open([{ adapter: await idOf(bench, "adapter", "never-used.safetensors"), strength: 1 }])).rejects.toThrow(
        /files cannot be reached/,
      );
    }, 20);
    // Every client has a step under way or asks for one while no device serves; each gets one answer, the right one.
    await steady(
      async () => {
        // Asked from before the head is there: the gateway is quicker than the command, and devices of the next one have other words.
        const [away] = await Promise.all([until("the old cluster to be left", allDown, 60_000), cluster.do("head")]);
        expect(away[0]?.problem).toMatch(/not joined: another cluster answers at .*its head began anew/);
        await cluster.do("add");
        await cluster.do("add");
        await until("both devices", async () => (await devices()).every(({ state }) => state !== "down"), 90_000);
      },
      40,
      0,
    );
    for (const { problem } of await devices()) expect(problem).toBeNull();
  });

  it("says what is missing while the cluster is gone, and steps again when there is one", { timeout: 240_000 }, async () => {
    await steady(async () => {
      await cluster.do("lose-all");
      await until(
        "the head to be missed",
        async () => (await allDown())?.every(({ problem }) => /not joined: nothing answers at/.test(problem ?? "")),
        90_000,
      );
      for (const what of ["head", "add", "add"]) await cluster.do(what);
      await until("both devices", async () => (await devices()).every(({ state }) => state !== "down"), 90_000);
    }, 30);
  });

  it.skipIf(!hasTorch)("steps on the torch host in an actor, as on the embedded one", async () => {
    const run = await prepare(bench, checkpoint, stacks[1] ?? [], { host: "torch" });
    expect(run.engine).toMatch(/^torch\/.*@ray:\d$/);
    const floats = (bytes: Buffer | undefined) => new Float32Array(Uint8Array.from(bytes ?? []).buffer);
    const embedded = floats(right[1]);
    for (const [index, value] of floats(await step(bench, run.lease)).entries()) expect(value).toBeCloseTo(embedded[index] ?? NaN, 3);
    await bench.client.call("engine.release", { lease: run.lease });
  });
});

describe.skipIf(skips)("a cluster that `auto` finds on this computer, and that asks for a token", { timeout: 240_000 }, () => {
  const home = mkdtempSync(join(tmpdir(), "refit-ray-home-"));
  const token = "a-token-of-this-test-0123456789abcdef";
  let cluster: RayCluster;
  let bench: Bench;
  let lease: string;
  let right: Buffer;

  const devices = async () => (await statusOf(bench)).devices;
  const serving = (count: number) =>
    until(
      `${count} devices`,
      async () => {
        const now = await devices();
        return now.length === count && now.every(({ state }) => state !== "down");
      },
      120_000,
    );

  beforeAll(async () => {
    // Each node says that it has a card; the engines want none.
    cluster = await startCluster(1, 4, 1, { RAY_AUTH_MODE: "token", RAY_AUTH_TOKEN: token });
    mkdirSync(join(home, ".ray"));
    writeFileSync(join(home, ".ray", "auth_token"), token, { mode: 0o600 });
    bench = await startBench({
      flags: [
        ...["--engines", "ray", "--ray-address", "auto", "--ray-gpus", "1", "--python", rayPython ?? ""],
        ...["--host", "onnxruntime", "--warm", "off"],
      ],
      env: { REFIT_RAY_CONTACT_SECONDS: "6", HOME: home },
      fill: (place) => place("checkpoints", "base.safetensors", demoCheckpoint),
    });
    await serving(1);
    ({ lease } = await prepare(bench, await idOf(bench, "checkpoint", "base.safetensors"), [], { host: "onnxruntime" }));
    right = await step(bench, lease);
  }, 180_000);
  afterAll(async () => {
    await bench.close();
    await cluster.close();
    rmSync(home, { recursive: true, force: true });
  }, 60_000);

  it("gets the token of this computer there, and none where its address is named", async () => {
    const flags = [
      "--engines",
      "ray",
      "--ray-address",
      cluster.address,
      "--ray-actors",
      "1",
      "--ray-gpus",
      "0",
      "--python",
      rayPython ?? "",
    ];
    await expect(startBench({ flags, env: { HOME: home } })).rejects.toThrow(
      /HOST_RAY_UNREACHABLE.*asks for a token.*RAY_AUTH_MODE=token/s,
    );
    const named = await startBench({ flags, env: { RAY_AUTH_MODE: "token", RAY_AUTH_TOKEN: token } });
    await named.close();
  });

  it("has an actor for each card, and one more when a node brings one", async () => {
    await cluster.do("add");
    await serving(2);
    expect(await step(bench, lease)).toEqual(right);
  });

  it.each([
    ["at its old address", "lose-head", "head", /its head began anew/],
    ["at another address, with every node", "lose-all", "head-elsewhere", /not joined/],
  ])("is joined again when its head comes back %s", async (_, lost, back, problem) => {
    await cluster.do(lost);
    const asked = step(bench, lease);
    await Promise.all([
      until("the old cluster to be left", async () => (await devices()).some((device) => problem.test(device.problem ?? "")), 120_000),
      cluster.do(back),
    ]);
    await cluster.do("add");
    await cluster.do("add");
    await serving(2);
    expect(await asked).toEqual(right);
    expect(await step(bench, lease)).toEqual(right);
  });
});

describe("a cluster that cannot be joined", () => {
  const serve = (flags: readonly string[]) => startBench({ flags: ["--engines", "ray", ...flags] });

  it.skipIf(skips)(
    "is refused with the address",
    async () => {
      await expect(
        serve(["--python", rayPython ?? "", "--ray-address", "127.0.0.1:9", "--ray-actors", "1", "--ray-gpus", "0"]),
      ).rejects.toThrow(/HOST_RAY_UNREACHABLE.*nothing answers at 127\.0\.0\.1:9/s);
      await expect(serve(["--python", rayPython ?? "", "--ray-address", "ray://somewhere", "--ray-actors", "1"])).rejects.toThrow(
        /HOST:PORT/,
      );
      await expect(serve(["--python", rayPython ?? "", "--ray-address", "127.0.0.1:9", "--ray-gpus", "0"])).rejects.toThrow(/--ray-actors/);
      await expect(serve(["--python", rayPython ?? "", "--ray-actors", "1", "--ray-gpus", "0"])).rejects.toThrow(
        /HOST_RAY_UNREACHABLE.*(found none|nothing answers at)/s,
      );
    },
    60_000,
  );

  it("is refused where the Python has no Ray, or none is named", async () => {
    await expect(serve([])).rejects.toThrow(/HOST_RAY_MISSING/);
    const python = process.env["REFIT_TEST_PYTHON"];
    if (python === undefined || python === "") return console.warn("a Python without Ray is not tried: REFIT_TEST_PYTHON is not set");
    await expect(serve(["--python", python, "--ray-actors", "1", "--ray-gpus", "0"])).rejects.toThrow(/HOST_RAY_MISSING.*pip install ray/s);
  }, 60_000);
});
