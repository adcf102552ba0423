"""A picture server: POST {"prompt": "...", "loras": {"a": 0.8}, "seed": 1}. One engine, any stack of LoRAs for each request, one request at a time."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Sequence

import torch

from refit_sidecar import RefitModule

from . import start, tiny


def serve(given: Sequence[str] | None = None) -> ThreadingHTTPServer:
    """Ready to `serve_forever`, on loopback."""
    args = start.arguments(__doc__, given)
    pipe = start.pipeline(args, tiny.sdxl)
    known = (
        {name: tiny.lora(pipe.unet, seed) for name, seed in (("a", 1), ("b", 2))}
        if args.tiny
        else {Path(file).stem: file for file in args.loras}
    )
    pipe.unet = RefitModule(pipe.unet)
    for name, lora in known.items():
        pipe.unet.load_lora_adapter(lora, prefix=None, adapter_name=name) if args.tiny else pipe.load_lora_weights(lora, adapter_name=name)
    turn = threading.Lock()

    class Pictures(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                wish = json.loads(self.rfile.read(min(int(self.headers.get("content-length", 0)), 1 << 16)))
                with turn, pipe.unet.adapters(**{name: float(strength) for name, strength in wish.get("loras", {}).items()}):
                    args.prompt, args.seed = str(wish.get("prompt", "")), int(wish.get("seed", 0))
                    picture = pipe(**start.call(pipe, args)).images[0]
                    by, ms = pipe.unet.served_by, pipe.unet.last_refit.ms
                self._answer(200, _bytes(picture), {"x-served-by": by, "x-refit-ms": f"{ms:.1f}"})
            except (KeyError, TypeError, ValueError) as error:
                self._answer(400, json.dumps({"error": str(error)}).encode(), {})

        def _answer(self, code: int, body: bytes, more: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {"content-length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  takes anything
            pass

    return ThreadingHTTPServer(("127.0.0.1", args.port), Pictures)


def _bytes(picture) -> bytes:
    if isinstance(picture, torch.Tensor):
        return picture.float().numpy().tobytes()
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    server = serve()
    print(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()
