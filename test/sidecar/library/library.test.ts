import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, describe, expect, it } from "vitest";
import { pictureFacts } from "../../../sidecar/src/library/picture.ts";
import { adapterNotes, hasPreview, readPreview } from "../../../sidecar/src/library/index.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-library-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const picture = (width = 3, height = 2): Buffer => PNG.sync.write(new PNG({ width, height }));
let made = 0;
/** A model's path, with these files beside it by their endings. */
function model(files: Readonly<Record<string, string | Buffer>> = {}): string {
  made += 1;
  const name = join(folder, `ink ${made}`);
  for (const [ending, content] of Object.entries(files)) writeFileSync(name + ending, content);
  return `${name}.safetensors`;
}

describe("a preview", () => {
  it("is the most particular picture beside the file, told by its content", async () => {
    const both = model({ ".png": picture(9, 9), ".preview.png": picture() });
    expect(await hasPreview(both)).toBe(true);
    expect(await readPreview(both)).toMatchObject({ type: "image/png", width: 3, height: 2 });
    const jpeg = Buffer.from("ffd8ffe000104a46494600010100000100010000ffc0000b080010002001011100ffd9", "hex");
    expect(await readPreview(model({ ".preview.png": jpeg }))).toMatchObject({ type: "image/jpeg", width: 32, height: 16 });
  });

  it.each<[string, string | Buffer]>([
    ["a page", "<html><script>alert(1)</script></html>"],
    ["a drawing that can hold scripts", '<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'],
    ["a cut PNG", picture().subarray(0, 12)],
    ["nothing", ""],
    ["a picture without a size", Buffer.concat([picture().subarray(0, 16), Buffer.alloc(16)])],
    [
      "a picture of a billion pixels",
      Buffer.concat([picture().subarray(0, 16), Buffer.from("0000ffff0000ffff", "hex"), picture().subarray(24)]),
    ],
    ["one of more than 4 MiB", Buffer.concat([picture(), Buffer.alloc(4 * 1024 * 1024)])],
  ])("is not %s", async (_name, content) => {
    expect(await readPreview(model({ ".preview.png": content }))).toBeNull();
  });

  it("never follows a link, and opens no folder and no pipe", async (context) => {
    const secret = join(folder, "secret.png");
    writeFileSync(secret, picture());
    const linked = model();
    symlinkSync(secret, linked.replace(".safetensors", ".preview.png"));
    expect([await hasPreview(linked), await readPreview(linked)]).toEqual([false, null]);
    const inFolder = model();
    mkdirSync(inFolder.replace(".safetensors", ".preview.png"));
    expect([await hasPreview(inFolder), await readPreview(inFolder)]).toEqual([false, null]);
    if (process.platform === "win32") return context.skip("there are no named pipes in folders here");
    const piped = model();
    execFileSync("mkfifo", [piped.replace(".safetensors", ".preview.png")]);
    expect([await hasPreview(piped), await readPreview(piped)]).toEqual([false, null]);
  });

  it("knows WebP in its three forms", () => {
    const riff = (chunk: string, body: string) =>
      Buffer.concat([Buffer.from("RIFF\0\0\0\0WEBP"), Buffer.from(chunk), Buffer.alloc(4), Buffer.from(body, "hex"), Buffer.alloc(16)]);
    expect(pictureFacts(riff("VP8X", "000000000700000300 00".replaceAll(" ", "")))).toEqual({ type: "image/webp", width: 8, height: 4 });
    expect(pictureFacts(riff("VP8 ", "0000009d012a08000400"))).toEqual({ type: "image/webp", width: 8, height: 4 });
    expect(pictureFacts(riff("VP8L", "2f07c00000"))).toEqual({ type: "image/webp", width: 8, height: 4 });
  });
});

describe("notes", () => {
  const none = { title: null, base: null, triggerWords: [], rank: null, description: null };

  it("come from what downloaders and UIs keep beside a file, before its own metadata", async () => {
    const civitai = {
      baseModel: "Pony",
      trainedWords: ["ink wash", "ink wash"],
      model: { name: "Ink" },
      description: "<p>Fine&nbsp;<b>lines</b></p>",
    };
    const metadata = { ss_network_dim: "16", ss_base_model_version: "sdxl_base_v1-0", "modelspec.title": "other" };
    expect(await adapterNotes(model({ ".civitai.info": JSON.stringify(civitai) }), metadata, [])).toEqual({
      title: "Ink",
      base: "Pony",
      triggerWords: ["ink wash"],
      rank: 16,
      description: "Fine lines",
    });
    const manager = { model_name: "Managed", base_model: "Flux.1 D", civitai: { trainedWords: ["a, b"] } };
    expect(await adapterNotes(model({ ".metadata.json": JSON.stringify(manager) }), {}, [])).toMatchObject({
      title: "Managed",
      base: "Flux.1 D",
      triggerWords: ["a, b"],
    });
    const webui = { "activation text": "felt tip", "sd version": "SD1" };
    expect(await adapterNotes(model({ ".json": JSON.stringify(webui) }), {}, [])).toMatchObject({
      base: "SD1",
      triggerWords: ["felt tip"],
    });
  });

  it("fall back on the trainer's most frequent tag, and on the shapes for the rank", async () => {
    const tags = JSON.stringify({ "10_ink": { inkstyle: 40, girl: 12 }, "2_more": { inkstyle: 2 } });
    const shapes = [["lora_unet_x.lora_down.weight", [8, 320]]] as const;
    expect(await adapterNotes(model(), { ss_tag_frequency: tags }, shapes)).toMatchObject({ triggerWords: ["inkstyle"], rank: 8 });
  });

  it.each<[string, string]>([
    ["no JSON", "{"],
    ["a list", "[1]"],
    ["other types", JSON.stringify({ trainedWords: 3, baseModel: {}, model: null, description: [] })],
    ["more than 2 MiB", JSON.stringify({ baseModel: "x", filler: "y".repeat(2 * 1024 * 1024) })],
  ])("are none where the file holds %s", async (_name, text) => {
    expect(await adapterNotes(model({ ".civitai.info": text }), { ss_network_dim: "-1", ss_tag_frequency: "no" }, [])).toEqual(none);
  });

  it("are plain and cut", async () => {
    const hostile = {
      baseModel: "\u202eevil\u0000\n<script>alert(1)</script>",
      trainedWords: Array.from({ length: 500 }, (_, index) => `word ${index}`),
      model: { name: "x".repeat(5000) },
    };
    const found = await adapterNotes(model({ ".civitai.info": JSON.stringify(hostile) }), {}, []);
    expect(found.base).toBe("evil alert(1)");
    expect(found.triggerWords).toHaveLength(40);
    expect(found.title).toHaveLength(200);
  });
});
