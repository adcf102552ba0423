"""A WebSocket server in a thread that plays a script, to show the client what a broken, old or hostile sidecar would."""

import json
import logging
import threading

from websockets.sync.server import serve

#: The server would log the token's header; the tests look for it in what the client logs.
_SILENT = logging.Logger("stub", logging.CRITICAL + 1)

HELLO = {
    "protocolVersion": 1, "server": {"name": "stub", "version": "0"}, "session": "s1", "role": "control", "capabilities": [],
    "limits": {"messageBytes": 1 << 28, "inFlight": 64, "conditioningBytes": 1 << 28, "pushBytes": 1 << 30}, "segments": None,
}  # fmt: skip


class StubSession:
    def __init__(self, connection):
        self.connection = connection
        self.headers = dict(connection.request.headers.raw_items())

    def receive(self):
        """The next call as a dict; binary frames as bytes."""
        message = self.connection.recv()
        return json.loads(message) if isinstance(message, str) else message

    def send(self, message):
        self.connection.send(json.dumps(message) if isinstance(message, dict) else message)

    def answer(self, call, result):
        self.send({"jsonrpc": "2.0", "id": call["id"], "result": result})

    def greet(self, **changes):
        call = self.receive()
        assert call["method"] == "hello"
        self.answer(call, {**HELLO, **changes})
        return call


class StubSidecar:
    def __init__(self, script, **options):
        def handler(connection):
            try:
                script(StubSession(connection))
            except Exception as error:  # The client hung up: the test judges what the client made of it.
                self.ended = error

        self.ended = None
        self.server = serve(handler, "127.0.0.1", 0, compression=None, max_size=None, logger=_SILENT, **options)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}/ws"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join(5)
