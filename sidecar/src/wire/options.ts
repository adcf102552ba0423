// Options of the wire: as given by the command line, and resolved. Everything that needs two options at once is checked here.

import { readFile } from "node:fs/promises";
import { Failure } from "../failure/index.ts";
import { isLoopback } from "./access/index.ts";

export interface WireOptions {
  /** Address to listen on. */
  readonly bind: string;
  /** 0: any free port. */
  readonly port: number;
  /** Files with a PEM certificate and its key; both or none. */
  readonly tlsCert: string | null;
  readonly tlsKey: string | null;
  /** A reverse proxy in front ends TLS and checks who may connect. */
  readonly behindProxy: boolean;
  readonly allowHosts: readonly string[];
  readonly allowOrigins: readonly string[];
  readonly maxClients: number;
}

/** What may change while the sidecar runs. */
export type ReloadableOptions = Pick<WireOptions, "allowHosts" | "allowOrigins" | "maxClients">;

export interface Tls {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Refuses a bind address that would carry tokens over a network in the clear. Throws WIRE_OPTIONS_*. */
export async function resolveTls({ bind, tlsCert, tlsKey, behindProxy }: WireOptions): Promise<Tls | null> {
  if ((tlsCert === null) !== (tlsKey === null)) throw new Failure("WIRE_OPTIONS_TLS", "expected both --tls-cert and --tls-key, or neither");
  if (tlsCert === null || tlsKey === null) {
    if (!isLoopback(bind) && !behindProxy) {
      throw new Failure(
        "WIRE_OPTIONS_REMOTE",
        "expected --tls-cert and --tls-key (or --behind-proxy with a proxy that ends TLS) for an address that is not loopback: the token would travel in the clear",
      );
    }
    return null;
  }
  try {
    return { cert: await readFile(tlsCert), key: await readFile(tlsKey) };
  } catch (error) {
    throw new Failure("WIRE_OPTIONS_TLS", "the certificate or its key cannot be read; expected two PEM files", {}, { cause: error });
  }
}
