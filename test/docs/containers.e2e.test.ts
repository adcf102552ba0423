// The commands of the files for Compose and KubeRay (docs/operate/cluster.md), run as containers run them: on one network, each with its own processes, shared memory and Ray folder.

import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { demoCheckpoint, demoLora, until } from "../sidecar/pipeline/harness.ts";
import { rayPython } from "../sidecar/pipeline/providers/ray-cluster.ts";
import { blocksOf, root } from "./pages.ts";

const isolates =
  spawnSync("unshare", ["--net", "--mount", "--pid", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"]).status === 0;
if (rayPython !== null && !isolates) console.warn("the files for containers are not run: this user cannot unshare networks and processes");

const page = "docs/operate/cluster.md";
const token = "0123456789abcdef0123456789abcdef";
const asked = fileURLToPath(new URL("ask-service.mjs", import.meta.url));

interface Compose {
  readonly services: Readonly<
    Record<"head" | "node", { readonly command: string; readonly environment: Readonly<Record<string, string>> }>
  >;
}
interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: { readonly secretKeyRef: object } }[];
}
interface RayClusterFile {
  readonly spec: { readonly headGroupSpec: { readonly template: { readonly spec: { readonly containers: readonly Container[] } } } };
}

/** Ray brings a reader of YAML. */
function fileOf(kind: "compose" | "kuberay"): unknown {
  const blocks = blocksOf(page).filter(({ language }) => language === "yaml");
  const text = blocks[kind === "compose" ? 0 : 1]?.text ?? "";
  const reader = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
  return JSON.parse(execFileSync(rayPython ?? "", ["-c", reader], { input: text, encoding: "utf8" }));
}

describe.skipIf(rayPython === null || !isolates)("the files for containers", { timeout: 240_000 }, () => {
  let folder: string;
  let network: ChildProcess;
  let containers: ChildProcess[] = [];
  const said: string[] = [];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "refit-containers-"));
    for (const name of ["bin", "home", "data", "models/loras", "models/checkpoints"]) mkdirSync(join(folder, name), { recursive: true });
    chmodSync(join(folder, "data"), 0o700);
    copyFileSync(demoCheckpoint, join(folder, "models/checkpoints/base.safetensors"));
    copyFileSync(demoLora("small"), join(folder, "models/loras/small.safetensors"));
    const program = join(root, "sidecar/bin/refit-sidecar.mjs");
    writeFileSync(join(folder, "bin/refit-sidecar"), `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`, { mode: 0o755 });
    network = spawn("unshare", ["--net", "sh", "-c", "ip link set lo up; echo up; exec cat"], { stdio: ["pipe", "pipe", "inherit"] });
    await new Promise((resolve) => createInterface({ input: network.stdout! }).once("line", resolve));
  });
  afterEach(async () => {
    const ended = [...containers, network].map((child) => new Promise((resolve) => child.once("exit", resolve)));
    for (const child of containers) child.kill("SIGKILL");
    network.stdin?.end();
    await Promise.all(ended);
    containers = [];
    rmSync(folder, { recursive: true, force: true });
  });

  const inNetwork = (...command: readonly string[]) => ["--target", String(network.pid), "--net", "--", ...command];

  /** With what the image and the volumes have in other places here. A container that ends is started again. */
  function start(command: string, env: Readonly<Record<string, string>>): void {
    const here = command
      .replaceAll("/usr/local/bin/python", rayPython ?? "")
      .replaceAll(/ (\/data|\/models)/g, ` ${folder}$1`)
      .replaceAll("refit-sidecar serve", "refit-sidecar serve --host onnxruntime --warm off");
    const setUp =
      'mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray; mount -t tmpfs tmpfs /dev/shm; while true; do sh -c "$1"; sleep 1; done';
    const isolated = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", setUp, "sh", here];
    const child = spawn("nsenter", inNetwork(...isolated), {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...env,
        HOME: join(folder, "home"),
        PATH: [join(folder, "bin"), dirname(rayPython ?? ""), process.env["PATH"]].join(delimiter),
      },
    });
    for (const output of [child.stdout, child.stderr]) createInterface({ input: output }).on("line", (line) => said.push(line));
    containers.push(child);
  }

  async function picture(): Promise<{
    readonly status: number;
    readonly engine: string;
    readonly devices: string[];
    readonly latents: string;
  }> {
    const { stdout } = await promisify(execFile)("nsenter", inNetwork(process.execPath, asked, join(folder, "data")), { timeout: 180_000 });
    return JSON.parse(stdout) as Awaited<ReturnType<typeof picture>>;
  }

  /** The processes that run a cluster's tables on this network. */
  const heads = (): number[] =>
    readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .map(Number)
      .filter((pid) => {
        try {
          const isHere = readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync(`/proc/${network.pid}/ns/net`);
          return isHere && readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0]?.endsWith("gcs_server") === true;
        } catch {
          return false;
        }
      });

  it("for Compose serve pictures from a node that comes later, and again after the head was killed", async () => {
    const { head, node } = (fileOf("compose") as Compose).services;
    expect(head.environment["RAY_AUTH_TOKEN"]).toMatch(/^\$\{RAY_AUTH_TOKEN:\?/);
    const env = { ...head.environment, RAY_AUTH_TOKEN: token };
    const [, , command = ""] = head.command.match(/^(sh -c) "(.*)"\s*$/s) ?? [];
    start(command, env);
    await until("the head", () => heads().length === 1, 60_000);
    // The node says that it has a card; the engine wants none.
    start(`${node.command.replace("${HEAD:-localhost}", "localhost")} --num-cpus=1 --num-gpus=1`, env);
    const first = await picture();
    expect(first, said.slice(-20).join("\n")).toMatchObject({ status: 200, engine: expect.stringMatching(/@ray:0$/) as string });
    const [before = 0] = heads();
    process.kill(before, "SIGKILL");
    await until("another head", () => heads().some((pid) => pid !== before), 60_000);
    expect(await picture()).toEqual(first);
  });

  it("for KubeRay serve pictures from a worker, with the operator's own commands beside them", async () => {
    const { containers: all } = (fileOf("kuberay") as RayClusterFile).spec.headGroupSpec.template.spec;
    const sidecar = all.find(({ name }) => name === "sidecar");
    const env = { RAY_AUTH_MODE: "token", RAY_AUTH_TOKEN: token };
    start(
      "ray start --head --block --dashboard-agent-listen-port=52365 --dashboard-host=0.0.0.0 --metrics-export-port=8080 --num-gpus=0",
      env,
    );
    start(
      (sidecar?.args[0] ?? "").replace("--ray-actors 8", "--ray-actors 1"),
      Object.fromEntries((sidecar?.env ?? []).map(({ name, value }) => [name, value ?? token])),
    );
    // Its own address is another one in a cluster; here, its ports are.
    start(
      "ray start --address=localhost:6379 --block --dashboard-agent-listen-port=52366 --metrics-export-port=8081 --num-cpus=1 --num-gpus=1",
      env,
    );
    expect(await picture(), said.slice(-20).join("\n")).toMatchObject({ status: 200, devices: ["ray:0"] });
  });
});
