import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";

interface Archive {
  filesOf(folder: string, prefix?: string): Map<string, string>;
  writeZip(out: string, files: Map<string, string | Buffer>, epoch: number): Promise<number>;
}
interface Bundled {
  runtimePackages(folders: readonly string[]): readonly {
    readonly name: string;
    readonly folder: string;
    readonly license: string;
    readonly version: string;
    readonly manifest: object;
  }[];
  packagesNamed(root: string, names: readonly string[]): ReturnType<Bundled["runtimePackages"]>;
}
interface Notices {
  noticesOf(root: string, packages: ReturnType<Bundled["runtimePackages"]>): string;
}
interface Sbom {
  sbomOf(wish: { root: string; version: string; packages: ReturnType<Bundled["runtimePackages"]>; zigVersion: string | null }): string;
}
interface Natives {
  sourcesOf(native: string, arch: string): readonly { readonly path: string; readonly flags: readonly string[] }[];
}

interface PluginZips {
  readonly pluginZips: readonly { readonly ui: string; readonly left: RegExp }[];
}

const root = join(import.meta.dirname, "..", "..");
const tool = async <T>(name: string) => (await import(join(root, "tools", "release", name))) as T;
const folder = mkdtempSync(join(tmpdir(), "refit-archive-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("writeZip gives the same bytes whatever the files' times and the order of naming", async () => {
  const { writeZip } = await tool<Archive>("archive.mjs");
  const [a, b] = [join(folder, "a.txt"), join(folder, "b.txt")];
  writeFileSync(a, "a".repeat(5000));
  writeFileSync(b, "b");
  await writeZip(
    join(folder, "1.zip"),
    new Map<string, string | Buffer>([
      ["a", a],
      ["x/b", b],
    ]),
    1_700_000_000,
  );
  utimesSync(a, 1, 1);
  await writeZip(
    join(folder, "2.zip"),
    new Map<string, string | Buffer>([
      ["x/b", readFileSync(b)],
      ["a", a],
    ]),
    1_700_000_000,
  );
  expect(readFileSync(join(folder, "2.zip")).equals(readFileSync(join(folder, "1.zip")))).toBe(true);
});

it("every package that the product runs with has a licence text and is in the bill of materials, and none is needed twice", async () => {
  const [{ runtimePackages, packagesNamed }, { noticesOf }, { sbomOf }] = [
    await tool<Bundled>("bundled.mjs"),
    await tool<Notices>("notices.mjs"),
    await tool<Sbom>("sbom.mjs"),
  ];
  const { bundledPackages } = (await import(join(root, "tools/build-page.mjs"))) as { readonly bundledPackages: readonly string[] };
  const packages = [
    ...runtimePackages(["sidecar", "native", "protocol"].map((part) => join(root, part))),
    ...packagesNamed(root, bundledPackages),
  ];
  const names = packages.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["onnxruntime-node", "preact", "uplot", "ws", "zod", "node-gyp-build"]));
  expect(names).not.toContain("adm-zip");
  const notices = noticesOf(root, packages);
  for (const { name, version, license } of packages) expect(notices).toContain(`${name} ${version} (${license})`);
  const wish = { root, version: "1.2.3", packages, zigVersion: null };
  const sbom = JSON.parse(sbomOf(wish)) as { readonly components: readonly { readonly name: string }[]; readonly serialNumber: string };
  expect(sbom.components.map(({ name }) => name)).toEqual(expect.arrayContaining(names));
  expect(sbom.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(sbomOf(wish)).toBe(sbomOf(wish));
});

it("each UI's archive leaves out of the plugin what that UI never reads, and nothing that its pages or routes name", async () => {
  const { pluginZips } = await tool<PluginZips>("plugin-zips.mjs");
  const files = (readdirSync(join(root, "plugin"), { recursive: true, encoding: "utf8" }) as string[])
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => statSync(join(root, "plugin", file)).isFile() && !file.includes("__pycache__"));
  const left = (ui: string) => files.filter((file) => pluginZips.find((zip) => zip.ui === ui)?.left.test(file)).sort();
  expect(left("webui").filter((file) => !/^(web\/docs|example_workflows)\//.test(file))).toEqual(["web/refit.js", "web/refit/comfyui.mjs"]);
  expect(left("comfyui").filter((file) => !/^(scripts|javascript)\//.test(file))).toEqual([
    "metadata.ini",
    "preload.py",
    "style.css",
    "web/refit/webui.mjs",
  ]);
});

it("sourcesOf takes the addon's sources and flags from binding.gyp, each instruction set only where it exists", async () => {
  const { sourcesOf } = await tool<Natives>("natives.mjs");
  const of = (arch: string) => sourcesOf(join(root, "native"), arch);
  expect(of("x64").find(({ path }) => path.endsWith("kernels_avx512.cpp"))?.flags).toContain("-mavx512f");
  expect(
    of("arm64")
      .map(({ path }) => path)
      .filter((path) => /kernels_/.test(path))
      .sort(),
  ).toEqual(["src/math/kernels_neon.cpp", "src/math/kernels_scalar.cpp"]);
  expect(of("arm64").map(({ path }) => path)).toContain("src/bind/addon.cpp");
});
