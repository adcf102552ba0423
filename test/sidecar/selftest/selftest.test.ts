import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { homedir, hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { checkHost, readHardware, reportMarkdown, systemFacts } from "../../../sidecar/src/selftest/index.ts";
import type { Row, SelftestReport } from "../../../sidecar/src/selftest/index.ts";

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const folder = realpathSync(mkdtempSync(join(tmpdir(), "refit-selftest-test-")));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, "selftest", "--data-dir", join(folder, "data"), ...args], {
    encoding: "utf8",
    cwd: folder,
    env: { ...process.env, REFIT_PYTHON: undefined },
  });
  return { status, stdout, stderr };
};
const liar = (fault: string) => ({
  kind: "onnxruntime",
  command: process.execPath,
  args: [fileURLToPath(new URL("lying-host.mjs", import.meta.url)), fault],
});
const check = async (fault: string): Promise<Record<string, Row["status"]>> => {
  const { rows } = await checkHost({ command: liar(fault), precision: null, onRow: () => undefined, repeats: 2, size: null });
  return Object.fromEntries(rows.map(({ id, status }) => [id, status]));
};

describe("selftest", () => {
  it("passes on the embedded engine, says why other hosts are left out, and writes a report without paths and names", () => {
    const { status, stdout } = run("--json", "--repeats", "4");
    const report = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as SelftestReport & { readonly out: string };
    expect(status).toBe(0);
    expect(report.hosts.map(({ host }) => host)).toEqual(["onnxruntime", "torch", "tensorrt"]);
    const [embedded, torch] = report.hosts;
    expect(embedded?.rows.map(({ id, status: result }) => `${id} ${result}`)).toEqual(
      ["start", "load", "step", "refit", "A-B-A", "strength", "base", "checkpoint", "refused", "recover", "times"].map(
        (id) => `${id} pass`,
      ),
    );
    expect(torch?.rows).toMatchObject([{ status: "skip", detail: expect.stringContaining("host install torch") as string }]);
    const text = readFileSync(join(folder, "refit-selftest.md"), "utf8");
    expect(text).toContain("self-test: passed");
    for (const secret of [homedir(), folder, tmpdir(), hostname(), fileURLToPath(new URL("../../../", import.meta.url))])
      expect(text).not.toContain(`${secret}/`);
    const json = JSON.parse(/```json\n(.*)\n```/.exec(text)?.[1] ?? "") as SelftestReport;
    expect(json.hosts).toEqual(report.hosts);
  });

  it("refuses wrong arguments with status 2, and a host that is not installed with what to do", () => {
    for (const args of [
      ["--host", "cuda"],
      ["--precision", "int3"],
      ["--repeats", "0"],
      ["--size", "large"],
    ])
      expect(run(...args).status).toBe(2);
    expect(run("--host", "tensorrt")).toMatchObject({ status: 1, stderr: expect.stringContaining("host install tensorrt") as string });
  });

  it("fails when weights do not come back, when steps compute something else, when a refit needs a rebuild, when the host does not start", async () => {
    expect(await check("leaves-bits")).toMatchObject({ refit: "pass", "A-B-A": "fail", base: "fail" });
    expect(await check("wrong-numbers")).toMatchObject({ load: "pass", step: "fail", "A-B-A": "pass" });
    expect(await check("builds-again")).toMatchObject({ step: "pass", refit: "fail", "A-B-A": "fail", checkpoint: "fail" });
    const gone = await checkHost({
      command: { kind: "onnxruntime", command: join(folder, "gone"), args: [] },
      precision: null,
      onRow: () => undefined,
      repeats: 1,
      size: null,
    });
    expect(gone).toMatchObject({ ok: false, about: null, rows: [{ id: "start", status: "fail" }] });
    expect(JSON.stringify(gone)).not.toContain(folder);
  }, 120_000);
});

describe("the report", () => {
  const row = (firstOnHardware: boolean): Row => ({
    id: "load",
    title: "an engine is built",
    status: "pass",
    detail: "1 ms | ok",
    figures: {},
    firstOnHardware,
  });
  const about = {
    versions: { tensorrt: "1.7" },
    device: { type: "cuda", name: "NVIDIA GeForce RTX 4070", capability: "8.9" },
    memory: { totalBytes: 2 ** 33, freeBytes: 2 ** 33 },
  };
  const report = (host: SelftestReport["hosts"][number]): SelftestReport => ({
    formatVersion: 1,
    version: "0",
    madeAt: "now",
    system: systemFacts([{ name: "a card", capability: "8.9", driver: "580.1", memoryMib: 8192 }]),
    hosts: [host],
    ok: host.ok,
  });

  it("names first runs on hardware, so that the label in the documents can be lifted", () => {
    const text = reportMarkdown(report({ host: "tensorrt", about, precision: "f16", tier: null, rows: [row(true)], ok: true }));
    expect(text).toContain("| pass, first run on hardware |");
    expect(text).toContain(
      '`tensorrt` on NVIDIA GeForce RTX 4070: 1 checks passed for the first time on such hardware; none failed, so its label "not run" can be lifted',
    );
    expect(text).toContain("1 ms \\| ok");
    expect(
      reportMarkdown(report({ host: "torch", about, precision: "f16", tier: "CUDA graphs", rows: [row(false)], ok: true })),
    ).not.toContain("First runs");
  });

  it("the table of hardware has a row for every host", async () => {
    expect(new Set((await readHardware()).map(({ host }) => host))).toEqual(new Set(["onnxruntime", "torch", "tensorrt"]));
  });
});
