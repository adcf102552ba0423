import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { text } from "node:stream/consumers";
import { replaceFile } from "@refit-sidecar/native";
import { beforeAll, describe, expect, it } from "vitest";
import { checkOutput, checkOutputFolder, checkpointInputs, outputLedger } from "../../sidecar/src/cli/outputs.ts";
import { demo, fluxModel, hashOf, newFolder, pair, run, runFor, write } from "./support.ts";

const folder = newFolder();
const at = (name: string) => join(folder, name);
const check = (out: string, inputs: readonly string[]) =>
  checkOutput({ out, option: "--out", code: "CLI_ARGUMENTS", inputs: inputs.map((path) => ({ what: "an input", path })) });

beforeAll(async () => {
  await write(at("base.safetensors"), fluxModel());
  await write(at("lora.safetensors"), pair("diffusion_model.double_blocks.0.img_attn.proj", 32, 32));
  mkdirSync(at("x"));
});

describe("an output", () => {
  const cannotLink = process.platform === "win32";

  it("is refused where it is an input, in whatever way the path is written", async () => {
    const base = at("base.safetensors");
    for (const spelling of [base, join(folder, ".", "base.safetensors"), `${folder}//base.safetensors`, `${folder}/x/../base.safetensors`])
      await expect(check(spelling, [base])).rejects.toMatchObject({
        code: "CLI_ARGUMENTS",
        message: expect.stringContaining("overwrite one of its inputs") as string,
      });
    await expect(check(at("other.safetensors"), [base])).resolves.toBeUndefined();
  });

  it.skipIf(cannotLink)(
    "is refused where it is an input through a symbolic link, a linked folder or a hard link, and through a link that leads nowhere yet",
    async () => {
      linkSync(at("base.safetensors"), at("hard.safetensors"));
      symlinkSync(at("base.safetensors"), at("soft.safetensors"));
      symlinkSync(folder, at("linked-folder"));
      for (const out of ["hard.safetensors", "soft.safetensors", join("linked-folder", "base.safetensors")])
        await expect(check(at(out), [at("base.safetensors")])).rejects.toMatchObject({ code: "CLI_ARGUMENTS" });
      await expect(check(at("base.safetensors"), [at("soft.safetensors")])).rejects.toMatchObject({ code: "CLI_ARGUMENTS" });
      await expect(check(join(folder, "linked-folder", "new.safetensors"), [at("new.safetensors")])).rejects.toMatchObject({
        code: "CLI_ARGUMENTS",
      });
    },
  );

  it.skipIf(cannotLink)("is refused where it is a pipe or a device, which a new file would take the place of", async () => {
    execFileSync("mkfifo", [at("pipe")]);
    symlinkSync("/dev/null", at("null-link"));
    for (const out of [at("pipe"), at("null-link"), "/dev/null"])
      await expect(check(out, [at("base.safetensors")])).rejects.toMatchObject({
        code: "CLI_ARGUMENTS",
        message: expect.stringContaining("a device, a pipe or a socket") as string,
      });
    await expect(replaceFile(at("pipe"), (handle) => handle.writeFile("x"))).rejects.toMatchObject({ code: "EEXIST" });
    expect(lstatSync(at("pipe")).isFIFO()).toBe(true);
    for (const command of [
      ["merge", "--adapter"],
      ["delta", "export", "--adapter"],
    ])
      expect(run(folder, ...command, at("lora.safetensors"), "--base", at("base.safetensors"), "--out", at("pipe"))).toMatchObject({
        status: 2,
      });
    expect(run(folder, "selftest", "--out", at("pipe"))).toMatchObject({ status: 2 });
    expect(lstatSync(at("pipe")).isFIFO()).toBe(true);
  });

  it("is refused where it is a shard, or the table, of the checkpoint that is read", async () => {
    await write(at("s-00001-of-00002.safetensors"), { a: { shape: [2] } });
    await write(at("s-00002-of-00002.safetensors"), { b: { shape: [2] } });
    writeFileSync(
      at("s.safetensors.index.json"),
      JSON.stringify({ weight_map: { a: "s-00001-of-00002.safetensors", b: "s-00002-of-00002.safetensors" } }),
    );
    const inputs = await checkpointInputs("the base", at("s.safetensors.index.json"));
    expect(inputs.map(({ path }) => basename(path))).toEqual([
      "s.safetensors.index.json",
      "s-00001-of-00002.safetensors",
      "s-00002-of-00002.safetensors",
    ]);
    for (const { path } of inputs)
      await expect(checkOutput({ out: path, option: "--out", code: "CLI_ARGUMENTS", inputs })).rejects.toMatchObject({
        code: "CLI_ARGUMENTS",
      });
  });

  it("of a report, a bundle or a state replaces an older one, and nothing else", async () => {
    const folder = newFolder();
    const model = join(folder, "model.safetensors");
    writeFileSync(model, Buffer.concat([Buffer.from([16, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("{}              ")]));
    symlinkSync(model, join(folder, "link.md"));
    const before = hashOf(model);
    for (const out of [model, join(folder, "link.md"), join(folder, "notes.md")]) {
      if (out.endsWith("notes.md")) writeFileSync(out, "# My notes");
      const bytes = hashOf(out);
      const { status, stderr } = run(folder, "selftest", "--out", out);
      expect([status, hashOf(out) === bytes], stderr).toEqual([2, true]);
      expect(stderr).toContain("no report of a self-test");
    }
    expect(hashOf(model)).toBe(before);
    const replaces = { what: "export of a state", begins: '{ "format": "refit-sidecar state"' };
    const older = join(folder, "state.json");
    writeFileSync(older, JSON.stringify({ format: "refit-sidecar state", version: 1 }, null, 2));
    writeFileSync(join(folder, "empty"), "");
    for (const out of [older, join(folder, "empty"), join(folder, "new.json")])
      await checkOutput({ out, option: "the file", code: "CLI_ARGUMENTS", inputs: [], replaces });
    await expect(checkOutput({ out: model, option: "the file", code: "CLI_ARGUMENTS", inputs: [], replaces })).rejects.toMatchObject({
      code: "CLI_ARGUMENTS",
    });
  });

  it("needs its folder, and is no folder itself", async () => {
    await expect(check(at("nowhere/o.safetensors"), [])).rejects.toThrow("the folder of --out does not exist");
    await expect(check(at("base.safetensors/o"), [])).rejects.toThrow("the folder of --out is a file");
    await expect(check(at("x"), [])).rejects.toThrow("is a folder; name a file in it");
  });

  it("folder is made, or replaced where this command made it, and never emptied of anything else", async () => {
    const isOurs = (names: readonly string[]) => names.includes("ours");
    const request = (out: string, inputs: readonly string[] = []) =>
      checkOutputFolder({
        out,
        option: "--out",
        code: "CLI_ARGUMENTS",
        inputs: inputs.map((path) => ({ what: "the model", path })),
        isOurs,
      });
    await expect(request(at("not-there"))).resolves.toBeUndefined();
    await expect(request(at("x"))).resolves.toBeUndefined();
    await expect(request(folder)).rejects.toThrow("would be emptied");
    await expect(request(at("base.safetensors"))).rejects.toThrow("is a file");
    mkdirSync(at("made"));
    writeFileSync(at("made/ours"), "");
    await expect(request(at("made"))).resolves.toBeUndefined();
    await expect(request(at("made"), [at("made/ours")])).rejects.toThrow("would remove one of its inputs");
  });
});

describe("several jobs of one command", () => {
  it("may not write one file twice, nor over a file that another reads; what an earlier one makes may be read", async () => {
    const ledger = outputLedger("CLI_ARGUMENTS");
    const input = (path: string) => ({ what: "an input", path: at(path) });
    await ledger.add("line 1", at("one.safetensors"), [input("base.safetensors")]);
    await ledger.add("line 2", `${folder}/x/../one.safetensors`, [input("base.safetensors")]);
    await ledger.add("line 3", at("lora.safetensors"), [input("base.safetensors")]);
    await ledger.add("line 4", at("four.safetensors"), [input("lora.safetensors")]);
    await ledger.add("line 5", at("five.safetensors"), [input("four.safetensors")]);
    expect(() => ledger.check("line 1")).not.toThrow();
    expect(() => ledger.check("line 2")).toThrow("line 2 would overwrite");
    expect(() => ledger.check("line 3")).toThrow("which line 4 reads");
    for (const label of ["line 4", "line 5"]) expect(() => ledger.check(label)).not.toThrow();
  });
});

describe("refit-sidecar merge", () => {
  it("leaves every byte of base and adapters, also in jobs and in jobs from standard input", async () => {
    const before = ["base.safetensors", "lora.safetensors"].map((name) => hashOf(at(name)));
    expect(
      run(folder, "merge", "--base", "base.safetensors", "--adapter", "lora.safetensors", "--out", "x/../base.safetensors", "--json"),
    ).toMatchObject({ status: 2, last: { error: { code: "CLI_MERGE_ARGUMENTS" } } });
    const jobs = [
      { base: "base.safetensors", adapter: ["lora.safetensors"], out: "./lora.safetensors" },
      { base: "base.safetensors", adapter: ["lora.safetensors"], out: "good.safetensors" },
      { base: "base.safetensors", adapter: ["lora.safetensors:0.5"], out: at("good.safetensors") },
      { base: "base.safetensors", adapter: ["lora.safetensors:0.5"], out: "jobs.jsonl" },
    ]
      .map((job) => JSON.stringify(job))
      .join("\n");
    writeFileSync(at("jobs.jsonl"), jobs);
    const fromFile = run(folder, "merge", "--jobs", "jobs.jsonl");
    const results = (text: string) =>
      text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { ok: boolean; error?: { message: string } });
    expect(results(fromFile.stdout).map(({ ok }) => ok)).toEqual([false, true, false, false]);
    const later = [
      { base: "base.safetensors", adapter: ["lora.safetensors"], out: "lora.safetensors" },
      { base: "base.safetensors", adapter: ["lora.safetensors"], out: "fresh.safetensors" },
    ];
    const piped = await runFor(folder, ["merge", "--jobs", "-"], text, later.map((job) => JSON.stringify(job)).join("\n"));
    expect(results(piped.stdout).map(({ ok }) => ok)).toEqual([false, true]);
    expect(["base.safetensors", "lora.safetensors"].map((name) => hashOf(at(name)))).toEqual(before);
    expect(readFileSync(at("jobs.jsonl"), "utf8")).toBe(jobs);
  });
});

it.skipIf(process.platform === "win32")("an adapter whose own name ends like a strength is read, and not written over", () => {
  copyFileSync(at("lora.safetensors"), at("only.safetensors:0.5"));
  const out = (name: string) =>
    run(folder, "merge", "--base", "base.safetensors", "--adapter", "only.safetensors:0.5", "--out", name, "--json");
  expect(out("fresh-2.safetensors")).toMatchObject({ status: 0, last: { adapters: [{ adapter: "only.safetensors:0.5", strength: 1 }] } });
  expect(out("only.safetensors:0.5")).toMatchObject({ status: 2 });
});

describe("other commands", () => {
  it("refuse an output that they read", () => {
    const before = hashOf(at("lora.safetensors"));
    expect(
      run(
        folder,
        "delta",
        "export",
        "--base",
        "base.safetensors",
        "--adapter",
        "lora.safetensors",
        "--out",
        "x/../lora.safetensors",
        "--json",
      ),
    ).toMatchObject({ status: 2, last: { error: { code: "CLI_ARGUMENTS" } } });
    expect(hashOf(at("lora.safetensors"))).toBe(before);
  });

  it("demo and graph export do not empty a folder of somebody's models", () => {
    mkdirSync(at("models"));
    copyFileSync(join(demo, "demo-unet.safetensors"), at("models/mine.safetensors"));
    expect(run(folder, "demo", "--out", "models", "--json")).toMatchObject({ status: 2, last: { error: { code: "CLI_ARGUMENTS" } } });
    expect(run(folder, "graph", "export", "models/mine.safetensors", "--out", "models", "--json")).toMatchObject({
      status: 2,
      last: { error: { code: "CLI_ARGUMENTS" } },
    });
    expect(readdirSync(at("models"))).toEqual(["mine.safetensors"]);
    expect(existsSync(at("o.safetensors"))).toBe(false);
  });
});
