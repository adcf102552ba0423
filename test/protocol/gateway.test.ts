// Params of the gateway's calls, good and bad: the schemas here and the checks generated for Python (test/python/hosts/refit_ray/test_protocol.py) agree on each.

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { gatewayMethods, type GatewayMethod } from "../../protocol/src/index.ts";

interface GatewayCase {
  readonly case: string;
  readonly method: GatewayMethod;
  /** The first field that is wrong; "" for the params themselves, null for good ones. */
  readonly field: string | null;
  readonly params: unknown;
}
const cases = JSON.parse(readFileSync(new URL("./golden/gateway.json", import.meta.url), "utf8")) as GatewayCase[];

it.each(cases)("agrees with the golden params: $case", ({ method, field, params }) => {
  const parsed = gatewayMethods[method].params.safeParse(params);
  expect(parsed.success ? null : String(parsed.error.issues[0]?.path[0] ?? "")).toBe(field);
});
