// The packages in a root that holds one interpreter, the system's C libraries and nothing else: no compiler, no shell, no network. Linux, as root (chroot in a network namespace of its own).
// REFIT_RELEASE names the folder of a release, REFIT_RELEASE_WHEELS one with the wheels that the Python package requires.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const release = process.env["REFIT_RELEASE"];
const wheels = process.env["REFIT_RELEASE_WHEELS"];
const reason =
  process.platform !== "linux" || process.getuid?.() !== 0
    ? "needs root on Linux"
    : release === undefined
      ? "REFIT_RELEASE is not set"
      : spawnSync("unshare", ["--net", "true"]).status !== 0
        ? "unshare is refused here"
        : null;
if (reason !== null) console.log(`skip the empty root: ${reason}`);

const folder = mkdtempSync(join(tmpdir(), "refit-root-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const minutes = 60_000;
/** glibc's parts that programs open by themselves. */
const system = ["libdl.so.2", "libpthread.so.0", "librt.so.1", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libutil.so.1"];

function librariesOf(file: string): readonly string[] {
  const { stdout } = spawnSync("ldd", [file], { encoding: "utf8" });
  return [...stdout.matchAll(/(\/\S+\.so\S*)/g)].map(([, path]) => path ?? "");
}

/** A root with these programs, at their own paths, and the libraries that they name. */
function emptyRoot(name: string, files: readonly string[], trees: readonly string[]): string {
  const root = join(folder, name);
  for (const part of ["tmp", "home", "proc", "dev", "etc"]) mkdirSync(join(root, part), { recursive: true });
  const bring = (path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(realpathSync(path), join(root, path), { recursive: true });
  };
  for (const tree of trees)
    cpSync(tree, join(root, tree), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !/\/(site-packages|test|tests|__pycache__|idlelib|tkinter)$/.test(path),
    });
  const loaded = trees.flatMap((tree) =>
    (readdirSync(tree, { recursive: true }) as string[])
      .filter((file) => /lib-dynload\/.*\.so$/.test(file))
      .map((file) => join(tree, file)),
  );
  const libraries = new Set([...files, ...loaded].flatMap(librariesOf).concat(system.map((file) => join("/lib/x86_64-linux-gnu", file))));
  for (const path of [...files, ...libraries]) if (existsSync(path) && !existsSync(join(root, path))) bring(path);
  writeFileSync(join(root, "etc", "passwd"), "root:x:0:0:root:/home:/bin/none\n");
  writeFileSync(join(root, "dev", "urandom"), "");
  return root;
}

const within = (root: string, command: readonly string[], cwd: string, env: Record<string, string> = {}) =>
  // Loopback is brought up by nobody: the sidecar's own address needs it, so a tiny Python or Node cannot be asked; `ip` of this computer does it before the root changes.
  execFileSync(
    "unshare",
    [
      "--net",
      "--mount",
      "--",
      "sh",
      "-c",
      'ip link set lo up 2>/dev/null || true; mount --bind /dev "$0/dev"; mount -t proc proc "$0/proc"; exec chroot "$0" "$@"',
      root,
      ...command,
    ],
    {
      cwd: join(root, cwd),
      encoding: "utf8",
      env: { HOME: "/home", PATH: "/usr/sbin:/usr/bin:/bin:/sbin", PWD: cwd, ...env },
      maxBuffer: 1 << 26,
      stdio: ["ignore", "pipe", "inherit"],
    },
  );

const made = (pattern: RegExp): string => {
  const found = readdirSync(release ?? "").find((file) => pattern.test(file));
  if (found === undefined) throw new Error(`the release has no ${pattern}`);
  return join(release ?? "", found);
};
const last = (text: string) =>
  JSON.parse(text.trim().split("\n").at(-1) ?? "") as {
    ok: boolean;
    timeline_ms: { refit: number };
    findings: { name: string; found: string }[];
  };
const nativeOf = (text: string) => last(text).findings.find(({ name }) => name === "native addon")?.found;

describe.skipIf(reason !== null)("an empty root", () => {
  it("with only Node: the npm package installs and refits", { timeout: 20 * minutes }, () => {
    const npm = dirname(dirname(realpathSync("/usr/bin/npm")));
    const root = emptyRoot("node", [process.execPath], [npm]);
    cpSync(made(/\.tgz$/), join(root, "tmp", "package.tgz"));
    const started = performance.now();
    within(
      root,
      [
        process.execPath,
        join(npm, "bin", "npm-cli.js"),
        "install",
        "--prefix",
        "/home",
        "--offline",
        "--no-audit",
        "--no-fund",
        "/tmp/package.tgz",
      ],
      "/home",
    );
    const installedMs = performance.now() - started;
    const entry = "/home/node_modules/refit-sidecar/bin/refit-sidecar.mjs";
    const demo = last(within(root, [process.execPath, entry, "demo", "--json", "--out", "/tmp/demo"], "/tmp"));
    expect(demo.ok).toBe(true);
    console.log(
      `npm: installed in ${(installedMs / 1000).toFixed(1)} s, first refit at most ${((performance.now() - started) / 1000).toFixed(1)} s from empty (the refit itself ${demo.timeline_ms.refit.toFixed(0)} ms after the file arrived)`,
    );
    expect(nativeOf(within(root, [process.execPath, entry, "doctor", "--json", "--data-dir", "/tmp/data"], "/tmp"))).toContain(
      "prebuilt for linux-x64",
    );
  });

  it.skipIf(wheels === undefined)("with only Python: the wheel installs, brings its Node, and refits", { timeout: 20 * minutes }, () => {
    const python = realpathSync(
      execFileSync("python3", ["-c", "import sys, os; print(os.path.realpath(sys.executable))"], { encoding: "utf8" }).trim(),
    );
    const prefix = dirname(dirname(python));
    const root = emptyRoot(
      "python",
      [python],
      prefix === "/usr"
        ? [
            join(
              "/usr/lib",
              execFileSync(python, ["-c", "import sys; print('python%d.%d' % sys.version_info[:2])"], { encoding: "utf8" }).trim(),
            ),
          ]
        : [join(prefix, "lib")],
    );
    cpSync(wheels ?? "", join(root, "tmp", "wheels"), { recursive: true });
    cpSync(
      made(/manylinux\w+_x86_64\.whl$/),
      join(
        root,
        "tmp",
        "wheels",
        made(/manylinux\w+_x86_64\.whl$/)
          .split("/")
          .at(-1) ?? "",
      ),
    );
    const started = performance.now();
    // This root has no pip of its own: the interpreter's bundled one (ensurepip) makes it, as `python -m venv` does.
    within(root, [python, "-m", "ensurepip"], "/tmp");
    within(root, [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", "/tmp/wheels", "refit-sidecar"], "/tmp");
    const demo = last(within(root, [python, "-m", "refit_sidecar", "demo", "--json", "--out", "/tmp/demo"], "/tmp"));
    expect(demo.ok).toBe(true);
    console.log(`wheel: first refit at most ${((performance.now() - started) / 1000).toFixed(1)} s from empty`);
    expect(nativeOf(within(root, [python, "-m", "refit_sidecar", "doctor", "--json", "--data-dir", "/tmp/data"], "/tmp"))).toContain(
      "prebuilt for linux-x64",
    );
  });
});
