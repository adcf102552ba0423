import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { goldenPath } from "../../golden/cases.ts";

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const demo = fileURLToPath(new URL("../../../sidecar/demo/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "refit-cli-"));
const base = join(demo, "demo-unet.safetensors");
const lora = join(demo, "loras", "only-sevens.safetensors");

function run(...args: string[]): {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly last: Record<string, unknown>;
} {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder, maxBuffer: 1 << 26 });
  const line = stdout.trim().split("\n").at(-1) ?? "";
  return { status, stdout, stderr, last: line.startsWith("{") ? (JSON.parse(line) as Record<string, unknown>) : {} };
}

describe("refit-sidecar", () => {
  it("answers wrong words with status 2 and the way to help", () => {
    expect(run("nonsense")).toMatchObject({ status: 2, stderr: expect.stringContaining("--help") as string });
    expect(run("serve", "--port", "99999999", "--data-dir", join(folder, "d"))).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("--port expects a number from 0 to 65535") as string,
    });
    expect(run("--help").status).toBe(0);
  });

  it("inspect tells an adapter, its fit on a checkpoint, and a checkpoint, as JSON", () => {
    expect(run("inspect", lora, "--base", base, "--json")).toMatchObject({
      status: 0,
      last: { ok: true, kind: "adapter", family: "sd15", kinds: { lora: 277 }, ignored: [], failed: [] },
    });
    expect(run("inspect", base, "--json")).toMatchObject({
      status: 0,
      last: { ok: true, kind: "checkpoint", family: "sd15", parameters: 684 },
    });
  });

  it("inspect names what is wrong with a file", () => {
    writeFileSync(join(folder, "x.safetensors"), Buffer.concat([Buffer.from("PK\u0003\u0004"), Buffer.alloc(100)]));
    expect(run("inspect", "x.safetensors", "--json")).toMatchObject({ status: 1, last: { ok: false, error: { code: "PICKLE_REFUSED" } } });
    expect(run("inspect", "absent.safetensors", "--json")).toMatchObject({ status: 1, last: { ok: false, error: { code: "UNREADABLE" } } });
  });

  it("merge writes all or nothing, refuses to overwrite its input, and reports an adapter of another family", () => {
    expect(run("merge", "--base", base, "--adapter", lora, "--out", base)).toMatchObject({ status: 2 });
    expect(run("merge", "--base", base, "--out", "o.safetensors", "--json")).toMatchObject({
      status: 2,
      last: { error: { code: "CLI_MERGE_ARGUMENTS" } },
    });
    expect(run("merge", "--base", base, "--adapter", `${join(folder, "absent")}:1`, "--out", "o.safetensors", "--json")).toMatchObject({
      status: 1,
      last: { ok: false },
    });
    expect(existsSync(join(folder, "o.safetensors"))).toBe(false);
    const foreign = goldenPath("wan/wan_diffusers_names_ignored.adapter.safetensors");
    expect(run("merge", "--base", base, "--adapter", foreign, "--out", "same.safetensors", "--json")).toMatchObject({
      status: 1,
      last: { ok: false, error: { code: "DELTA_NO_WEIGHT_CHANGES" }, merged: 0 },
    });
    expect(readFileSync(join(folder, "same.safetensors")).subarray(-4096).equals(readFileSync(base).subarray(-4096))).toBe(true);
  });

  it("merge --jobs goes on after a failed job and gives one line each", () => {
    writeFileSync(
      join(folder, "jobs.jsonl"),
      [
        JSON.stringify({ base, adapter: [`${lora}:0.5`], out: join(folder, "a.safetensors"), dtype: "f32" }),
        "not json",
        JSON.stringify({ base: "absent", adapter: [lora], out: "b" }),
      ].join("\n"),
    );
    const { status, stdout } = run("merge", "--jobs", "jobs.jsonl", "--json");
    const results = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { ok: boolean; error?: { code: string } });
    expect(status).toBe(1);
    expect(results.map((result) => result.ok)).toEqual([true, false, false]);
    expect(results[1]!.error!.code).toBe("CLI_MERGE_JOB");
  });

  it("delta export makes a file that merges to the same bytes as the adapter", () => {
    expect(run("delta", "export", "--adapter", `${lora}:0.7`, "--base", base, "--out", "d.trt_lora", "--json")).toMatchObject({
      status: 0,
      last: { ok: true, terms: 277, strength: 0.7 },
    });
    expect(run("inspect", "d.trt_lora", "--json")).toMatchObject({
      status: 0,
      last: { ok: true, family: "sd15", adapter_kind: "exported delta" },
    });
    run("merge", "--base", base, "--adapter", "d.trt_lora", "--out", "one.safetensors");
    run("merge", "--base", base, "--adapter", lora, "--out", "two.safetensors");
    expect(readFileSync(join(folder, "one.safetensors")).equals(readFileSync(join(folder, "two.safetensors")))).toBe(true);
  });

  it("cache and engine commands work on a store of their own", () => {
    const store = join(folder, "store");
    expect(run("cache", "ls", "--engine-store", store, "--json").last).toEqual({ ok: true, entries: [] });
    expect(run("cache", "rm", "abc", "--engine-store", store, "--json")).toMatchObject({
      status: 2,
      last: { error: { code: "CLI_STORE_ENTRY" } },
    });
    expect(run("engine", "keygen", "maker", "--json")).toMatchObject({ status: 0, last: { ok: true, public_key: "maker.pub.pem" } });
    expect(run("engine", "import", "d.trt_lora", "--engine-store", store, "--trust", "maker.pub.pem", "--json")).toMatchObject({
      status: 1,
      last: { error: { code: "BUNDLE_DAMAGED" } },
    });
  });

  it("doctor finds the embedded engine", () => {
    const { status, last } = run("doctor", "--json");
    expect(status).toBe(0);
    expect(last["findings"]).toEqual(
      expect.arrayContaining([expect.objectContaining({ name: "embedded engine (onnxruntime)", ok: true })]),
    );
  });

  it("install puts the plugin into a web UI and says which; uninstall takes it out; a wrong folder is refused", () => {
    const ui = join(folder, "forge");
    for (const name of ["extensions", "modules", "modules_forge"]) mkdirSync(join(ui, name), { recursive: true });
    for (const name of ["launch.py", join("modules", "launch_utils.py")]) writeFileSync(join(ui, name), "");
    for (let round = 0; round < 2; round += 1)
      expect(run("install", "--webui", ui, "--json")).toMatchObject({ status: 0, last: { ok: true, ui: "forge" } });
    for (const name of [
      "install.py",
      "preload.py",
      "metadata.ini",
      "style.css",
      join("javascript", "refit-sidecar.mjs"),
      join("scripts", "refit_sidecar.py"),
    ])
      expect(existsSync(join(ui, "extensions", "refit-sidecar", name))).toBe(true);
    expect(run("install", "--comfyui", ui)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("Give --webui for this folder.") as string,
    });
    expect(run("uninstall", "--webui", ui)).toMatchObject({ status: 0, stdout: expect.stringContaining("Restart Forge.") as string });
    expect(existsSync(join(ui, "extensions", "refit-sidecar"))).toBe(false);
    expect(run("install", "--webui", folder, "--json")).toMatchObject({
      status: 1,
      last: { ok: false, error: { code: "INSTALL_UI_UNKNOWN" } },
    });
    expect(run("install")).toMatchObject({ status: 2 });
  });
});
