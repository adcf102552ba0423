// Windows makes a junction for everybody. Wine 8 makes none. Prints ENOTSUP there.
import { mkdtempSync, readlinkSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
const folder = mkdtempSync(join(tmpdir(), "limit-"));
try {
  symlinkSync(folder, join(folder, "junction"), "junction");
  console.log(readlinkSync(join(folder, "junction")) === folder ? "made" : "another");
} catch ({ code }) {
  console.log(code);
}
