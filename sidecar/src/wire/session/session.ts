// One WebSocket client from upgrade to close. In: messages. Out: exactly one answer per call, notifications, and a clean end: its leases, segments,
// conditioning, pushes and running calls go with it.

import {
  decodeFrame,
  encodeFrame,
  FrameError,
  isWireMethod,
  parseJsonObject,
  parseRpc,
  ProtocolError,
  readDescriptors,
  success,
  withDescriptors,
  type FrameTensor,
  type JsonObject,
  type RpcRequest,
  type TensorDescriptor,
} from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { failureReply, logText, toWireFailure, wireJson } from "../failures.ts";
import { closeCodes, limits } from "../limits.ts";
import { isDeviceIndex } from "../segments/index.ts";
import { createCalls, type OpenCall } from "./calls.ts";
import type { Bound, CallInput, Reply, SessionState } from "./method-table.ts";
import { createOutbox } from "./outbox.ts";
import { withoutRetired } from "./retired.ts";
import type { SessionParts } from "./parts.ts";

export interface Session {
  readonly id: string;
  /** A message as ws gives it. Never rejects. */
  readonly receive: (data: Uint8Array, binary: boolean) => Promise<void>;
  /** The socket is gone: ends everything that belongs to the session. */
  readonly close: () => Promise<void>;
  readonly greeted: () => boolean;
}

interface Incoming {
  readonly message: JsonObject;
  readonly tensors: readonly FrameTensor[];
  /** null for a text message: its descriptors are read once it is known that its method has any. */
  readonly descriptors: readonly TensorDescriptor[] | null;
}

/** Calls that end others' waiting: they must get through when a session has as many calls open as it may. */
const answeredAtOnce: ReadonlySet<string> = new Set(["cancel", "memory.freed"]);

const cancelled = (): Failure => new Failure("WIRE_CANCELLED", "the call was cancelled");

export function createSession(state: SessionState, methods: Readonly<Record<string, Bound>>, ports: SessionParts): Session {
  const { socket, log, metrics } = ports;
  const outbox = createOutbox(socket, { softBytes: limits.queueSoftBytes, hardBytes: limits.queueHardBytes }, () => {
    metrics.dropped.add();
    log.warn(`${state.id}: dropped, it does not read what it asked for`);
    socket.drop(closeCodes.slowReader, "slow reader");
  });
  const calls = createCalls(limits.inFlight);
  state.attach(outbox, calls);
  const frameLimits = { headerBytes: limits.headerBytes[state.role], payloadBytes: limits.messageBytes[state.role] };
  let badMessages = 0;

  function decode(data: Uint8Array, binary: boolean): Incoming {
    if (binary) return decodeFrame(data, frameLimits);
    if (data.byteLength > frameLimits.headerBytes)
      throw new ProtocolError(
        "FRAME_HEADER_TOO_LARGE",
        `expected at most ${frameLimits.headerBytes} bytes of JSON, got ${data.byteLength}`,
      );
    return { message: parseJsonObject(new TextDecoder().decode(data)), tensors: [], descriptors: null };
  }

  function refuse(error: unknown): void {
    metrics.refused.add();
    outbox.send(wireJson(failureReply(null, toWireFailure(error))));
    badMessages += 1;
    if (badMessages > limits.badMessages) socket.drop(closeCodes.badMessages, "too many malformed messages");
  }

  function answer(call: OpenCall, reply: Reply): void {
    if (call.signal.aborted) return answerFailure(call, cancelled());
    if (!call.claimAnswer()) return;
    outbox.forget(call.id);
    const { result, tensors = [], descriptors = [] } = reply;
    if (tensors.length > 0) outbox.send(encodeFrame(success(call.id, result), tensors, descriptors));
    else outbox.send(wireJson(descriptors.length > 0 ? withDescriptors(success(call.id, result), descriptors) : success(call.id, result)));
  }

  function answerFailure(call: OpenCall, error: unknown): void {
    const failure = toWireFailure(error);
    if (failure.code === "WIRE_INTERNAL") log.error(`${state.id}: a call failed: ${logText(error)}`);
    if (!call.claimAnswer()) return;
    outbox.forget(call.id);
    outbox.send(wireJson(failureReply(call.id, failure)));
  }

  /** Tensors of a call, those in the segment copied out unless the method takes them where they are; all of them must be where the method takes them. */
  async function gather(
    { message, tensors, descriptors: inFrame }: Incoming,
    bound: Bound,
  ): Promise<Pick<CallInput, "tensors" | "placed">> {
    const takes = bound.tensors === "in" || bound.tensors === "both";
    const descriptors = inFrame ?? (takes ? readDescriptors(message) : []);
    if (descriptors.length === 0) return { tensors: [], placed: [] };
    const inSegment = descriptors.filter((descriptor) => descriptor.segment !== undefined);
    if (!takes || inSegment.length + tensors.length !== descriptors.length) {
      throw new Failure(
        "WIRE_TENSORS_MISPLACED",
        takes ? "expected each tensor in a binary frame or in a segment" : "expected no tensors with this method",
      );
    }
    // Ranges of one call lie side by side: more bytes than a segment has would make one range stand for many tensors.
    if (inSegment.reduce((sum, { bytes }) => sum + bytes, 0) > limits.segmentBytes)
      throw new Failure("WIRE_SEGMENT_REFUSED", `expected at most ${limits.segmentBytes} bytes of tensors in the segment`);
    const stays = ({ bytes, segment }: TensorDescriptor): boolean =>
      bound.takesPlaced && (isDeviceIndex(segment) || bytes >= limits.placedBytes);
    const placed = inSegment.filter(stays).map((descriptor) => state.placeSegment(descriptor));
    const copied = await Promise.all(
      inSegment.filter((descriptor) => !stays(descriptor)).map((descriptor) => state.readSegment(descriptor)),
    );
    return { tensors: [...copied, ...tensors], placed };
  }

  function find({ method }: RpcRequest): Bound {
    if (!isWireMethod(method)) throw new Failure("WIRE_METHOD_UNKNOWN", "expected a method of the table in docs/develop/protocol.md");
    const bound = methods[method];
    if (bound === undefined) throw new Failure("WIRE_METHOD_UNKNOWN", "expected a method of the table in docs/develop/protocol.md");
    if (!state.greeted() && method !== "hello") throw new Failure("WIRE_HELLO_REQUIRED", "expected hello as the first call");
    if (state.role === "read" && bound.role === "control") throw new Failure("WIRE_ROLE", `expected the control token for ${method}`);
    if (ports.closing()) throw new Failure("WIRE_SHUTTING_DOWN", "the sidecar is ending");
    return bound;
  }

  async function serve(request: RpcRequest, incoming: Incoming, bytes: number): Promise<void> {
    let call: OpenCall;
    try {
      call = calls.begin(request.id, bytes, answeredAtOnce.has(request.method));
    } catch (error) {
      outbox.send(wireJson(failureReply(request.id, toWireFailure(error))));
      return;
    }
    // The answer to a cancelled call does not wait for its work; the work itself hears of it through the signal.
    call.signal.addEventListener("abort", () => void (call.held() || answerFailure(call, cancelled())), { once: true });
    if (calls.bytes() > limits.inFlightBytes) socket.pause();
    try {
      const bound = find(request);
      const work = bound.check(withoutRetired(request.method, request.params));
      answer(call, await work({ call, ...(await gather(incoming, bound)), context: state.contextOf(call) }));
    } catch (error) {
      answerFailure(call, error);
    } finally {
      call.end();
      if (calls.bytes() <= limits.inFlightBytes) socket.resume();
    }
  }

  return {
    id: state.id,
    greeted: state.greeted,
    async receive(data, binary) {
      metrics.messages.add();
      metrics.bytesIn.add(data.byteLength);
      let incoming: Incoming;
      let request: RpcRequest;
      try {
        incoming = decode(data, binary);
        const message = parseRpc(incoming.message);
        if (message.kind === "notification") return;
        if (message.kind !== "request")
          throw new ProtocolError("RPC_INVALID", "expected a call; the sidecar asks nothing that is answered this way");
        request = message;
      } catch (error) {
        if (!(error instanceof ProtocolError || error instanceof FrameError))
          log.error(`${state.id}: a message could not be read: ${logText(error)}`);
        refuse(error);
        return;
      }
      await serve(request, incoming, data.byteLength);
    },
    async close() {
      calls.cancelAll();
      await state.end();
    },
  };
}
