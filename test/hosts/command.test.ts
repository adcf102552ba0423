import { describe, it } from "vitest";
import { z } from "zod";
import { hostConformance } from "./conformance.ts";

// Any other host: REFIT_HOST_COMMAND holds its command line as a JSON list.
const given = process.env["REFIT_HOST_COMMAND"];
if (given === undefined) {
  console.log("skipped: another host, REFIT_HOST_COMMAND is not set");
  describe.skip("a host from REFIT_HOST_COMMAND (not set)", () => it("conforms", () => undefined));
} else {
  const [command, ...args] = z.tuple([z.string()], z.string()).parse(JSON.parse(given));
  hostConformance(command, { kind: "given", command, args });
}
