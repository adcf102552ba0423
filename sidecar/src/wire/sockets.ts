// A ws socket as a session sees it: bounded sending, pausing, and dropping with a reason.

import type { WebSocket } from "ws";
import type { SessionSocket, WireMetrics } from "./session/index.ts";
import { times } from "./limits.ts";

export function sessionSocket(socket: WebSocket, metrics: WireMetrics): SessionSocket {
  return {
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
    send(data, done) {
      if (socket.readyState !== socket.OPEN) return;
      metrics.bytesOut.add(data.length);
      socket.send(data, { binary: typeof data !== "string", compress: false }, done);
    },
    pause: () => socket.pause(),
    resume: () => {
      if (socket.isPaused) socket.resume();
    },
    drop(code, reason) {
      if (socket.readyState !== socket.OPEN) return;
      socket.close(code, reason);
      // A client that does not read will never see the close frame: its socket must not stay.
      setTimeout(() => socket.terminate(), times.closeGraceMs).unref();
    },
  };
}
