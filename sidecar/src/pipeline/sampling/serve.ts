// engine.sample: a lease, a loop over its steps, an answer. In: a checked request. Out: latents. The loop lives here and not in an engine host, so one program serves
// every host, a host that is lost costs one step, and a cancelled loop gives its engine back between two steps (docs/develop/sampling.md).

import type { Autoencoder, FrameTensor } from "@refit-sidecar/protocol";
import type { Catalog } from "../../catalog/index.ts";
import { Failure } from "../../failure/index.ts";
import type { Engines, EngineSpec } from "../../refit/index.ts";
import {
  Admission,
  channelsOf,
  coloursOf,
  drawn,
  firstLatents,
  generatorOf,
  pictureIn,
  runLoop,
  samplerOf,
  scheduleOf,
} from "../../sampling/index.ts";
import type { Prediction } from "../../sampling/index.ts";
import type { LeaseReply } from "../../step/index.ts";
import { elements, familyTitle, samplingOf } from "../../terms/index.ts";
import type { CallContext, SampleCall, SampleReply } from "../../wire/index.ts";
import { changeSince } from "../answers/engines.ts";
import { adapterReportView, portDtype, wirePrecision } from "../answers/views.ts";
import { bytesAs } from "../float-tensors.ts";
import type { LeaseOpener, LeaseRequest, OpenLease } from "../open-lease.ts";
import type { Placer } from "../placing/placer.ts";
import type { StepTable } from "../resolve/graphs.ts";
import type { ResolvedCheckpoint, Resolver } from "../resolve/resolver.ts";
import { withRoom } from "../retry-with-room.ts";
import { inTime } from "./deadline.ts";
import { readInputs } from "./inputs.ts";
import { modelCalls } from "./model-calls.ts";

export interface SampleParts {
  readonly engines: Pick<Engines, "status">;
  readonly placer: Pick<Placer, "places">;
  readonly opener: Pick<LeaseOpener, "open">;
  readonly resolver: Pick<Resolver, "checkpoint">;
  readonly catalog: Pick<Catalog, "find" | "present">;
  readonly specOf: (
    checkpoint: ResolvedCheckpoint,
    request: LeaseRequest,
    signal?: AbortSignal,
  ) => Promise<{ readonly spec: EngineSpec; readonly table: StepTable }>;
  readonly mode: () => LeaseRequest["mode"];
  readonly turnMs: () => number;
  /** A loop has ended well. */
  readonly looped: (result: SampleReply["result"]) => void;
  /** Told of what was asked for, so that the next start has it warm. */
  readonly noted: (request: LeaseRequest) => void;
}

type Params = SampleCall["params"];
type Refits = SampleReply["result"]["refits"];

/** Beyond this many loops that wait a client had better ask elsewhere. */
const maxWaiting = 512;

/** An adapter by content; any other name is an id, or a file's name. */
const sha256Pattern = /^[0-9a-f]{64}$/;

let loops = 0;

/** Each change counts for one loop, the first that it let go on: others on the same weights found them there. */
const counted = new WeakSet<object>();

/** Weights that were changed for a loop: at its beginning, and whenever others had the engine between two of its steps. `openedMs`: when it was its turn; what came before was for others. */
function refitsOf(engines: SampleParts["engines"], lease: OpenLease, openedMs: number) {
  const total = { count: 0, writes: 0, bytes: 0 };
  let seen: { readonly engine: string; readonly generation: number } | null = null;
  const add = (): void => {
    const change = changeSince(engines, lease.engine, openedMs);
    if (change === null || counted.has(change)) return;
    counted.add(change);
    total.count += 1;
    total.writes += change.writes;
    total.bytes += change.bytesWritten;
  };
  add();
  return {
    stepped({ engine, generation }: LeaseReply): void {
      if (seen !== null && (seen.engine !== engine || seen.generation !== generation)) add();
      seen = { engine, generation };
    },
    total: (): Refits => ({ ...total }),
  };
}

/** The model's own inputs that the loop fills. */
const dtypeOf = ({ inputs }: StepTable, { precision }: EngineSpec, name: string): FrameTensor["dtype"] =>
  portDtype(inputs.find((port) => port.name === name)?.dtype ?? "f32", precision);

/** Throws SAMPLE_INVALID where the model, the prediction and the sampler do not go together. */
function predictionOf({ prediction, sampler, eta }: Params, latents: "epsilon" | "flow"): Prediction {
  const own = prediction ?? latents;
  const refuse = (message: string): Failure => new Failure("SAMPLE_INVALID", message, {});
  if ((own === "flow") !== (latents === "flow"))
    throw refuse(`prediction: expected ${latents === "flow" ? "flow" : "epsilon or v"} for this model, got ${own}`);
  if (own === "flow" && (sampler === "euler_ancestral" || sampler === "ddim"))
    throw refuse(`sampler: expected flow_match_euler, euler, dpmpp_2m or unipc for a flow model, got ${sampler}`);
  if (own !== "flow" && sampler === "flow_match_euler")
    throw refuse("sampler: expected another one than flow_match_euler; this model is no flow");
  if (eta !== undefined && sampler !== "ddim") throw refuse(`eta: expected none with the sampler ${sampler}; it is of ddim`);
  return own;
}

/** Null: none were asked for. Throws SAMPLE_INVALID where colours of these latents are not known. */
function previewOf({ previews }: Params, autoencoder: Autoencoder | undefined, shape: readonly number[]) {
  if (previews === undefined) return null;
  const { kind, every = 1 } = previews;
  const [pictures = 1, channels, ...sizes] = shape;
  if (kind === "latents")
    return {
      every,
      make: (values: Float32Array): FrameTensor => ({ name: "preview", dtype: "f32", shape, data: new Uint8Array(values.buffer) }),
    };
  if (autoencoder === undefined || channelsOf(autoencoder) !== channels)
    throw new Failure(
      "SAMPLE_INVALID",
      `previews: expected the kind latents; colours of this model's latents (${channels} channels) are not known`,
      {},
    );
  return {
    every,
    make: (values: Float32Array): FrameTensor => ({
      name: "preview",
      dtype: "u8",
      shape: [pictures, ...sizes, 3],
      data: new Uint8Array(coloursOf(values, pictures, autoencoder).buffer),
    }),
  };
}

export function createSampling(parts: SampleParts): (call: SampleCall, context: CallContext) => Promise<SampleReply> {
  const adapterId = (reference: string): string =>
    sha256Pattern.test(reference) || parts.catalog.present(reference) !== null ? reference : parts.catalog.find("adapter", reference).id;

  /** One queue for each kind of host, over its devices. */
  const queues = new Map<string, Admission>();
  const queueOf = (kind: string): Admission => {
    const known = queues.get(kind);
    if (known !== undefined) return known;
    const made = new Admission({
      places: () => parts.placer.places(kind),
      turnMs: parts.turnMs,
      maxWaiting,
      nowMs: () => performance.now(),
    });
    queues.set(kind, made);
    return made;
  };

  async function sample({ params, tensors }: SampleCall, context: CallContext): Promise<SampleReply> {
    const started = performance.now();
    const { seeds, sampler, schedule, cfg = 1, eta = 0, size, strength } = params;
    const { checkpoint, stack, precision = "auto", host = "auto", mode = parts.mode(), adapterLoss } = params;
    const request: LeaseRequest = {
      checkpoint,
      stack: stack.map(({ adapter, strength: weight, targets }) => ({
        adapter: adapterId(adapter),
        strength: weight,
        ...(targets === undefined ? {} : { targets }),
      })),
      precision,
      host,
      mode,
      residuals: false,
      ...(adapterLoss === undefined ? {} : { adapterLoss }),
    };
    // Whatever does not fit is refused before an engine is touched.
    const resolved = await parts.resolver.checkpoint(checkpoint);
    const { family } = resolved.target;
    const sampling = samplingOf(family);
    if (sampling === null)
      throw new Failure("ENGINE_UNSUPPORTED", `loops of ${familyTitle(family)} are not run here; run its steps one by one (engine.step)`, {
        family,
      });
    const prediction = predictionOf(params, sampling.prediction);
    const plan = scheduleOf(schedule, { sampler, prediction, time: sampling.time, strength: strength ?? 1 });
    const { spec, table } = await parts.specOf(resolved, request, context.signal);
    const needs = { table, precision: spec.precision, takes: sampling.takes, pictures: seeds.length, size, wantsNegative: cfg !== 1 };
    const inputs = await readInputs(tensors, needs);
    if (strength !== undefined && inputs.latent === null)
      throw new Failure("SAMPLE_INVALID", "strength: expected the tensor latent with it", {});

    const preview = previewOf(params, sampling.latents, inputs.shape);

    const { priority = "normal", deadlineMs, client = context.session } = params;
    const group = JSON.stringify([request, spec.structure, spec.precision]);
    const dueMs = deadlineMs === undefined ? null : started + deadlineMs;
    const queue = queueOf(spec.hostKind);
    const askedMs = performance.now();
    const turn = await queue.enter({ group, client, priority, deadlineMs: dueMs }, context.signal);
    const openedMs = performance.now();
    const waitedMs = openedMs - askedMs;
    const opening = withRoom(() => parts.opener.open(request, { signal: context.signal }), context.makeRoom);
    const lease = await opening.catch((error: unknown) => {
      turn.end();
      throw error;
    });
    try {
      parts.noted(request);
      const preparedMs = performance.now() - openedMs;
      turn.prepared(lease.refitMs);
      const loopStarted = performance.now();
      const refits = refitsOf(parts.engines, lease, openedMs);
      loops += 1;
      const time = { queue: waitedMs, run: 0 };
      let calls = 0;
      const model = await modelCalls({
        name: `loop/${loops}`,
        inputs,
        cfg,
        dtypes: { sample: dtypeOf(table, spec, "sample"), timestep: dtypeOf(table, spec, "timestep") },
        async step(step) {
          const reply = await withRoom(() => lease.step(step, context.signal), context.makeRoom);
          calls += 1;
          time.queue += reply.waitedMs;
          time.run += reply.ms;
          refits.stepped(reply);
          return reply;
        },
      });
      const generators = seeds.map(generatorOf);
      const count = elements(inputs.shape);
      const latents = await runLoop({
        schedule: plan,
        sampler: samplerOf(sampler, prediction, eta, plan.steps.length),
        generators,
        first: firstLatents(plan, inputs.noise ?? drawn(generators, count), inputs.latent),
        predict: model.predict,
        signal: context.signal,
        onStep(done, total, { step, latents: before, answer }) {
          context.progress({
            stage: "sample",
            done,
            total,
            remainingMs: ((performance.now() - loopStarted) / done) * (total - done),
            text: "Denoising",
          });
          if (preview !== null && done % preview.every === 0)
            context.preview({ done, total, make: () => preview.make(pictureIn(before, answer, step, prediction)) });
        },
      });
      const reply: SampleReply = {
        latents: { name: "latents", dtype: "f32", shape: [...inputs.shape], data: await bytesAs(latents, "f32") },
        result: {
          engine: lease.engine,
          host: spec.hostKind,
          precision: wirePrecision[spec.precision],
          seeds,
          steps: plan.steps.length,
          calls,
          refits: refits.total(),
          ms: { total: performance.now() - started, prepare: preparedMs, ...time },
          adapters: lease.origin.resolved.adapters.map(({ id, delta }) => adapterReportView(id, delta)),
        },
      };
      parts.looped(reply.result);
      return reply;
    } finally {
      lease.end();
      turn.end();
    }
  }
  return (call, context) => inTime(call.params.deadlineMs, context.signal, (signal) => sample(call, { ...context, signal }));
}
