// The pages keep their word: every link and anchor leads somewhere, and every block of commands runs, or says why it is not run.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { anchorsOf, blocksOf, linksOf, pages, root, textOf } from "./pages.ts";

/** Languages of blocks that nobody types into a terminal. */
const notCommands = new Set(["text", "json", "toml", "nginx", "yaml", "http", "ini"]);
const commands = pages.flatMap(blocksOf).filter(({ language }) => !notCommands.has(language));
const run = commands.filter(({ notRun }) => notRun === null);

describe("links", () => {
  it.each(pages)("%s leads somewhere", (page) => {
    const broken = linksOf(page).filter(({ target, anchor }) => {
      const file = target === "" ? page : normalize(join(dirname(page), target)).replaceAll("\\", "/");
      if (!existsSync(join(root, file))) return true;
      return anchor !== null && file.endsWith(".md") && !anchorsOf(file).has(anchor);
    });
    expect(broken).toEqual([]);
  });
});

describe("README", () => {
  it("has at most 80 lines", () => {
    expect(textOf("README.md").trimEnd().split("\n").length).toBeLessThanOrEqual(80);
  });
});

describe("blocks", () => {
  it("that are marked say why", () => {
    expect(commands.filter(({ notRun }) => notRun !== null && notRun.length < 10)).toEqual([]);
  });

  it("of JSON are JSON", () => {
    for (const { page, line, text } of pages.flatMap(blocksOf).filter(({ language }) => language === "json"))
      expect(() => JSON.parse(text) as unknown, `${page}:${line}`).not.toThrow();
  });
});

/** One place with what the pages name: a model, a LoRA, a folder of each UI; and one sidecar that serves it. */
let place: string;
let sidecar: ChildProcess;
const dataDir = () => join(place, "data");
const demo = join(root, "sidecar/demo");

function uiFolder(folder: string, page: string): void {
  const parts = page.endsWith("webui.md")
    ? ["launch.py", "modules/launch_utils.py", "extensions/"]
    : ["main.py", "comfy/", "custom_nodes/"];
  for (const part of parts) {
    const path = join(folder, part);
    mkdirSync(part.endsWith("/") ? path : dirname(path), { recursive: true });
    if (!part.endsWith("/")) writeFileSync(path, "");
  }
}

const environment = () => ({
  ...process.env,
  PATH: [join(place, "bin"), dirname(process.execPath), process.env["PATH"]].join(delimiter),
  REFIT_DATA_DIR: dataDir(),
});

beforeAll(async () => {
  place = mkdtempSync(join(tmpdir(), "refit-pages-"));
  for (const folder of ["bin", "models/loras", "models/checkpoints"]) mkdirSync(join(place, folder), { recursive: true });
  copyFileSync(join(demo, "demo-unet.safetensors"), join(place, "models/checkpoints/my-model.safetensors"));
  copyFileSync(join(demo, "loras/only-sevens.safetensors"), join(place, "models/loras/my-lora.safetensors"));
  const program = join(root, "sidecar/bin/refit-sidecar.mjs");
  writeFileSync(join(place, "bin/refit-sidecar"), `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
  chmodSync(join(place, "bin/refit-sidecar"), 0o755);
  if (run.length === 0 || process.platform === "win32") return;
  const models = ["--loras", "models/loras", "--checkpoints", "models/checkpoints"];
  sidecar = spawn(process.execPath, [program, "serve", ...models, "--port", "0", "--json", "--stop-with-stdin", "--data-dir", dataDir()], {
    cwd: place,
    stdio: ["pipe", "pipe", "ignore"],
  });
  await new Promise<void>((started, failed) => {
    createInterface({ input: sidecar.stdout as NodeJS.ReadableStream }).once("line", () => started());
    sidecar.once("exit", (code) => failed(new Error(`the sidecar ended with ${code}`)));
  });
}, 60_000);

afterAll(async () => {
  if (sidecar !== undefined) {
    const ended = new Promise((stop) => sidecar.once("exit", stop));
    sidecar.stdin?.end();
    await ended;
  }
  rmSync(place, { recursive: true, force: true });
}, 30_000);

describe.skipIf(process.platform === "win32")("metrics", () => {
  /** Those of `--engines ray` alone. */
  const ofRay = "refit_gateway_step_ms";
  const namesIn = (text: string) => new Set([...text.matchAll(/\brefit_[a-z_]+/g)].map(([name]) => name));

  it("of a running sidecar stand on their page, and alerts ask for those alone", async () => {
    const { url, token } = JSON.parse(readFileSync(join(dataDir(), "sidecar.json"), "utf8")) as {
      readonly url: string;
      readonly token: string;
    };
    const text = await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text();
    const there = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = ""]) => name)).add(ofRay);
    const page = textOf("docs/operate/metrics.md");
    const [listed = "", alerts = ""] = page.split("## Alerts");
    expect([...there].filter((name) => !namesIn(listed).has(name))).toEqual([]);
    const cluster = textOf("docs/operate/cluster.md").split("## Alerts")[1]?.split("\n## ")[0] ?? "";
    expect([...namesIn(alerts), ...namesIn(cluster)].filter((name) => !there.has(name))).toEqual([]);
    expect(namesIn(cluster)).toContain(ofRay);
  });
});

// The pages are written for a POSIX shell; PowerShell has other words for variables.
describe.skipIf(process.platform === "win32")("commands", () => {
  it.concurrent.each(run.map((block) => ({ ...block, name: `${block.page}:${block.line}` })))(
    "$name run",
    async ({ page, line, text }) => {
      const folder = join(place, `${page.replaceAll("/", "-")}-${line}`);
      mkdirSync(folder);
      uiFolder(join(folder, "DIR"), page);
      for (const name of ["my-model.safetensors", "my-model-fp8.safetensors"])
        copyFileSync(join(place, "models/checkpoints/my-model.safetensors"), join(folder, name));
      copyFileSync(join(place, "models/loras/my-lora.safetensors"), join(folder, "my-lora.safetensors"));
      const child = spawn("sh", ["-eu", "-c", text], { cwd: folder, env: environment(), stdio: ["ignore", "pipe", "pipe"] });
      const said: Buffer[] = [];
      child.stdout.on("data", (data: Buffer) => said.push(data));
      child.stderr.on("data", (data: Buffer) => said.push(data));
      const status = await new Promise((ended) => child.once("close", ended));
      expect(status, Buffer.concat(said).toString("utf8")).toBe(0);
    },
    60_000,
  );

  it("are there: a shell, and curl for the metrics", () => {
    expect(spawnSync("curl", ["--version"]).status, "install curl (Debian: apt install curl)").toBe(0);
  });
});
