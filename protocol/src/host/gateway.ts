// What the sidecar and a gateway say to each other: one child that carries many engine hosts, each on a channel of its own (docs/develop/processes.md, "Providers").
// Channel 0 carries these messages as JSON; every other channel carries the host protocol, unchanged.

import { z } from "zod";

export const gatewayProtocolVersion = 1;
/** A channel's number (u32) and how many bytes follow (u64), little-endian. */
export const gatewayPrefixBytes = 12;

const count = z.int().nonnegative();
const channel = z.int().positive().max(0xffffffff);
const device = z.string().min(1).max(80);
const said = z.string().max(4000);

/** Where an actor is. `problem`: why no host runs there at present; null: it serves. */
export const gatewayPlace = z.object({ name: device, node: z.string().max(200).nullable(), problem: said.nullable() });

export const gatewayMethods = {
  /** First call: the gateway joins the cluster and asks for its actors. `actors` 0: one for each share of `gpus` that the cluster has. */
  join: {
    params: z.object({
      protocolVersion: z.int(),
      address: z.string().min(1),
      actors: count,
      gpus: z.number().nonnegative(),
      cpus: z.number().nonnegative(),
      files: z.enum(["auto", "shared", "store"]),
      /** Folder on every node whose adapters reach `inbox`, a folder of the sidecar's; null: none is watched. */
      adapters: z.string().min(1).nullable(),
      inbox: z.string().min(1).nullable(),
    }),
    result: z.object({ version: z.string(), devices: z.array(gatewayPlace) }),
  },
  /** Starts a host in an actor, on a channel that is not used yet. */
  open: {
    params: z.object({ channel, device, command: z.array(z.string()).min(1), env: z.record(z.string(), z.string()) }),
    result: z.object({ pid: count, node: z.string() }),
  },
  /** Ends the host of a channel. */
  close: { params: z.object({ channel }), result: z.object({}) },
  /** The actor begins anew, with every host in it. Answered at once. */
  renew: { params: z.object({ device }), result: z.object({}) },
} as const;

export type GatewayMethod = keyof typeof gatewayMethods;
export type GatewayParams<M extends GatewayMethod> = z.input<(typeof gatewayMethods)[M]["params"]>;
export type GatewayResult<M extends GatewayMethod> = z.output<(typeof gatewayMethods)[M]["result"]>;

export const gatewayNotifications = {
  /** Every device that there is or was, whenever one of them changes. */
  devices: z.object({ devices: z.array(gatewayPlace) }),
  /** A host has ended, or contact with it is lost. Nothing comes on its channel any more. */
  ended: z.object({ channel, reason: said }),
  /** The cluster is gone, or another one answers in its place. The gateway ends, and every host with it; only a new one can join again. */
  left: z.object({ reason: said }),
  /** A line that a host printed. */
  line: z.object({ channel, text: said }),
  /** What the way through the gateway adds to a call, over those of the last minutes; null: none yet. */
  figures: z.object({ steps: count, p50Ms: z.number().nullable(), p99Ms: z.number().nullable() }),
} as const;
export type GatewayNotification = keyof typeof gatewayNotifications;
export type GatewayNotificationParams<N extends GatewayNotification> = z.output<(typeof gatewayNotifications)[N]>;
