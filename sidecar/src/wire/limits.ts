// Every cap of the wire, with its reason. Checked before memory is taken.

import type { Role } from "@refit-sidecar/protocol";

const MiB = 2 ** 20;

export const limits = {
  /** A read client sends small calls only; a control client sends tensors: SDXL ControlNet residuals at 1024², batch 2, fp16 are 107 MB. */
  messageBytes: { read: 64 * 1024, control: 256 * MiB } satisfies Record<Role, number>,
  /** JSON without tensors; adapter.find with 8,192 tensors is 1.5 MiB. The rest of messageBytes is for payloads. */
  headerBytes: { read: 64 * 1024, control: 4 * MiB } satisfies Record<Role, number>,
  /** Honest clients send one fragment; some libraries cut at 64 KiB, which makes 4,096 of the largest message. */
  fragments: { read: 16, control: 4096 } satisfies Record<Role, number>,
  /** TCP chunks held for an unfinished message: 256 MiB in pieces of 1 KiB. */
  bufferedChunks: { read: 1024, control: 256 * 1024 } satisfies Record<Role, number>,
  /** Calls of one session without an answer. A UI has a handful; the cap bounds what a flood can start. */
  inFlight: 64,
  /** Payload bytes of unanswered calls before the socket is no longer read; the largest message fits twice. */
  inFlightBytes: 512 * MiB,
  /** Messages that break the protocol before the connection is closed: enough to debug a client, not to fuzz a server. */
  badMessages: 16,
  /** Bytes waiting for a client beyond which events are left out (they are news, not answers). */
  queueSoftBytes: MiB,
  /** Bytes waiting beyond which the next message drops the client: it does not read. One reply of any size always fits an empty queue. */
  queueHardBytes: 64 * MiB,
  conditioningBytesPerSession: 256 * MiB,
  conditioningBytes: 1024 * MiB,
  /** Every key costs a little beside its bytes. */
  conditioningKeys: 1024,
  /** One pushed adapter; a full-size SDXL LyCORIS file is below 2 GiB. */
  pushBytes: 4096 * MiB,
  /** Unfinished pushes of one session. */
  pushesOpen: 4,
  /** All pushed adapters together, on disk; the least recently pushed go first. */
  pushStoreBytes: 8192 * MiB,
  pushStoreCount: 4096,
  /** One segment. The file is sparse: only what is written takes memory. */
  segmentBytes: 512 * MiB,
  /** From here on a step's tensor stays in the segment until the engine host reads it: below, one copy is cheaper than a file opened in another process. */
  placedBytes: MiB,
  /** The bodies that HTTP takes are `{token}` and `{ticket}`, and those of `POST /sample`. */
  httpBodyBytes: 4096,
  /** A loop's conditioning in base64: two sides of 512 tokens of a large text encoder in f32 are 22 MB. */
  httpSampleBytes: 64 * MiB,
  /** Loops over HTTP without an answer: as many as one session of the WebSocket may have. */
  httpSamples: 64,
  tickets: 64,
  browserSessions: 256,
} as const;

export const times = {
  /** From the upgrade to hello. */
  helloMs: 10_000,
  pingEveryMs: 20_000,
  /** Pings without a pong before a client counts as gone. A UI may hold its interpreter lock for half a minute while it loads a model. */
  missedPings: 3,
  /** How long a dropped client may take to read the close frame. */
  closeGraceMs: 1_000,
  /** How long a client may take to unload its models when asked for room. */
  makeRoomMs: 10_000,
  progressEveryMs: 50,
  /** A ticket opens one browser session, and travels in a link: it lives for a few minutes only. */
  ticketMs: 5 * 60_000,
  browserSessionMs: 12 * 3_600_000,
  /** Request head of an HTTP call, against clients that send a byte a second. */
  httpHeadMs: 10_000,
  httpRequestMs: 30_000,
} as const;

/** WebSocket close codes of our own (4000-4999) and why. */
export const closeCodes = {
  helloTimeout: 4001,
  badMessages: 4002,
  slowReader: 4003,
  goingAway: 1001,
} as const;
