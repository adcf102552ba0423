// Trying a stack on a loaded engine: another stack at once, and a small picture from a fixed seed without a prompt.

import { PNG } from "pngjs";
import { decode, gridPng, noiseOf, readDemoAssets, sample, stepInputs } from "../../demo/index.ts";
import type { DemoAssets } from "../../demo/index.ts";
import { Failure } from "../../failure/index.ts";
import type { Engines } from "../../refit/index.ts";
import type { WireBackend } from "../../wire/index.ts";
import type { LeaseOpener, LeaseRequest, OpenLease } from "../open-lease.ts";
import type { Resolver, StackRequest } from "../resolve/resolver.ts";
import { changeSince, engineOf } from "./engines.ts";
import { latentLooks, sampleLatents } from "./latent-look.ts";
import { wirePrecision } from "./views.ts";

export interface TryoutParts {
  readonly engines: Pick<Engines, "get" | "status">;
  readonly opener: Pick<LeaseOpener, "open">;
  readonly resolver: Pick<Resolver, "checkpointId">;
  readonly mode: () => LeaseRequest["mode"];
}

/** The demo's pictures in one drawing; as many as fit beside a slider. */
const digits = 8;

export function tryoutAnswers(parts: TryoutParts): Pick<WireBackend, "engine.restack" | "engine.draw"> {
  let assets: Promise<DemoAssets> | null = null;

  /** A lease on this engine with another stack on the checkpoint that it holds. The caller ends it. */
  async function opened(id: string, stack: readonly StackRequest[], signal: AbortSignal): Promise<OpenLease> {
    const { state, spec } = engineOf(parts.engines, id);
    const checkpoint = "weights" in state && state.weights !== null ? parts.resolver.checkpointId(state.weights.checkpoint) : null;
    if (checkpoint === null)
      throw new Failure("ENGINE_UNKNOWN", "expected an engine that holds a checkpoint of the folders; prepare one first", { engine: id });
    const request = {
      checkpoint,
      stack,
      mode: parts.mode(),
      precision: wirePrecision[spec.precision],
      host: spec.hostKind as LeaseRequest["host"],
      residuals: false,
    };
    return parts.opener.open(request, { signal });
  }

  async function drawDemo(lease: OpenLease, seed: number, signal: AbortSignal): Promise<{ png: Buffer; stepsMs: number }> {
    const demo = await (assets ??= readDemoAssets());
    const { description } = demo;
    const seeds = Array.from({ length: digits }, (_, index) => (seed + index) >>> 0);
    const inputsAt = stepInputs(demo, digits);
    let stepsMs = 0;
    const latents = await sample(description, seeds, async (current, timestep) => {
      const reply = await lease.step(inputsAt(current, timestep), signal);
      stepsMs += reply.ms;
      return floats(reply.tensors[0]?.data);
    });
    return {
      png: gridPng(
        description,
        seeds.map((_, index) => decode(description, latents, index)),
      ),
      stepsMs,
    };
  }

  return {
    "engine.restack": async ({ engine, stack }, { signal }) => {
      const started = performance.now();
      const lease = await opened(engine, stack, signal);
      lease.end();
      const own = changeSince(parts.engines, lease.engine, started);
      return { ms: performance.now() - started, refit: own === null ? null : { writes: own.writes, full: own.full } };
    },
    "engine.draw": async ({ engine, stack, seed, steps }, { signal }) => {
      const started = performance.now();
      const lease = await opened(engine, stack, signal);
      try {
        const own = changeSince(parts.engines, lease.engine, started);
        const refit = own === null ? 0 : own.prepareMs + own.commitMs;
        const { structure } = lease.origin.spec;
        const { description } = await (assets ??= readDemoAssets());
        if (structure === description.checkpoint.structure) {
          const { png, stepsMs } = await drawDemo(lease, seed, signal);
          const size = PNG.sync.read(png);
          return { png: png.toString("base64"), width: size.width, height: size.height, shows: "digits", ms: { refit, steps: stepsMs } };
        }
        const family = lease.origin.resolved.checkpoint.entry.family;
        const look = latentLooks[family ?? ""];
        if (look === undefined)
          throw new Failure(
            "ENGINE_UNSUPPORTED",
            "pictures to try are drawn on the demo's model and on engines of SD 1.5 and SDXL; use the UI for others",
            { engine },
          );
        const { png, width, height, stepsMs } = await sampleLatents({
          lease,
          look,
          noise: (count) => noiseOf(seed, count),
          steps,
          signal,
        });
        return { png: png.toString("base64"), width, height, shows: "latents", ms: { refit, steps: stepsMs } };
      } finally {
        lease.end();
      }
    },
  };
}

function floats(bytes: Uint8Array | undefined): Float32Array {
  return new Float32Array(Uint8Array.from(bytes ?? new Uint8Array()).buffer);
}
