import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { native } from "@refit-sidecar/native";
import { describe, expect, it } from "vitest";
import { failureText } from "../../sidecar/src/cli/exit.ts";
import { decodeFailure, encodeFailure } from "../../sidecar/src/delta/read/worker-messages.ts";
import { toWireFailure } from "../../sidecar/src/wire/failures.ts";
import { recognise, sd15 } from "../sidecar/delta/small-structures.ts";
import { newFolder, run } from "./support.ts";

const folder = newFolder();
const at = (name: string) => join(folder, name);

/** What people have under the name of a model, and the words that help them. */
const mistaken: readonly (readonly [what: string, bytes: Uint8Array | string, code: string, words: RegExp])[] = [
  [
    "the JSON error of a web service",
    '{"error":"Unauthorized","message":"The creator of this asset requires you to be logged in"}',
    "NOT_SAFETENSORS",
    /JSON text \(\{"error":"Unauthorized".*download the file again/,
  ],
  ["JSON whose ninth byte is a brace", '{"data":{"error":1}}', "NOT_SAFETENSORS", /JSON/],
  [
    "a shard table",
    JSON.stringify({ metadata: {}, weight_map: { a: "b.safetensors" } }),
    "NOT_SAFETENSORS",
    /table of a sharded checkpoint/,
  ],
  ["an HTML page", "\n<!DOCTYPE html><html><title>Log in</title>", "NOT_SAFETENSORS", /HTML page.*download it again/],
  ["an XML error", '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "NOT_SAFETENSORS", /XML text.*download it again/],
  ["a plain text error", "Entry not found", "NOT_SAFETENSORS", /a text \(Entry not found\).*download it again/],
  [
    "a git-lfs pointer",
    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "NOT_SAFETENSORS",
    /git-lfs pointer.*git lfs pull/,
  ],
  ["a UTF-16 JSON", Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('{"error":"x"}', "utf16le")]), "NOT_SAFETENSORS", /JSON/],
  ["a zip of torch.save", "PK\u0003\u0004 archive/data.pkl", "PICKLE_REFUSED", /zip archive.*convert it to safetensors/],
  ["a pickle", Buffer.from([0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20]), "PICKLE_REFUSED", /pickle/],
  ["a GGUF file", "GGUF\u0003\0\0\0\0\0\0\0\0\0\0\0", "NOT_SAFETENSORS", /GGUF file; convert/],
  ["a preview picture", Buffer.from("\x89PNG\r\n\x1a\n0000IHDR", "latin1"), "NOT_SAFETENSORS", /PNG picture/],
  ["a 7-Zip archive", Buffer.from("7z\xbc\xaf\x27\x1c\0\x04........", "latin1"), "NOT_SAFETENSORS", /7-Zip archive; unpack/],
  ["an empty file", "", "HEADER_TOO_SMALL", /the file is empty.*download it again/],
  ["space set aside by a download", Buffer.alloc(4096), "INVALID_HEADER_START", /zeros.*download it again/],
  [
    "a download that ended in the header",
    Buffer.concat([Buffer.from([200, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{"a":{"dtype"')]),
    "INVALID_HEADER_LENGTH",
    /cut short.*download it again/,
  ],
];

describe("a file that is something else", () => {
  it.each(mistaken)("%s is named, with what to do", async (_what, bytes, code, words) => {
    writeFileSync(at("model.safetensors"), typeof bytes === "string" ? Buffer.from(bytes, "utf8") : bytes);
    const failure = await native.readHeader(at("model.safetensors")).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code, message: expect.stringMatching(words) as string });
    expect(() => native.readHeaderSync(at("model.safetensors"))).toThrow(words);
  });

  it("a folder, and a path that is not there, are told apart", async () => {
    mkdirSync(at("model"));
    await expect(native.readHeader(at("model"))).rejects.toThrow(/found a folder; name the file in it/);
    await expect(native.readHeader(at("absent"))).rejects.toThrow(/there is no such file/);
    expect(run(folder, "inspect", "absent", "--json")).toMatchObject({
      status: 1,
      last: { error: { code: "UNREADABLE", message: expect.stringContaining("check the path") as string } },
    });
  });
});

describe("a key that is ignored", () => {
  it("is promised to extended mode only where that mode merges it", () => {
    const toQ = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
    const reasons = (tensors: Parameters<typeof recognise>[2]) =>
      recognise("sd15", sd15, tensors).report.ignored.map(({ reason }) => reason);
    for (const mode of ["comfyui", "extended"] as const)
      expect(recognise("sd15", sd15, { [`${toQ}.weight`]: [16, 16] }, mode).report.ignored[0]?.reason).toContain(
        "a whole weight of a model",
      );
    expect(reasons({ [`${toQ}.lora_A.weight`]: [4, 16], [`${toQ}.lora_B.weight`]: [16, 4] })).toEqual(
      Array(2).fill("ComfyUI does not know this spelling; extended mode reads it"),
    );
    expect(reasons({ [`${toQ}.lora_A.weight`]: [4, 16], [`${toQ}.lora_B.weight`]: [99, 4] })[0]).toMatch(/cannot merge it either/);
  });
});

describe("an error that nobody expected", () => {
  const bug = () => {
    try {
      return (null as unknown as { rank: number }).rank;
    } catch (error) {
      return error;
    }
  };

  it("while an adapter is packed keeps its name, has a code of its own and asks for a report; only the disk's answers speak of the disk", () => {
    const failure = decodeFailure(encodeFailure(1, bug()) as never);
    expect(failure).toMatchObject({ code: "DELTA_UNEXPECTED", message: expect.stringMatching(/TypeError.*please report it/) as string });
    expect(failure.message).not.toContain("space");
    const full = Object.assign(new Error("ENOSPC: no space left, write '/home/me/x'"), {
      code: "ENOSPC",
      syscall: "write",
      path: "/home/me/x",
    });
    const written = decodeFailure(encodeFailure(1, full) as never);
    expect(written).toMatchObject({ code: "DELTA_WRITE_FAILED", message: expect.stringContaining("the disk is full") as string });
    expect(written.message).not.toContain("/home");
    expect(toWireFailure(failure)).toMatchObject({
      code: "WIRE_INTERNAL",
      reason: "DELTA_UNEXPECTED",
      message: expect.stringContaining("please report it") as string,
    });
  });

  it("on the command line likewise; what the system says comes in words", () => {
    expect(failureText(bug(), false)).toMatch(/TypeError.*please report it.*\[INTERNAL\]$/);
    const missing = Object.assign(new Error("ENOENT: no such file or directory, open 'x.pem'"), {
      code: "ENOENT",
      syscall: "open",
      path: "x.pem",
    });
    expect(failureText(missing, false)).toBe("refit-sidecar: x.pem: there is no such file or folder; check the path [SYSTEM_ENOENT]");
  });
});
