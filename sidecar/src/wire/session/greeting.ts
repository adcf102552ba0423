// hello: versions, capabilities, limits and segments of a new session.

import { wireMethods, type Capability, type WireParams } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { limits } from "../limits.ts";
import { bind, type Bound } from "./method-table.ts";
import type { Shared } from "./parts.ts";
import { spokenVersions, type LiveState } from "./state.ts";

/** In whole pages, so that neither end meets a boundary of the file system inside its last tensor. */
const pageBytes = 4096;

function sizes(wanted: WireParams<"hello">["segments"]): { readonly requestBytes: number; readonly replyBytes: number } | null {
  if (wanted === undefined) return null;
  const size = (bytes: number): number => Math.min(limits.segmentBytes, Math.max(pageBytes, Math.ceil(bytes / pageBytes) * pageBytes));
  return { requestBytes: size(wanted.requestBytes), replyBytes: size(wanted.replyBytes) };
}

function offered(shared: Shared, state: LiveState): readonly Capability[] {
  return [
    "events",
    ...(state.role === "control" ? (["push", "memory"] as const) : []),
    ...(shared.segmentFolder !== null && state.role === "control" ? (["segments"] as const) : []),
  ];
}

/** Says which of the two is older, with both versions: the person who reads it has to know what to update. */
export function versionsApart(
  { protocolVersions, client }: WireParams<"hello">,
  spoken: readonly number[],
  sidecarVersion: string,
): Failure {
  const clientIsOlder = Math.max(...protocolVersions) < Math.min(...spoken);
  const remedy = clientIsOlder
    ? `update ${client.name} (it is the older side)`
    : 'update the sidecar (it is the older side): "refit-sidecar stop", then "refit-sidecar update"';
  return new Failure(
    "WIRE_VERSION_UNSUPPORTED",
    `expected protocol version ${spoken.join(" or ")}, which sidecar ${sidecarVersion} speaks; ${client.name} ${client.version} speaks ${protocolVersions.join(", ")}: ${remedy}`,
    { clientIsOlder },
  );
}

export function greetingMethods(state: LiveState, shared: Shared): { readonly hello: Bound; readonly "segments.confirm": Bound } {
  return {
    hello: bind(wireMethods.hello, async (params) => {
      const common = params.protocolVersions.filter((version) => spokenVersions.includes(version));
      if (common.length === 0) throw versionsApart(params, spokenVersions, shared.version);
      const capabilities = offered(shared, state).filter((capability) => params.capabilities.includes(capability));
      const segments = await state.greet(new Set(capabilities), sizes(params.segments));
      shared.log.info(
        `${state.id}: ${params.client.name} ${params.client.version}, ${state.role}, ${capabilities.join(" ") || "no capabilities"}`,
      );
      return {
        result: {
          protocolVersion: Math.max(...common),
          server: { name: "refit-sidecar", version: shared.version },
          session: state.id,
          role: state.role,
          capabilities,
          limits: {
            messageBytes: limits.messageBytes[state.role],
            inFlight: limits.inFlight,
            conditioningBytes: limits.conditioningBytesPerSession,
            pushBytes: limits.pushBytes,
          },
          segments,
        },
      };
    }),
    "segments.confirm": bind(wireMethods["segments.confirm"], async ({ proof, segment }) => ({
      result: {
        enabled: segment === undefined ? (state.segments()?.confirm(proof) ?? false) : state.deviceSegments.confirm(segment, proof),
      },
    })),
  };
}
