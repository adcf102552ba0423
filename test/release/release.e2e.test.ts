// The packages as people install them: made here, installed from the file alone, in a folder and with a PATH that have nothing of the checkout. Minutes; runs with `npm run test:e2e -- test/release`.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

const root = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "refit-release-"));
const [first, second] = [join(folder, "first"), join(folder, "second")];
const nodeOnly = {
  HOME: folder,
  PATH: [dirname(process.execPath), "/usr/bin", "/bin"].join(delimiter),
  npm_config_offline: "true",
  npm_config_cache: join(folder, "npm-cache"),
};
const minutes = 60_000;

function release(out: string) {
  execFileSync(process.execPath, ["tools/release.mjs", "--natives", "host", "--out", out], { cwd: root, stdio: "ignore" });
}

beforeAll(() => release(first), 10 * minutes);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const made = (pattern: RegExp) => {
  const found = readdirSync(first).find((file) => pattern.test(file));
  if (found === undefined) throw new Error(`the release made no ${pattern}`);
  return join(first, found);
};

const report = (output: string) =>
  JSON.parse(output.trim().split("\n").at(-1) ?? "") as {
    readonly ok: boolean;
    readonly findings?: readonly { readonly name: string; readonly found: string }[];
  };

it("two builds of one commit give the same bytes", { timeout: 10 * minutes }, () => {
  release(second);
  expect(readFileSync(join(second, "SHA256SUMS"), "utf8")).toBe(readFileSync(join(first, "SHA256SUMS"), "utf8"));
});

it("the npm package installs without a network, runs the demo on native kernels and can be imported", { timeout: 10 * minutes }, () => {
  const place = join(folder, "npm");
  mkdirSync(place);
  writeFileSync(join(place, "package.json"), '{"private":true,"type":"module"}');
  const run = (args: readonly string[]) => execFileSync(process.execPath, args, { cwd: place, env: nodeOnly, encoding: "utf8" });
  execFileSync("npm", ["install", "--no-audit", "--no-fund", made(/\.tgz$/)], { cwd: place, env: nodeOnly });
  const entry = join("node_modules", "refit-sidecar", "bin", "refit-sidecar.mjs");
  expect(report(run([entry, "demo", "--json"])).ok).toBe(true);
  const doctor = report(run([entry, "doctor", "--json", "--data-dir", join(place, "data")]));
  expect(doctor.findings?.find(({ name }) => name === "native addon")?.found).toContain(`prebuilt for ${process.platform}-${process.arch}`);
  expect(run(["-e", 'import("refit-sidecar").then(({ version }) => console.log(version))']).trim()).toBe(
    (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }).version,
  );
});

const module = `
import sys, torch, refit_sidecar
plain = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
module = refit_sidecar.RefitModule(plain, tier="eager")
with torch.no_grad():
    first = module(torch.ones(3, 8)).clone()
    plain[0].weight.mul_(2)
    second = module(torch.ones(3, 8))
print(refit_sidecar.__file__, module.served_by, module.counts["refits"] > 0, torch.equal(first, second))
`;

it("the wheel is whole for pip, its launcher runs the sidecar, and its RefitModule serves a module", { timeout: 10 * minutes }, () => {
  const python = join(root, ".venv", "bin", "python");
  if (!existsSync(python)) return console.log("skip: the test environment (.venv) is not made");
  const place = join(folder, "wheel");
  execFileSync(python, ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", place, made(/\.whl$/)]);
  const said = execFileSync(python, ["-c", module], { encoding: "utf8", env: { ...nodeOnly, PYTHONPATH: place } });
  expect(said.trim()).toBe(`${join(place, "refit_sidecar", "__init__.py")} engine True False`);
  // Without PyTorch the package is there, and says what its one part needs.
  const bare = spawnSync(
    python,
    ["-I", "-S", "-c", `import sys; sys.path[:0] = [${JSON.stringify(place)}]; import refit_sidecar; refit_sidecar.RefitModule`],
    {
      encoding: "utf8",
    },
  );
  expect(bare.stderr).toContain("refit_sidecar.RefitModule needs PyTorch in this Python");
  const { stdout } = spawnSync(python, ["-m", "refit_sidecar", "doctor", "--json", "--data-dir", join(folder, "wheel-data")], {
    encoding: "utf8",
    env: { ...nodeOnly, PYTHONPATH: place },
  });
  expect(report(stdout).findings?.find(({ name }) => name === "native addon")?.found).toContain("prebuilt for");
});

it("install from the package puts the plugin into ComfyUI, and uninstall leaves the folder as it was", { timeout: 2 * minutes }, () => {
  const comfyui = join(folder, "ComfyUI");
  for (const part of ["comfy", "custom_nodes"]) mkdirSync(join(comfyui, part), { recursive: true });
  writeFileSync(join(comfyui, "main.py"), "");
  cpSync(comfyui, join(folder, "untouched"), { recursive: true });
  const run = (...args: readonly string[]) =>
    execFileSync(process.execPath, [join(folder, "npm", "node_modules", "refit-sidecar", "bin", "refit-sidecar.mjs"), ...args], {
      env: nodeOnly,
      encoding: "utf8",
    });
  run("install", "--comfyui", comfyui, "--copy", "--no-packages");
  expect(existsSync(join(comfyui, "custom_nodes", "refit-sidecar", "refit_sidecar_plugin", "launcher.py"))).toBe(true);
  run("uninstall", "--comfyui", comfyui);
  expect(readdirSync(comfyui, { recursive: true }).sort()).toEqual(readdirSync(join(folder, "untouched"), { recursive: true }).sort());
});
