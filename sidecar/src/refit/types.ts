// What the refit stage takes and gives: desired states with the files that make them, engines, their history.

import type { HostReply } from "../host/types.ts";
import type { AdapterLosses, FrameTensor, HostParams, StackFile, TensorDescriptor, WeightDtype } from "@refit-sidecar/protocol";
import type { CheckpointSource } from "../catalog/types.ts";
import type { Serving } from "../telemetry/index.ts";
import type { AdapterTouches, DesiredState, EngineParameters, EngineState } from "../plan/types.ts";

/** An adapter of a stack, ready for a host. */
export interface WantedAdapter {
  /** Catalog id, for events and pages. */
  readonly id: string;
  readonly file: StackFile;
  readonly touches: AdapterTouches;
}

/** A desired state together with the files that make it. `adapters` is the stack, in order. */
export interface Wanted {
  readonly desired: DesiredState;
  readonly checkpoint: CheckpointSource;
  readonly adapters: readonly WantedAdapter[];
}

/** An engine is a structure: whatever is the same here shares one engine, whichever checkpoint or stack. */
export interface EngineSpec {
  readonly structure: string;
  readonly precision: WeightDtype;
  /** Shape profile (min/opt/max of batch, height, width, tokens) by name; "any" for hosts with dynamic shapes. */
  readonly profile: string;
  readonly hostKind: string;
  /** Null: parameters without a graph. */
  readonly graph: { readonly folder: string; readonly variant: string } | null;
  /** Without a graph: the host's own module of the family steps. */
  readonly steps?: true;
  readonly parameters: EngineParameters & { readonly shapes: Readonly<Record<string, readonly number[]>> };
}

/** One refit as the pages show it. */
export interface RefitRecord {
  readonly engine: string;
  readonly atMs: number;
  readonly kind: "load" | "refit" | "recovery";
  readonly full: boolean;
  readonly writes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Planning to prepared. */
  readonly prepareMs: number;
  /** Live weights closed to steps. */
  readonly commitMs: number;
  readonly mode: HostReply<"prepare">["mode"] | null;
  /** Code of the failure that kept the old weights, null when committed. */
  readonly failure: string | null;
}

export interface EngineStatus {
  readonly engine: string;
  readonly spec: Omit<EngineSpec, "parameters" | "graph">;
  /** Name of its device; null: its host's own choice. */
  readonly device: string | null;
  readonly state: EngineState;
  /** Milliseconds (monotonic) since when it is in that state. */
  readonly sinceMs: number;
  readonly generation: number;
  readonly bytes: number;
  readonly leases: number;
  /** Null before the host has told it. */
  readonly serving: Serving | null;
  /** What became of each adapter of the present stack in the engine's number format; empty where the host does not say. */
  readonly losses: AdapterLosses;
}

/** What a client asks for when it wants to share memory of the engine's device. */
export type SharedWish = HostParams<"share">;

export interface StepReply {
  readonly tensors: readonly FrameTensor[];
  /** Outputs that lie where the step's `reply` said. */
  readonly placed: readonly TensorDescriptor[];
  readonly ms: number;
}
