// Cases that reporters keep outside of this repository: folders with run.py (status 1 while it is wrong) or show.py (prints what happens). `npm run test:reported`
// runs all that the folder REFIT_CASES holds, against this checkout.

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { familyNames } from "@refit-sidecar/protocol";
import { describe, expect, it } from "vitest";
import { testPython } from "../../tools/python-env.mjs";
import { cli } from "./support.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = process.env["REFIT_CASES"];
const withFile = (name: string): string[] =>
  folder === undefined ? [] : readdirSync(folder).filter((one) => existsSync(join(folder, one, name)));

function run(name: string, file: string, ...args: string[]): { readonly status: number | null; readonly text: string } {
  const { status, stdout, stderr } = spawnSync((testPython as (root: string) => string)(root), [join(folder ?? "", name, file), ...args], {
    encoding: "utf8",
    env: { ...process.env, REFIT: cli, REFIT_ROOT: root },
  });
  return { status, text: stdout + stderr };
}

/** Both were written when these models had no engine and no description; a file of theirs that is called by its own name is what they wanted. */
const wantedRefused = /listed as usable|labelled as a supported family/;
/** ('name of the case', 'family'), or with a variant behind it. */
const labelled = /\('[^']*', '([^']*)'/g;

describe.skipIf(folder === undefined)("cases of the folder REFIT_CASES (not set: left out)", () => {
  it.each(withFile("run.py"))(
    "%s",
    (name) => {
      const { status, text } = run(name, "run.py");
      const failure = /^FAIL.*$/m.exec(text)?.[0] ?? "";
      if (status === 0 || !wantedRefused.test(failure)) return expect(status, text).toBe(0);
      const families = [...failure.matchAll(labelled)].map(([, family]) => family ?? "");
      expect(families.length, text).toBeGreaterThan(0);
      // Described since, and never one of the four names that the reports were about.
      for (const family of families) {
        expect(familyNames).toContain(family);
        expect(["flux", "wan", "sd3", "sd2"]).not.toContain(family);
      }
    },
    240_000,
  );

  it.each(withFile("show.py"))(
    "%s",
    (name) => {
      const { status, text } = run(name, "show.py", "1");
      expect(status, text).toBe(0);
      expect(text).not.toMatch(/serves: False|<module/);
    },
    240_000,
  );
});
