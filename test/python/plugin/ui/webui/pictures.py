"""Makes pictures over a UI's API and keeps their latents."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from pathlib import Path

import pytest
import torch
from ui_server import UiServer

TITLE = "Refit Sidecar"


def rms(tensor: torch.Tensor) -> float:
    return tensor.double().pow(2).mean().sqrt().item()


class Pictures:
    """Each call gives the latents of the last sampling (the pixels after a hires pass); all of them lie in `folder` as 1.pt, 2.pt, ..."""

    def __init__(self, server: UiServer, out: Path) -> None:
        self.server, self._out, self._count = server, out, itertools.count()
        self.folder, self.reply = out, {}

    @property
    def a1111(self) -> bool:
        return self.server.ui.name.startswith("A1111")

    def hires(self) -> dict[str, object]:
        """What the API needs for a second pass, beside the settings of one."""
        if self.server.ui.hires is None:
            pytest.skip(f"{self.server.ui.name} without its page has no upscaler for a second pass")
        return self.server.ui.hires

    def order(self, **orders: object) -> None:
        """What the probe does during the next picture."""
        self.folder = self._out / str(next(self._count))
        self.folder.mkdir()
        self.server.call("/refit-test/orders", {"folder": str(self.folder), **orders})

    def __call__(self, prompt: str, on: bool = True, orders: dict | None = None, **changes: object) -> torch.Tensor:
        self.order(**(orders or {}))
        self.reply = self.server.call(f"/sdapi/v1/{'img2img' if 'init_images' in changes else 'txt2img'}", payload(prompt, on, **changes))
        return self.latents()[-1]

    def latents(self) -> list[torch.Tensor]:
        return [torch.load(self.folder / f"{number}.pt") for number in range(1, len(list(self.folder.iterdir())) + 1)]

    def both(self, prompt: str, **changes: object) -> tuple[torch.Tensor, torch.Tensor]:
        """The UI's own path and the engine's, which must have served."""
        own = self(prompt, on=False, **changes)
        served = self(prompt, **changes)
        assert self.last_run["served_by"] == "engine", self.last_run
        return own, served

    @property
    def seen(self) -> dict:
        return self.server.call("/refit-test/seen")

    @property
    def facts(self) -> dict:
        return self.server.call("/refit-sidecar/facts")

    @property
    def last_run(self) -> dict:
        return self.facts["lastRun"]

    @property
    def view(self) -> dict:
        return self.facts["view"]

    def engines(self) -> list[dict]:
        return self.server.call("/refit-sidecar/read/engine.list")["engines"]

    def refits(self) -> int:
        """Refits that were committed so far."""
        history = self.server.call("/refit-sidecar/read/events.history?params=%7B%22topics%22%3A%5B%22refit%22%5D%7D")["events"]
        return sum(entry["event"]["type"] == "refit.committed" for entry in history)


def payload(prompt: str, on: bool = True, scripts: dict[str, list] | None = None, **changes: object) -> dict:
    """Four Euler steps of a small picture. `scripts`: arguments of the UI's other always-visible scripts by title."""
    return {
        "prompt": prompt, "steps": 4, "width": 64, "height": 64, "seed": 5, "cfg_scale": 5, "sampler_name": "Euler", "save_images": False,
        "alwayson_scripts": {title: {"args": args} for title, args in {TITLE: [on, "auto"], **(scripts or {})}.items()}, **changes,
    }  # fmt: skip


def noise_png(size: int) -> str:
    """A grey picture that is not flat, as the API takes it."""
    rows = b"".join(b"\0" + bytes((x * 37 + y * 91) % 256 for x in range(size) for _ in range(3)) for y in range(size))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return base64.b64encode(png).decode()
