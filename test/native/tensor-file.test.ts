import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createHash } from "node:crypto";
import { appendFile, chmod, mkdir, mkdtemp, open, rename, rm, stat, symlink, truncate, unlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";

import { writeSafetensors, type TensorFile } from "../../native/ts/index.ts";
import { bytesOf, implementations } from "./both.ts";

const folders: string[] = [];
let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "refit-file-"));
  folders.push(folder);
});
afterAll(() => Promise.all(folders.map((each) => rm(each, { recursive: true, force: true }))));

const big = Uint8Array.from({ length: 3_000_000 }, (_, index) => index % 251);

async function sample(name = "sample.safetensors", first = 1): Promise<string> {
  const path = join(folder, name);
  await writeSafetensors(path, [
    { name: "big", dtype: "U8", shape: [big.length], data: big },
    { name: "small", dtype: "F32", shape: [2], data: bytesOf(Float32Array.of(first, 2)) },
    { name: "none", dtype: "F16", shape: [0, 3], data: new Uint8Array(0) },
  ]);
  return path;
}

/** File systems keep mtimes in steps; a write within the same step as the last is not visible in it. */
async function laterMtime(path: string): Promise<void> {
  const { mtimeMs } = await stat(path);
  await utimes(path, new Date(), new Date(mtimeMs + 2000));
}

describe.each(implementations)("openTensorFile (%s)", (_name, native) => {
  const withFile = async (path: string, use: (file: TensorFile) => Promise<void>): Promise<void> => {
    const file = await native.openTensorFile(path);
    try {
      await use(file);
    } finally {
      await file.close();
    }
  };

  test("read copies a tensor's bytes, readInto puts them where it is told", async () => {
    await withFile(await sample(), async (file) => {
      expect(Buffer.from(await file.read("big")).equals(big)).toBe(true);
      expect(await file.read("none")).toEqual(new Uint8Array(0));
      const target = new Uint8Array(16).fill(7);
      await file.readInto("small", target, 5);
      expect(target.slice(5, 13)).toEqual(bytesOf(Float32Array.of(1, 2)));
      expect([...target.slice(0, 5), ...target.slice(13)].every((byte) => byte === 7)).toBe(true);
      await file.checkUnchanged();
    });
  });

  test("a missing tensor and a target without room are refused", async () => {
    await withFile(await sample(), async (file) => {
      await expect(file.read("absent")).rejects.toMatchObject({ code: "TENSOR_NOT_FOUND", tensor: "absent" });
      await expect(file.readInto("small", new Uint8Array(10), 3)).rejects.toThrow(RangeError);
      await expect(file.readInto("small", new Uint8Array(10), -1)).rejects.toThrow(RangeError);
      await expect(file.readInto("small", new Uint8Array(10), 0.5)).rejects.toThrow(RangeError);
    });
  });

  test("a file cut short while open is TRUNCATED", async () => {
    const path = await sample();
    await withFile(path, async (file) => {
      await truncate(path, 1_000_000);
      await expect(file.read("big")).rejects.toMatchObject({ code: "TRUNCATED", tensor: "big" });
      await expect(file.checkUnchanged()).rejects.toMatchObject({ code: "FILE_CHANGED" });
    });
  });

  test("a cut behind the tensor that is read is noticed too", async () => {
    const path = await sample();
    await withFile(path, async (file) => {
      await truncate(path, (await stat(path)).size - 1);
      await expect(file.read("small")).rejects.toMatchObject({ code: "TRUNCATED" });
    });
  });

  test("a file that grows while open is FILE_CHANGED", async () => {
    const path = await sample();
    await withFile(path, async (file) => {
      await appendFile(path, "more");
      await expect(file.read("big")).rejects.toMatchObject({ code: "FILE_CHANGED" });
    });
  });

  test("a write into the file, of the same size, is FILE_CHANGED", async () => {
    const path = await sample();
    await withFile(path, async (file) => {
      const writer = await open(path, "r+");
      await writer.write(Buffer.from([9]), 0, 1, file.header.dataOffset);
      await writer.close();
      await laterMtime(path);
      await expect(file.read("big")).rejects.toMatchObject({ code: "FILE_CHANGED" });
      await expect(file.checkUnchanged()).rejects.toMatchObject({ code: "FILE_CHANGED" });
    });
  });

  test("a file replaced by rename stays readable as it was; checkUnchanged says so", async () => {
    const path = await sample();
    await withFile(path, async (file) => {
      const replaced = await rename(await sample("other.safetensors", 42), path).then(
        () => true,
        (error: unknown) => error,
      );
      expect(await file.read("small")).toEqual(bytesOf(Float32Array.of(1, 2)));
      if (process.platform === "win32" && replaced !== true) {
        // Windows may keep the name until the file is closed; then nothing has changed, for nobody.
        expect(replaced).toMatchObject({ code: expect.stringMatching(/^(EPERM|EACCES|EBUSY)$/) });
        return file.checkUnchanged();
      }
      expect(replaced).toBe(true);
      await expect(file.checkUnchanged()).rejects.toMatchObject({ code: "FILE_CHANGED" });
      await withFile(path, async (after) => expect(await after.read("small")).toEqual(bytesOf(Float32Array.of(42, 2))));
    });
  });

  test("a removed file stays readable; checkUnchanged says so", async ({ skip }) => {
    if (process.platform === "win32") skip("Windows keeps the name of an open file until it is closed");
    const path = await sample();
    await withFile(path, async (file) => {
      await unlink(path);
      expect(await file.read("small")).toEqual(bytesOf(Float32Array.of(1, 2)));
      await expect(file.checkUnchanged()).rejects.toMatchObject({ code: "FILE_CHANGED" });
    });
  });

  test("what is not a regular file is refused without being opened", async ({ skip }) => {
    await mkdir(join(folder, "folder.safetensors"));
    await expect(native.readHeader(join(folder, "folder.safetensors"))).rejects.toMatchObject({ code: "NOT_A_REGULAR_FILE" });
    if (process.platform === "win32") skip("no named pipes in folders, and no /dev, on Windows");
    execFileSync("mkfifo", [join(folder, "pipe.safetensors")]);
    await expect(native.readHeader(join(folder, "pipe.safetensors"))).rejects.toMatchObject({ code: "NOT_A_REGULAR_FILE" });
    await expect(native.hashFile(join(folder, "pipe.safetensors"))).rejects.toMatchObject({ code: "NOT_A_REGULAR_FILE" });
    await expect(native.readHeader("/dev/zero")).rejects.toMatchObject({ code: "NOT_A_REGULAR_FILE" });
    for (const path of [join(folder, "folder.safetensors"), join(folder, "pipe.safetensors"), "/dev/zero"])
      expect(() => native.readHeaderSync(path)).toThrow(expect.objectContaining({ code: "NOT_A_REGULAR_FILE" }));
  });

  test("links are followed; one that leads nowhere is UNREADABLE", async ({ skip }) => {
    const path = await sample();
    await symlink(path, join(folder, "link.safetensors")).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EPERM" && process.platform === "win32") skip("links need a privilege on Windows");
      throw error;
    });
    if (process.platform === "win32" && !existsSync(join(folder, "link.safetensors")))
      skip("Wine says that it made a link, and makes none (tools/windows/limits)");
    expect((await native.readHeader(join(folder, "link.safetensors"))).entries.size).toBe(3);
    await symlink(join(folder, "nowhere"), join(folder, "dangling.safetensors"));
    await expect(native.readHeader(join(folder, "dangling.safetensors"))).rejects.toMatchObject({ code: "UNREADABLE" });
  });

  test("a missing file is UNREADABLE and named without its folder", async () => {
    const error: unknown = await native.readHeader(join(folder, "gone.safetensors")).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "UNREADABLE", file: "gone.safetensors" });
    expect(String(error)).not.toContain(folder);
    await expect(native.hashFile(join(folder, "gone.safetensors"))).rejects.toMatchObject({ code: "UNREADABLE" });
    expect(() => native.readHeaderSync(join(folder, "gone.safetensors"))).toThrow(
      expect.objectContaining({ code: "UNREADABLE", file: "gone.safetensors" }),
    );
  });

  test("a file without read permission is UNREADABLE", async ({ skip }) => {
    if (process.platform === "win32" || process.getuid?.() === 0) skip("permissions do not stop this user");
    const path = await sample();
    await chmod(path, 0o000);
    await expect(native.readHeader(path)).rejects.toMatchObject({ code: "UNREADABLE" });
  });

  test("names with spaces, other scripts and long paths are plain names", async () => {
    const deep = join(folder, "a folder with spaces", "ユニコード", "d".repeat(100), "e".repeat(100));
    await mkdir(deep, { recursive: true });
    const path = join(deep, "naïve é 文件.safetensors");
    await writeSafetensors(path, [{ name: "Ünï 文", dtype: "U8", shape: [1], data: Uint8Array.of(5) }]);
    await withFile(path, async (file) => expect(await file.read("Ünï 文")).toEqual(Uint8Array.of(5)));
  });

  test("hashFile is SHA-256, small and large, and can be aborted", async () => {
    const small = join(folder, "small.bin");
    await writeFile(small, "abc");
    expect(await native.hashFile(small)).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const empty = join(folder, "empty.bin");
    await writeFile(empty, "");
    expect(await native.hashFile(empty)).toBe(createHash("sha256").digest("hex"));
    const large = join(folder, "large.bin");
    const bytes = Buffer.alloc(40 * 1024 * 1024, "large");
    await writeFile(large, bytes);
    expect(await native.hashFile(large)).toBe(createHash("sha256").update(bytes).digest("hex"));
    await expect(native.hashFile(large, AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
    const controller = new AbortController();
    const running = native.hashFile(large, controller.signal);
    setImmediate(() => controller.abort(new Error("enough now")));
    await expect(running).rejects.toThrow("enough now");
  });
});
