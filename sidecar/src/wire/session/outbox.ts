// What waits to be sent to one client, bounded. Replies always go out; events and previews are left out when the client lags; a client that does not read is dropped.

import { notification, type RequestId, type WireNotification, type WireNotificationParams } from "@refit-sidecar/protocol";
import { wireJson } from "../failures.ts";

/** The part of a WebSocket that the outbox needs. */
export interface OutSocket {
  readonly bufferedAmount: number;
  readonly send: (data: string | Uint8Array, done: (error?: Error) => void) => void;
}

export interface OutboxLimits {
  readonly softBytes: number;
  readonly hardBytes: number;
}

export interface Outbox {
  readonly send: (data: string | Uint8Array) => void;
  readonly notify: <N extends WireNotification>(method: N, params: WireNotificationParams<N>) => void;
  /** May be left out; the client is then told how many it missed. */
  readonly event: (params: WireNotificationParams<"event">) => void;
  /** One message at a time is on its way to the client; of those that wait, a call has only its newest. `make` is called when it goes. */
  readonly newest: (call: RequestId, make: () => string | Uint8Array) => void;
  /** The call is about to be answered: what waits for it is left out. */
  readonly forget: (call: RequestId) => void;
}

export function createOutbox(socket: OutSocket, limits: OutboxLimits, dropSlowReader: () => void): Outbox {
  let missed = 0;
  let dropped = false;
  const newest = new Map<RequestId, () => string | Uint8Array>();
  let isUnderWay = false;

  function send(data: string | Uint8Array, sent: () => void = () => undefined): void {
    if (dropped) return;
    // Judged before the message is added, so that one reply of any size can be sent to a client that had read everything.
    if (socket.bufferedAmount > limits.hardBytes) {
      dropped = true;
      dropSlowReader();
      return;
    }
    socket.send(data, (error) => {
      sent();
      if (error !== undefined && error !== null) return;
      tellMissed();
      sendNewest();
    });
  }

  function tellMissed(): void {
    if (missed === 0 || dropped || socket.bufferedAmount > limits.softBytes) return;
    const params = { missed };
    missed = 0;
    notify("events.missed", params);
  }

  function sendNewest(): void {
    const [next] = newest;
    if (next === undefined || isUnderWay || dropped || socket.bufferedAmount > limits.softBytes) return;
    const [call, make] = next;
    newest.delete(call);
    isUnderWay = true;
    send(make(), () => (isUnderWay = false));
  }

  function notify<N extends WireNotification>(method: N, params: WireNotificationParams<N>): void {
    send(wireJson(notification(method, params)));
  }

  return {
    send: (data) => send(data),
    notify,
    newest(call, make) {
      newest.set(call, make);
      sendNewest();
    },
    forget: (call) => void newest.delete(call),
    event(params) {
      if (socket.bufferedAmount > limits.softBytes) missed += 1;
      else notify("event", params);
    },
  };
}
