import { existsSync, writeFileSync } from "node:fs";
import { PassThrough, Writable } from "node:stream";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { watchOutput } from "../../sidecar/src/cli/output.ts";
import { demo, newFolder, runFor } from "./support.ts";

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
