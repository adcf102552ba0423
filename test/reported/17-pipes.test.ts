import { spawn } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { PassThrough, Writable } from "node:stream";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, it } from "vitest";
import { watchOutput } from "../../sidecar/src/cli/output.ts";
import { cli, demo, newFolder, run, runFor } from "./support.ts";

const folder = newFolder();
const base = join(demo, "demo-unet.safetensors");
const loras = ["small", "thick-strokes"].map((name) => join(demo, "loras", `${name}.safetensors`));
const merge = ["merge", "--base", base, ...loras.flatMap((lora) => ["--adapter", lora]), "--json"];

describe("the output of a command in a pipe", () => {
  it("is whole before a reader who starts late and reads slowly", async () => {
    const slow = async (stdout: NodeJS.ReadableStream): Promise<string> => {
      const parts: Buffer[] = [];
      await new Promise((wake) => setTimeout(wake, 200));
      for await (const part of stdout) {
        parts.push(part as Buffer);
        await new Promise((wake) => setTimeout(wake, 2));
      }
      return Buffer.concat(parts).toString("utf8");
    };
    const { status, stdout, last } = await runFor(folder, [...merge, "--out", "one.safetensors"], slow);
    expect(status).toBe(0);
    expect(stdout.length).toBeGreaterThan(200_000);
    expect(last["ok"]).toBe(true);
    const jobs = [1, 2].map((index) => JSON.stringify({ base, adapter: loras, out: `job-${index}.safetensors` })).join("\n");
    const piped = await runFor(folder, ["merge", "--jobs", "-"], slow, jobs);
    expect(
      piped.stdout
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as { ok: boolean }).ok),
    ).toEqual([true, true]);
  });

  it("that nobody reads any more ends without a word, and the work is done all the same", async () => {
    writeFileSync(
      join(folder, "jobs.jsonl"),
      [1, 2].map((index) => JSON.stringify({ base, adapter: loras, out: `closed-${index}.safetensors` })).join("\n"),
    );
    for (const args of [[...merge, "--out", "closed.safetensors"], ["merge", "--jobs", "jobs.jsonl"], ["--help"]]) {
      const { status, stderr } = await runFor(folder, args, async (stdout) => {
        stdout.destroy();
        return "";
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    }
    for (const name of ["closed", "closed-1", "closed-2"]) expect(existsSync(join(folder, `${name}.safetensors`))).toBe(true);
  });

  it("that cannot be stored is an error of its own", async () => {
    const full = new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error("no"), { code: "ENOSPC" })) });
    const errors = new PassThrough();
    const printed = watchOutput(full, errors);
    full.write("report");
    expect(await printed.whole(0)).toBe(1);
    expect(String(errors.read())).toContain("ENOSPC");
  });
});

describe("a list of jobs", () => {
  const job = (out: string) => JSON.stringify({ base, adapter: loras.slice(0, 1), out });

  it("that cannot be read is an error in words: absent, a folder, one line without an end, options beside it", () => {
    expect(run(folder, "merge", "--jobs", "absent.jsonl")).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("no such file") as string,
    });
    expect(run(folder, "merge", "--jobs", ".")).toMatchObject({ status: 1, stderr: expect.stringContaining("found a folder") as string });
    writeFileSync(join(folder, "long.jsonl"), "x".repeat(5 << 20));
    expect(run(folder, "merge", "--jobs", "long.jsonl")).toMatchObject({
      status: 2,
      stdout: "",
      stderr: expect.stringContaining("[CLI_MERGE_JOB]") as string,
    });
    expect(run(folder, "merge", "--jobs", "x.jsonl", "--out", "y.safetensors")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("leave --out out") as string,
    });
  });

  it("may begin with a byte order mark, end lines as Windows does, and end in the middle of a line", async () => {
    const { stdout } = await runFor(
      folder,
      ["merge", "--jobs", "-"],
      text,
      `\ufeff${job("mark.safetensors")}\r\n\r\n${job("last.safetensors")}\n{"base":`,
    );
    const results = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { ok: boolean; error?: { code: string } });
    expect(results.map(({ ok, error }) => [ok, error?.code])).toEqual([
      [true, undefined],
      [true, undefined],
      [false, "CLI_MERGE_JOB"],
    ]);
  });

  it("has no fields that nobody reads", async () => {
    const { last } = await runFor(folder, ["merge", "--jobs", "-"], text, '{"base":"b","adapter":"a","out":"o","strenght":2}');
    expect(last).toMatchObject({ ok: false, error: { message: expect.stringContaining('found "strenght"') as string } });
  });
});

it.skipIf(process.platform === "win32")("a merge that is ended leaves nothing behind", async () => {
  const place = newFolder();
  const child = spawn(process.execPath, [cli, ...merge, "--out", join(place, "ended.safetensors")], { cwd: place });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  // The file beside the output's place is there as soon as the writing began.
  while (child.exitCode === null && readdirSync(place).length === 0) await new Promise((wake) => setTimeout(wake, 1));
  child.kill("SIGTERM");
  const status = await ended;
  // It may have ended by itself meanwhile.
  expect([status, readdirSync(place)]).toEqual(status === 0 ? [0, ["ended.safetensors"]] : [130, []]);
});
