// A watched folder can be deleted on Windows, and its name goes at once. Wine keeps the name until the watch is closed. Prints ENOTEMPTY there.
import { mkdirSync, mkdtempSync, rmSync, watch } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
const folder = join(mkdtempSync(join(tmpdir(), "limit-")), "sub");
mkdirSync(join(folder, "deeper"), { recursive: true });
const watches = [folder, join(folder, "deeper")].map((path) => watch(path).on("error", () => undefined));
try {
  rmSync(folder, { recursive: true });
  console.log("deleted");
} catch ({ code }) {
  console.log(code);
}
for (const each of watches) each.close();
