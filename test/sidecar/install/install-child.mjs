// A process that installs and may be killed: `install-child.mjs WISH`, where WISH is JSON. Prints progress lines, then the installed host.
import { writeSync } from "node:fs";
import { installHost } from "../../../sidecar/dist/src/install/host/index.js";

const told = (line) => void writeSync(1, `${line}\n`);
const host = await installHost(JSON.parse(process.argv[2] ?? "{}"), {
  told,
  probe: () => Promise.resolve({ versions: { probed: "yes" }, deviceType: "cpu", device: "test" }),
});
told(`installed ${JSON.stringify(host)}`);
