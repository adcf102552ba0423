// A client of a sidecar that counts every answer: to which call it came, and how often.
import { WebSocket } from "ws";
import { decodeFrame, encodeFrame, protocolVersion } from "../../protocol/dist/index.js";
import { readDiscovery } from "../../sidecar/dist/src/client/index.js";

export async function session(dataDir) {
  const { wsUrl, token, version } = await readDiscovery(dataDir);
  const socket = new WebSocket(wsUrl, { perMessageDeflate: false, headers: { authorization: `Bearer ${token}` } });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const waiting = new Map();
  const answered = new Map();
  let last = 0;
  socket.on("message", (data, isBinary) => {
    const { message, tensors } = isBinary ? decodeFrame(data) : { message: JSON.parse(data.toString()), tensors: [] };
    if (message.method !== undefined) return;
    answered.set(message.id, (answered.get(message.id) ?? 0) + 1);
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error === undefined) call?.resolve({ result: message.result, tensors });
    else call?.reject(Object.assign(new Error(message.error.message), { code: message.error.data?.code }));
  });
  const call = (method, params, tensors = []) => {
    last += 1;
    const id = last;
    const message = { jsonrpc: "2.0", id, method, params };
    socket.send(tensors.length > 0 ? encodeFrame(message, tensors) : JSON.stringify(message));
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  };
  await call("hello", { protocolVersions: [protocolVersion], client: { name: "bench", version }, capabilities: [] });
  return {
    call,
    counts: () => ({
      asked: last,
      unanswered: last - answered.size,
      duplicated: [...answered.values()].filter((count) => count > 1).length + [...answered.keys()].filter((id) => !(id <= last)).length,
    }),
    close: () => new Promise((resolve) => (socket.once("close", resolve), socket.close())),
  };
}
