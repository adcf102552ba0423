// What waits to be sent to one client, bounded. Replies always go out; events are left out when the client lags; a client that does not read is dropped.

import { notification, type WireNotification, type WireNotificationParams } from "@refit-sidecar/protocol";
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
}

export function createOutbox(socket: OutSocket, limits: OutboxLimits, dropSlowReader: () => void): Outbox {
  let missed = 0;
  let dropped = false;

  function send(data: string | Uint8Array): void {
    if (dropped) return;
    // Judged before the message is added, so that one reply of any size can be sent to a client that had read everything.
    if (socket.bufferedAmount > limits.hardBytes) {
      dropped = true;
      dropSlowReader();
      return;
    }
    socket.send(data, (error) => {
      if (error === undefined || error === null) tellMissed();
    });
  }

  function tellMissed(): void {
    if (missed === 0 || dropped || socket.bufferedAmount > limits.softBytes) return;
    const params = { missed };
    missed = 0;
    notify("events.missed", params);
  }

  function notify<N extends WireNotification>(method: N, params: WireNotificationParams<N>): void {
    send(wireJson(notification(method, params)));
  }

  return {
    send,
    notify,
    event(params) {
      if (socket.bufferedAmount > limits.softBytes) missed += 1;
      else notify("event", params);
    },
  };
}
