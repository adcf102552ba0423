// Params of earlier clients that mean nothing any more. Taking them off is no silence: docs/develop/protocol.md says what they meant and why they went.

import { retiredParams, type JsonObject } from "@refit-sidecar/protocol";

/** `params` without what earlier clients of this protocol version still send to `method`. Anything else is left for the method's schema to judge. */
export function withoutRetired(method: string, params: JsonObject): JsonObject {
  const retired = Object.hasOwn(retiredParams, method) ? (retiredParams[method] ?? []) : [];
  if (retired.length === 0) return params;
  return Object.fromEntries(Object.entries(params).filter(([name]) => !retired.includes(name)));
}
