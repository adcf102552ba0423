// A parameter that is checked and then dropped is a promise that nobody keeps. Every parameter of every method, as the schemas have them, goes through the real
// session and the real backend as an object that notes what is read of it.

import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { z } from "zod";
import { writeSafetensors } from "@refit-sidecar/native";
import { wireMethods, type WireMethod } from "@refit-sidecar/protocol";
import { createBackend, type BackendParts } from "../../../sidecar/src/pipeline/answers/backend.ts";
import { pageAnswers, type PageParts } from "../../../sidecar/src/pipeline/answers/pages.ts";
import { createAdapterFinder } from "../../../sidecar/src/pipeline/resolve/find-adapter.ts";
import { createLeaseOpener, type LeaseRequest, type Origin } from "../../../sidecar/src/pipeline/open-lease.ts";
import { engineSpec, type SpecParts } from "../../../sidecar/src/pipeline/resolve/spec.ts";
import { createResolver, type ResolverParts } from "../../../sidecar/src/pipeline/resolve/resolver.ts";
import { createSampling, type SampleParts } from "../../../sidecar/src/pipeline/sampling/serve.ts";
import { Leases } from "../../../sidecar/src/step/index.ts";
import { createDeviceMemory, createDeviceSegments } from "../../../sidecar/src/wire/segments/device-segments.ts";
import { createSessionSegments, segmentProof } from "../../../sidecar/src/wire/segments/session-segments.ts";
import type { CallContext, SampleCall } from "../../../sidecar/src/wire/index.ts";
import type { CallInput } from "../../../sidecar/src/wire/session/method-table.ts";
import { sessionMethods } from "../../../sidecar/src/wire/session/methods.ts";
import type { Shared } from "../../../sidecar/src/wire/session/parts.ts";
import type { LiveState } from "../../../sidecar/src/wire/session/state.ts";

afterEach(() => void vi.restoreAllMocks());

/** Texts of which every string of the schemas takes one. */
const texts = ["sd15", "a", "a".repeat(64)];

const anyKey = "(any key)";

interface Definition {
  readonly type: string;
  readonly shape?: Readonly<Record<string, z.ZodType>>;
  readonly element?: z.ZodType;
  readonly innerType?: z.ZodType;
  readonly valueType?: z.ZodType;
  readonly options?: readonly z.ZodType[];
  readonly entries?: Readonly<Record<string, unknown>>;
}
const definition = (schema: z.ZodType): Definition => schema.def as unknown as Definition;

/** Values that the schema accepts, one for each variant of a union, with every optional field there. */
function samples(schema: z.ZodType, name = ""): unknown[] {
  const { type, shape, element, innerType, valueType, options, entries } = definition(schema);
  const inner = (one: z.ZodType | undefined): unknown[] => (one === undefined ? [] : samples(one));
  const found = ((): unknown[] => {
    switch (type) {
      case "object": {
        let made: Record<string, unknown>[] = [{}];
        for (const [name, field] of Object.entries(shape ?? {}))
          made = made.flatMap((base) => samples(field, name).map((value) => ({ ...base, [name]: value })));
        return made;
      }
      case "array":
        // A list that needs two falls.
        return inner(element).map((value) => (schema.safeParse([value]).success ? [value] : [value, 0]));
      case "record":
        return inner(valueType).map((value) => ({ [anyKey]: value }));
      case "optional":
      case "nullable":
      case "readonly":
        return inner(innerType);
      case "union":
        return (options ?? []).flatMap((one) => samples(one));
      case "enum":
        return [Object.values(entries ?? {}).at(-1)];
      case "boolean":
        return [true];
      case "number":
        // A place in a segment is a multiple of 64.
        return [name === "offset" ? 0 : 1];
      case "string":
        return texts.filter((text) => schema.safeParse(text).success).slice(0, 1);
      default:
        return [];
    }
  })();
  if (found.length === 0) throw new Error(`no sample of ${type}: teach this test`);
  return found;
}

/** Every field of the value by its path; members of a list are one path, and the keys of a record are no fields. */
function paths(value: unknown, at = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((one) => paths(one, `${at}[]`));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => (name === anyKey ? [] : [`${at}.${name}`, ...paths(inner, `${at}.${name}`)]));
}

/** Notes reads by path. A copy of all fields at once ({...it}, JSON.stringify) reads none of them. */
function watched<Value>(value: Value, read: Set<string>, at = ""): Value {
  if (typeof value !== "object" || value === null) return value;
  const copying = new Set<string | symbol>();
  return new Proxy(value, {
    ownKeys(target) {
      const keys = Reflect.ownKeys(target);
      if (!Array.isArray(target)) for (const key of keys) copying.add(key);
      return keys;
    },
    get(target, key) {
      const inner: unknown = Reflect.get(target, key);
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return inner;
      const path = Array.isArray(target) ? `${at}[]` : `${at}.${key}`;
      if (!copying.delete(key)) read.add(path);
      return watched(inner, read, path);
    },
  });
}

/** Whatever is asked of it, it has; calls answer with it. For parts that the test is not about. */
const anything: object = new Proxy(() => undefined, {
  get: (_, key) => (key === "then" ? undefined : key === Symbol.iterator ? [][Symbol.iterator].bind([]) : anything),
  apply: () => anything,
});

const sha256 = "a".repeat(64);
const folder = mkdtempSync(join(tmpdir(), "refit-params-"));
mkdirSync(join(folder, "a"));
const parameters = { "input_blocks.0.0.weight": { shape: [4, 4, 3, 3], pieces: [] } };
const checkpoint = { id: "a", kind: "checkpoint", name: "a", path: "a", family: "sd15", structure: "s", problem: null, folder: "sd15" };
/** The tensor that the samples ask for. */
const file = join(folder, "a.safetensors");
beforeAll(() => writeSafetensors(file, [{ name: "sd15", dtype: "BOOL", shape: [1], data: new Uint8Array(1) }]));
const adapter = {
  id: sha256,
  kind: "adapter",
  name: "a",
  path: file,
  tensors: 1,
  family: "sd15",
  identity: { sha256 },
  problem: null,
  folder: "a",
};
const catalog = {
  find: (kind: string, name: string) => (name === "" ? null : kind === "checkpoint" ? checkpoint : adapter),
  entry: () => adapter,
  present: () => adapter,
  identity: () => Promise.resolve({ sha256 }),
  checkpointSource: () => Promise.resolve({ files: [], parameters }),
  adapterFile: () => ({ path: "a" }),
  snapshot: () => ({
    generation: 1,
    entries: new Map<string, object>([
      ["a", checkpoint],
      [sha256, adapter],
    ]),
  }),
} as unknown as ResolverParts["catalog"];
const delta = {
  path: "a",
  sha256,
  fileBytes: 1,
  cached: true,
  nonFinite: [],
  header: { terms: [], sources: {}, problem: null, report: { used: [], ignored: [], failed: [] } },
};

function leaseOpener() {
  const resolver = createResolver({
    catalog,
    deltas: { ready: () => Promise.resolve(delta) },
    deltaFolder: "a",
    events: { emit: () => undefined },
    onUsed: () => undefined,
  } as unknown as ResolverParts);
  const graph = {
    folder: "a",
    variants: { fp32: "a", "residuals-fp32": "a" },
    parameters: {},
    fixed: new Set(),
    inputs: [],
    outputs: [],
    residuals: [],
  };
  return createLeaseOpener({
    patienceMs: 0,
    leases: new Leases<Origin>({ turnMs: () => 1, graceMs: 1, maxWaiting: 1, idleMs: 1000, nowMs: () => 1 }),
    engines: anything as BackendParts["engines"],
    placer: { choose: () => ({ device: null, spreadTo: null }), heading: () => () => undefined },
    spread: () => undefined,
    resolve: resolver.wanted,
    specOf: (resolved, request) =>
      engineSpec(
        {
          graphs: { find: () => graph },
          jobs: anything,
          options: () => ({ host: "onnxruntime", precision: "fp32" }),
          pythons: () => null,
          winner: () => null,
          card: () => false,
          onProcessor: () => Promise.resolve(true),
        } as unknown as SpecParts,
        resolved.checkpoint,
        request,
      ),
    onFailed: () => undefined,
  });
}

const latentTable = {
  inputs: [{ name: "sample", dtype: "float", shape: ["batch", 4, "values"] }],
  outputs: [{ name: "out_sample", dtype: "float", shape: ["batch", 4, "values"] }],
};
const latent = { name: "latent", dtype: "f32", shape: [1, 4, 1], data: new Uint8Array(16) } as const;

async function methods() {
  const segments = await createSessionSegments(folder, { requestBytes: 4096, replyBytes: 4096 });
  segments.confirm(segmentProof(segments.files.request.nonce, segments.files.reply.nonce));
  const opener = leaseOpener();
  const stepped = { tensors: [{ ...latent, data: new Uint8Array(16) }], ms: 1, waitedMs: 0, engine: "e", generation: 1 };
  const sampling = createSampling({
    opener: {
      open: async (request: LeaseRequest) => {
        await opener.open(request).catch(() => undefined);
        return { engine: "e", origin: { resolved: { adapters: [] } }, step: () => Promise.resolve(stepped), end: () => undefined };
      },
    },
    engines: { status: { history: [] } },
    placer: { places: () => 1 },
    resolver: { checkpoint: () => Promise.resolve({ entry: checkpoint, target: { family: "sd15" } }) },
    specOf: () => Promise.resolve({ spec: { precision: "f32", hostKind: "onnxruntime" }, table: latentTable }),
    catalog,
    mode: () => "comfyui",
    turnMs: () => 1000,
    looped: () => undefined,
    noted: () => undefined,
  } as unknown as SampleParts);
  const parts = {
    catalog,
    finder: createAdapterFinder(catalog),
    jobs: {
      submit: ({ run }: { run: (context: unknown) => Promise<void> }) => ({ id: "j", result: run(anything) }),
      list: () => [],
    },
    warm: (request: LeaseRequest) => opener.open(request),
    opener: { ...opener, ahead: (request: LeaseRequest) => opener.open(request) },
    sample: ({ params }: SampleCall, context: CallContext) => sampling({ params, tensors: [latent] }, context),
    pages: pageAnswers({
      catalog,
      opener,
      resolver: { checkpointId: () => "a", checkpoint: () => Promise.resolve(anything), delta: () => Promise.resolve(delta) },
      engines: {
        get: (id: string) => ({
          id,
          spec: { structure: "s", precision: "f32", hostKind: "onnxruntime" },
          state: { state: "LIVE", weights: { checkpoint: "a" } },
        }),
        status: { history: [] },
      },
      log: { recent: () => [] },
      options: () => ({ mode: "comfyui" }),
    } as unknown as PageParts),
    leases: {
      list: () => [],
      release: (id: string) => id === "",
      get: (id: string) => ({
        origin: { spec: { structure: id, hostKind: "torch" } },
        share: () => Promise.resolve(anything),
        step: () => Promise.resolve({ tensors: [{ name: "a", dtype: "u8", shape: [1], data: new Uint8Array(1) }], ms: 1, waitedMs: 0 }),
      }),
    },
  };
  const or = <Part extends object>(part: Part) => new Proxy(part, { get: (target, key) => Reflect.get(target, key) ?? anything });
  const backend = createBackend(or(parts) as unknown as BackendParts);
  const shared = or({ backend, version: "1", clients: () => 1, nowMs: () => 1 }) as unknown as Shared;
  const state = or({
    id: "s",
    role: "control",
    leases: { has: () => true },
    segments: () => segments,
    deviceSegments: createDeviceSegments(createDeviceMemory()),
  }) as unknown as LiveState;
  return { bound: sessionMethods(state, shared), close: () => segments.remove() };
}

/** Tensors that travel beside a message: the frame's codec reads their descriptors and gives them to the method apart from its params. */
const codecs = (method: WireMethod, path: string): boolean => wireMethods[method].tensors !== "none" && path.startsWith(".tensors");

describe("every parameter of the wire", () => {
  it.each(Object.keys(wireMethods) as WireMethod[])("%s: what is asked for is read", async (method) => {
    const params: z.ZodType = wireMethods[method].params;
    const read = new Set<string>();
    const wanted = new Set<string>();
    const { bound, close } = await methods();
    const input = {
      call: anything,
      tensors: [],
      placed: [],
      context: {
        signal: new AbortController().signal,
        progress: () => undefined,
        preview: () => undefined,
        makeRoom: () => Promise.resolve(0),
      },
    };
    for (const sample of samples(params)) {
      expect(params.safeParse(sample).error).toBeUndefined();
      for (const path of paths(sample)) if (!codecs(method, path)) wanted.add(path);
      vi.spyOn(params, "safeParse").mockReturnValue({ success: true, data: watched(sample, read) } as never);
      // An answer is not what this is about: parts that are only there in name may refuse it.
      await Promise.resolve(bound[method].check({})(input as unknown as CallInput)).catch(() => undefined);
      vi.restoreAllMocks();
    }
    await close();
    expect([...wanted].filter((path) => !read.has(path))).toEqual([]);
  });

  it("what the backend hands on as a request for a lease is read by its opener", async () => {
    const [sample] = samples(wireMethods["engine.warm"].params) as LeaseRequest[];
    if (sample === undefined) throw new Error("engine.warm has no params");
    const read = new Set<string>();
    await leaseOpener()
      .open(watched(sample, read))
      .catch(() => undefined);
    expect(paths(sample).filter((path) => !read.has(path))).toEqual([]);
  });

  it("finds a parameter that is only copied, or not read at all", () => {
    const read = new Set<string>();
    const params = watched({ used: 1, dropped: 2, copied: 3, nested: { used: 1, dropped: 2 } }, read);
    const copy = { ...params, text: JSON.stringify(params) };
    expect([params.used, params.nested.used, typeof copy]).toEqual([1, 1, "object"]);
    expect(paths({ used: 1, dropped: 2, copied: 3, nested: { used: 1, dropped: 2 } }).filter((path) => !read.has(path))).toEqual([
      ".dropped",
      ".copied",
      ".nested.dropped",
    ]);
  });
});
