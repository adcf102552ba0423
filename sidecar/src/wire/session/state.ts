// What belongs to one session besides its socket: capabilities, leases, subscriptions, segments, questions to the client. `end` gives all of it back.

import {
  encodeFrame,
  notification,
  protocolVersion,
  type Capability,
  type Role,
  type Topic,
  type WireResult,
} from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { CallContext } from "../backend.ts";
import { logText } from "../failures.ts";
import { times } from "../limits.ts";
import {
  createDeviceSegments,
  createSessionSegments,
  isDeviceIndex,
  type DeviceSegments,
  type SessionSegments,
} from "../segments/index.ts";
import type { Calls, OpenCall } from "./calls.ts";
import type { SessionState } from "./method-table.ts";
import type { Outbox } from "./outbox.ts";
import type { Shared } from "./parts.ts";

export interface LiveState extends SessionState {
  readonly leases: Set<string>;
  readonly ended: () => boolean;
  readonly calls: () => Calls;
  readonly segments: () => SessionSegments | null;
  readonly deviceSegments: DeviceSegments;
  /** Marks the session as greeted; makes segments when they are wanted and possible. */
  readonly greet: (
    capabilities: ReadonlySet<Capability>,
    sizes: { readonly requestBytes: number; readonly replyBytes: number } | null,
  ) => Promise<WireResult<"hello">["segments"]>;
  readonly subscribe: (topics: readonly Topic[]) => void;
  /** The client's answer to memory.wanted. */
  readonly roomMade: (request: string | number, bytes: number) => void;
}

export const spokenVersions: readonly number[] = [protocolVersion];

/** First part of an event's type. */
export function topicOf(type: string): string {
  return type.slice(0, type.indexOf("."));
}

export function createState(id: string, role: Role, shared: Shared): LiveState {
  const leases = new Set<string>();
  const rooms = new Map<string | number, (bytes: number) => void>();
  let attached: { readonly outbox: Outbox; readonly calls: Calls } | null = null;
  let capabilities: ReadonlySet<Capability> | null = null;
  let segments: SessionSegments | null = null;
  const deviceSegments = createDeviceSegments(shared.deviceMemory);
  let unsubscribe: (() => void) | null = null;
  let ended = false;

  function wired(): { readonly outbox: Outbox; readonly calls: Calls } {
    if (attached === null) throw new TypeError("a session is used before it is attached to its socket");
    return attached;
  }

  /** At most one notification per interval and call, but always the last one of a stage. */
  function ownSegments(): SessionSegments {
    if (segments === null) throw new Failure("WIRE_SEGMENT_REFUSED", "expected tensors in the frame: this session has no segments");
    return segments;
  }

  function progressOf(call: OpenCall): CallContext["progress"] {
    let lastMs = -Infinity;
    return (report) => {
      const nowMs = shared.nowMs();
      if (call.signal.aborted || (nowMs - lastMs < times.progressEveryMs && report.done < report.total)) return;
      lastMs = nowMs;
      wired().outbox.notify("progress", { request: call.id, ...report, text: report.text.slice(0, 2000) });
    };
  }

  const previewOf =
    (call: OpenCall): CallContext["preview"] =>
    ({ done, total, make }) => {
      if (call.signal.aborted) return;
      wired().outbox.newest(call.id, () => encodeFrame(notification("preview", { request: call.id, done, total }), [make()]));
    };

  async function makeRoom(call: OpenCall, bytes: number): Promise<number> {
    if (!capabilities?.has("memory") || call.signal.aborted) return 0;
    return new Promise((resolve) => {
      const timer = setTimeout(() => finish(0), times.makeRoomMs);
      const finish = (freed: number): void => {
        clearTimeout(timer);
        rooms.delete(call.id);
        resolve(freed);
      };
      call.signal.addEventListener("abort", () => finish(0), { once: true });
      rooms.set(call.id, finish);
      wired().outbox.notify("memory.wanted", { request: call.id, bytes });
    });
  }

  return {
    id,
    role,
    leases,
    greeted: () => capabilities !== null,
    ended: () => ended,
    calls: () => wired().calls,
    segments: () => segments,
    deviceSegments,
    attach(outbox, calls) {
      attached = { outbox, calls };
    },
    contextOf: (call) => ({
      session: id,
      signal: call.signal,
      progress: progressOf(call),
      preview: previewOf(call),
      makeRoom: (bytes) => makeRoom(call, bytes),
    }),
    async greet(agreed, sizes) {
      if (capabilities !== null) throw new Failure("WIRE_HELLO_REPEATED", "expected hello once per connection");
      capabilities = agreed;
      if (sizes === null || shared.segmentFolder === null || !agreed.has("segments")) return null;
      try {
        segments = await createSessionSegments(shared.segmentFolder, sizes);
      } catch (error) {
        shared.log.warn(`${id}: no segments, tensors travel in frames: ${logText(error)}`);
        return null;
      }
      // The client may have gone while the files were made.
      if (ended) await segments.remove();
      const { request, reply } = segments.files;
      return { request: { index: 0, path: request.path, bytes: request.bytes }, reply: { index: 1, path: reply.path, bytes: reply.bytes } };
    },
    readSegment: async (descriptor) => ownSegments().read(descriptor),
    placeSegment: (descriptor) => (isDeviceIndex(descriptor.segment) ? deviceSegments.place(descriptor) : ownSegments().place(descriptor)),
    subscribe(topics) {
      unsubscribe?.();
      const wanted = new Set<string>(topics);
      unsubscribe =
        wanted.size === 0
          ? null
          : shared.backend.subscribe((event) => {
              if (wanted.has(topicOf(event.event.type))) wired().outbox.event(event);
            });
    },
    roomMade: (request, bytes) => rooms.get(request)?.(bytes),
    async end() {
      if (ended) return;
      ended = true;
      unsubscribe?.();
      for (const finish of [...rooms.values()]) finish(0);
      shared.conditioning.dropSession(id);
      const context: CallContext = {
        session: id,
        signal: new AbortController().signal,
        progress: () => undefined,
        preview: () => undefined,
        makeRoom: async () => 0,
      };
      const given = await Promise.allSettled([
        shared.pushes.dropSession(id),
        segments?.remove(),
        deviceSegments.remove(),
        ...[...leases].map(async (lease) => shared.backend["engine.release"]({ lease }, context)),
      ]);
      leases.clear();
      for (const outcome of given)
        if (outcome.status === "rejected") shared.log.warn(`${id}: could not give everything back: ${logText(outcome.reason)}`);
    },
  };
}
