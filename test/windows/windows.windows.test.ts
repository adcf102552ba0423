// What only Windows does: long paths, reserved names, drive letters, files that are replaced while they are open. Runs on Windows, and with `npm run test:windows` under Wine.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { native, replaceFile } from "@refit-sidecar/native";
import { afterAll, expect, it, vi } from "vitest";
import { createArrivals, folderKey } from "../../sidecar/src/arrivals/index.ts";
import { look } from "../../sidecar/src/install/index.ts";
import { main } from "../../sidecar/src/main.ts";
import { resolveOptions } from "../../sidecar/src/options/index.ts";
import { warmPolicy } from "../../sidecar/src/pipeline/warm/warm-policy.ts";
import { openStore } from "../../sidecar/src/store/index.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-windows-"));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

const root = join(import.meta.dirname, "..", "..");
/** A whole file with one tensor of two bytes. */
function small(value: number): Buffer {
  const header = Buffer.from('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.from([value, value])]);
}

it("the native addon of this platform is loaded", () => {
  expect(native.detail).toContain("prebuilt for win32-");
});

it("a file behind a path of more than 260 characters is read", async () => {
  const deep = join(folder, ...Array.from({ length: 6 }, (_, index) => `${index}`.repeat(50)));
  mkdirSync(deep, { recursive: true });
  const path = join(deep, "long.safetensors");
  expect(path.length).toBeGreaterThan(300);
  writeFileSync(path, small(1));
  expect((await native.readHeader(path)).entries.has("a")).toBe(true);
});

const [drive, share] = [process.env["REFIT_TEST_DRIVE"], process.env["REFIT_TEST_UNC"]];
if (drive === undefined) console.log("skip another drive: REFIT_TEST_DRIVE names none (R:)");
if (share === undefined) console.log("skip a network share: REFIT_TEST_UNC names none (\\\\server\\share)");

/** A live file in a folder of that place: seen, read and told under a name with forward slashes; its data folder may lie there too. */
async function livesAt(place: string): Promise<void> {
  const models = mkdtempSync(join(place, "refit models "));
  const sub = join(models, "sub");
  mkdirSync(sub);
  const names: string[] = [];
  const arrivals = createArrivals({ folders: [{ path: models, kind: "adapter" }] });
  try {
    arrivals.subscribe((batch) => {
      for (const event of batch) if (event.type === "settled" || event.type === "gone") names.push(`${event.type} ${event.name}`);
    });
    await arrivals.start();
    writeFileSync(join(sub, "a.safetensors"), small(3));
    await vi.waitFor(() => expect(names).toEqual(["settled sub/a.safetensors"]), 30_000);
    expect((await native.readHeader(join(sub, "a.safetensors"))).entries.has("a")).toBe(true);
    expect(await main(["inspect", join(sub, "a.safetensors"), "--json"])).not.toBe(130);
    rmSync(join(sub, "a.safetensors"));
    await vi.waitFor(() => expect(names).toContain("gone sub/a.safetensors"), 30_000);
    const store = await openStore({ folder: join(models, "engines"), writable: true, maxBytes: 1 << 20 });
    expect(await store.list()).toEqual([]);
    await replaceFile(join(models, "state.json"), (file) => file.writeFile("{}"));
    expect(readFileSync(join(models, "state.json"), "utf8")).toBe("{}");
  } finally {
    await arrivals.close();
    rmSync(models, { recursive: true, force: true, maxRetries: 5 });
  }
}

it.skipIf(drive === undefined)("a folder on another drive is watched, read and written", () => livesAt(`${drive}\\`));

it.skipIf(share === undefined)("a folder on a network share is watched, read and written", () => livesAt(share ?? ""));

it("one folder has one id, however its drive and its case are written, and rules for folders know it", () => {
  expect(folderKey("c:\\models\\LoRAs")).toBe(folderKey("C:\\Models\\loras"));
  expect(folderKey("c:\\models")).not.toBe(folderKey("d:\\models"));
  const policy = warmPolicy({ ...resolveOptions([]), "warm-folder": ["c:\\models=off", "D:\\=idle"] });
  expect(["C:\\Models\\a.safetensors", "d:\\b.safetensors", "C:\\models2\\c.safetensors"].map((path) => policy.ruleFor(path))).toEqual([
    "off",
    "idle",
    "now",
  ]);
});

it("a reserved name is refused with a reason and not waited for", async () => {
  for (const name of ["NUL", "CON.safetensors", "\\\\.\\pipe\\nobody"]) expect(await main(["inspect", name, "--json"])).not.toBe(0);
});

it("a file that another program replaces while it is open is a clear answer for both", async () => {
  const [path, next] = [join(folder, "live.safetensors"), join(folder, "next.tmp")];
  writeFileSync(path, small(1));
  const open = await native.openTensorFile(path);
  writeFileSync(next, small(2));
  // Node opens files so that they may be renamed and deleted under it; where the system still refuses, nothing is lost.
  const replaced = await rename(next, path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code,
  );
  expect([true, "EPERM", "EACCES", "EBUSY"]).toContain(replaced);
  await open.close();
  expect(readFileSync(path).at(-1)).toBe(replaced === true ? 2 : 1);
});

it("the layouts of the portable ComfyUI and of Forge's one-click package are found, each with its Python", () => {
  const portable = join(folder, "ComfyUI_windows_portable");
  for (const part of ["ComfyUI/comfy", "ComfyUI/custom_nodes", "python_embeded"]) mkdirSync(join(portable, part), { recursive: true });
  writeFileSync(join(portable, "ComfyUI", "main.py"), "");
  writeFileSync(join(portable, "python_embeded", "python.exe"), "");
  expect(look(portable)).toMatchObject({
    ui: "comfyui",
    uiFolder: join(portable, "ComfyUI"),
    python: join(portable, "python_embeded", "python.exe"),
  });
  const forge = join(folder, "webui_forge");
  for (const part of ["webui/modules", "webui/modules_forge", "webui/extensions", "system/python"])
    mkdirSync(join(forge, part), { recursive: true });
  for (const file of ["webui/launch.py", "webui/modules/launch_utils.py", "webui/webui-user.bat", "system/python/python.exe"])
    writeFileSync(join(forge, file), "");
  expect(look(forge)).toMatchObject({ ui: "forge", uiFolder: join(forge, "webui"), python: join(forge, "system", "python", "python.exe") });
});

it("a sidecar ends when its parent closes its standard input, and leaves no address behind", async () => {
  const data = join(folder, "data");
  const child = spawn(
    process.execPath,
    [join(root, "sidecar", "bin", "refit-sidecar.mjs"), "serve", "--json", "--stop-with-stdin", "--data-dir", data],
    { stdio: ["pipe", "pipe", "ignore"] },
  );
  const line = await new Promise<string>((done) => createInterface({ input: child.stdout }).once("line", done));
  expect(JSON.parse(line)).toMatchObject({ ok: true });
  const ended = new Promise<number | null>((done) => child.once("exit", done));
  child.stdin.end();
  expect(await ended).toBe(0);
  expect(readdirSync(data)).not.toContain("sidecar.json");
});
