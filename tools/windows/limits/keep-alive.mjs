// A socket takes a keep-alive time before it is connected; every fetch() of Node sets one. Wine 8 refuses, so that no fetch() works. Prints "connect UNKNOWN" there.
import { connect, createServer } from "node:net";
const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1", () => {
  const socket = connect(server.address().port, "127.0.0.1").setKeepAlive(true, 60_000);
  socket.on("connect", () => console.log("connected")).on("error", ({ code, syscall }) => console.log(syscall, code));
  socket.on("close", () => server.close());
});
