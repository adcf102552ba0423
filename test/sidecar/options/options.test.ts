import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { comfyuiFolders, environmentSource, fileSource, optionTable, resolveOptions } from "../../../sidecar/src/options/index.ts";
import type { RawValues, Source } from "../../../sidecar/src/options/index.ts";

const flags = (values: RawValues): Source => ({ label: (name) => `--${name}`, values });

describe("resolveOptions", () => {
  it("uses the table's defaults when no source says anything", () => {
    const options = resolveOptions([]);
    expect(options.port).toBe(0);
    expect(options.bind).toBe("127.0.0.1");
    expect(options.loras).toEqual([]);
  });

  it("prefers flags over the environment over the file", () => {
    const options = resolveOptions([
      flags({ port: "1" }),
      environmentSource({ REFIT_PORT: "2", REFIT_TURN: "60" }, ":"),
      { label: (n) => n, values: { port: 3, turn: 70, poll: true } },
    ]);
    expect(options.port).toBe(1);
    expect(options.turn).toBe(60);
    expect(options.poll).toBe(true);
  });

  it("splits environment lists as PATH is split", () => {
    expect(resolveOptions([environmentSource({ REFIT_LORAS: "/a:/b c" }, ":")]).loras).toEqual(["/a", "/b c"]);
  });

  it.each([
    [{ port: "70000" }, /--port expects a number from 0 to 65535, got "70000"/],
    [{ port: "12x" }, /--port expects a number/],
    [{ host: "cuda" }, /--host expects one of auto, onnxruntime, torch, tensorrt, got "cuda"/],
    [{ poll: "maybe" }, /--poll expects on or off/],
    [{ loras: "a" }, /--loras expects a list of texts/],
    [{ python: "" }, /--python expects a text that is not empty/],
  ])("names option, expectation and value for %j", (values, text) => {
    expect(() => resolveOptions([flags(values)])).toThrow(
      expect.objectContaining({ code: "OPTIONS_INVALID", message: expect.stringMatching(text) as string }),
    );
  });

  it("refuses a name that is no option", () => {
    expect(() => resolveOptions([flags({ lora: ["x"] })])).toThrow(expect.objectContaining({ code: "OPTIONS_UNKNOWN" }));
  });

  it("refuses a certificate without its key", () => {
    expect(() => resolveOptions([flags({ "tls-cert": "c.pem" })])).toThrow(expect.objectContaining({ code: "OPTIONS_CONFLICT" }));
  });

  it("has one row per name and help text of one sentence", () => {
    expect(new Set(optionTable.map((spec) => spec.name)).size).toBe(optionTable.length);
    for (const spec of optionTable) expect(spec.help, spec.name).not.toMatch(/\.$|\n/);
  });
});

describe("fileSource", () => {
  it("resolves relative folders against the file's folder and leaves other texts alone", async () => {
    const folder = await mkdtemp(join(tmpdir(), "refit-options-"));
    await writeFile(join(folder, "config.toml"), 'loras = ["loras", "/abs"]\nbind = "127.0.0.1"\nport = 7000\n');
    const options = resolveOptions([await fileSource(join(folder, "config.toml"))]);
    expect(options.loras).toEqual([join(folder, "loras"), "/abs"]);
    expect(options.bind).toBe("127.0.0.1");
    expect(options.port).toBe(7000);
  });

  it("says that a file is not TOML", async () => {
    const folder = await mkdtemp(join(tmpdir(), "refit-options-"));
    await writeFile(join(folder, "config.toml"), "loras = [");
    await expect(fileSource(join(folder, "config.toml"))).rejects.toMatchObject({ code: "OPTIONS_FILE" });
  });
});

describe("comfyuiFolders", () => {
  it("reads sections, base_path and newline-separated folders as ComfyUI does", async () => {
    const folder = await mkdtemp(join(tmpdir(), "refit-options-"));
    await writeFile(
      join(folder, "extra.yaml"),
      "a111:\n  base_path: ui\n  checkpoints: models/Stable-diffusion\n  loras: |\n    models/Lora\n    models/LyCORIS\nother:\n  base_path: /m\n  diffusion_models: unet\n",
    );
    expect(await comfyuiFolders(join(folder, "extra.yaml"))).toEqual({
      loras: [join(folder, "ui/models/Lora"), join(folder, "ui/models/LyCORIS")],
      checkpoints: [join(folder, "ui/models/Stable-diffusion"), "/m/unet"],
    });
  });

  it("says that a file is not YAML", async () => {
    const folder = await mkdtemp(join(tmpdir(), "refit-options-"));
    await writeFile(join(folder, "extra.yaml"), "a: [");
    await expect(comfyuiFolders(join(folder, "extra.yaml"))).rejects.toMatchObject({ code: "OPTIONS_FILE" });
  });
});
