import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { SafetensorsError, type SafetensorsErrorCode } from "../../native/ts/index.ts";
import { implementations } from "../native/both.ts";
import { hostileFiles, legalOddities } from "./corpus.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "refit-hostile-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function written(bytes: Uint8Array): Promise<string> {
  const path = join(folder, "secret-folder-name.safetensors");
  await writeFile(path, bytes);
  return path;
}

describe.each(implementations)("readHeader (%s) on hostile files", (_name, native) => {
  test.each(hostileFiles().map((file) => [file.name, file] as const))("%s", async (_label, file) => {
    const error: unknown = await native.readHeader(await written(file.bytes)).then(
      () => null,
      (caught: unknown) => caught,
    );
    if (!(error instanceof SafetensorsError))
      return expect.fail(`expected ${file.code}, got ${error === null ? "a header" : String(error)}`);
    expect(error.code).toBe(file.code);
    expect(error.message).toContain("secret-folder-name.safetensors");
    expect(error.message).not.toContain(folder);
    expect(error.message.length).toBeLessThan(600);
    await expect(native.openTensorFile(await written(file.bytes))).rejects.toMatchObject({ code: file.code });
    const path = await written(file.bytes);
    expect(() => native.readHeaderSync(path)).toThrow(expect.objectContaining({ code: file.code, tensor: error.tensor }));
  });

  test.each(legalOddities().map((file) => [file.name, file] as const))("is not put off by %s", async (_label, file) => {
    const path = await written(file.bytes);
    const header = await native.readHeader(path);
    expect([...native.readHeaderSync(path).entries]).toEqual([...header.entries]);
    for (const [name, entry] of header.entries) expect(header.entries.get(name)).toEqual(entry);
  });

  test("a name of a megabyte does not make a message of a megabyte", async () => {
    const header = `{"${"x".repeat(1_000_000)}":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}`;
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(header.length));
    const path = await written(Buffer.concat([prefix, Buffer.from(header), Buffer.alloc(8)]));
    const error: unknown = await native.readHeader(path).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "TENSOR_INVALID_INFO" });
    expect(String(error).length).toBeLessThan(600);
  });

  test("prototype traps are plain names", async () => {
    const traps = legalOddities().find((file) => file.name === "names that are prototype traps");
    const header = await native.readHeader(await written(traps?.bytes ?? new Uint8Array(0)));
    expect([...header.entries.keys()]).toEqual(["__proto__", "constructor", "toString"]);
    const metadata = legalOddities().find((file) => file.name === "metadata named __proto__");
    const named = (await native.readHeader(await written(metadata?.bytes ?? new Uint8Array(0)))).metadata;
    expect(Object.entries(named)).toEqual([
      ["__proto__", "x"],
      ["constructor", "y"],
    ]);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });
});

test("every code of the container's own rules is provoked by the corpus", () => {
  // Codes of moving or unreadable files are provoked in test/native/tensor-file.test.ts.
  const elsewhere = { TRUNCATED: true, FILE_CHANGED: true, UNREADABLE: true, NOT_A_REGULAR_FILE: true, TENSOR_NOT_FOUND: true } as const;
  const all: Record<SafetensorsErrorCode, true> = {
    ...elsewhere,
    HEADER_TOO_SMALL: true,
    HEADER_TOO_LARGE: true,
    INVALID_HEADER_LENGTH: true,
    INVALID_HEADER_UTF8: true,
    INVALID_HEADER_START: true,
    INVALID_HEADER_JSON: true,
    DUPLICATE_KEY: true,
    INVALID_METADATA: true,
    TENSOR_INVALID_INFO: true,
    UNKNOWN_DTYPE: true,
    INVALID_OFFSET: true,
    VALIDATION_OVERFLOW: true,
    METADATA_INCOMPLETE_BUFFER: true,
    TOO_MANY_TENSORS: true,
    NOT_SAFETENSORS: true,
    PICKLE_REFUSED: true,
  };
  const provoked = new Set<string>([...hostileFiles().map((file) => file.code), ...Object.keys(elsewhere)]);
  expect(Object.keys(all).filter((code) => !provoked.has(code))).toEqual([]);
});
