// Loaded into Windows' Node under Wine before anything else. Wine 8 refuses a keep-alive time before a socket is connected (limits/keep-alive.mjs), and every fetch() sets one: here it is set afterwards.
import { Socket } from "node:net";

const set = Socket.prototype.setKeepAlive;
Socket.prototype.setKeepAlive = function (...given) {
  return this.connecting ? this.once("connect", () => set.apply(this, given)) : set.apply(this, given);
};
