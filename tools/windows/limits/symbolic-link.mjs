// A symbolic link of Windows is made, or refused for want of a right. Wine 8 says that it made one, and makes none. Prints "said yes, made none" there.
import { mkdtempSync, readdirSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
const folder = mkdtempSync(join(tmpdir(), "limit-"));
try {
  symlinkSync(folder, join(folder, "link"), "dir");
  console.log(readdirSync(folder).length === 1 ? "made" : "said yes, made none");
} catch ({ code }) {
  console.log(code);
}
