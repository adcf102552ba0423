"""Another program on the card, as a UI with a model of its own: takes device memory until so many bytes are free, gives it back when told.

`python -m bench.gpu.occupant cuda` reads one line per command from stdin, `fill BYTES` or `free`, and answers each with one line: the device's free bytes.
`Occupant` is that process as its starter sees it. Without a GPU there is no card to fill: then a file says how much is free, and `held_host.py` believes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Of a card that nobody holds; only without a GPU.
PRETENDED_BYTES = 1 << 40
PRETENCE = "BENCH_FREE_BYTES_FILE"


class Occupant:
    """`module`: the host to start beside it."""

    def __init__(self, device: str, folder: Path) -> None:
        self._file = folder / "free-bytes"
        self._child: subprocess.Popen | None = None
        self.module = "refit_host"
        if device == "cuda":
            self._child = subprocess.Popen(
                [sys.executable, "-m", "bench.gpu.occupant", device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self._ask("free")
        else:
            self.module = "bench.gpu.held_host"
            os.environ[PRETENCE] = str(self._file)
            self._file.write_text(str(PRETENDED_BYTES))

    def fill(self, leave: int) -> int:
        """Takes what is free but `leave` bytes; returns the bytes that are free then."""
        if self._child is not None:
            return self._ask(f"fill {leave}")
        self._file.write_text(str(leave))
        return leave

    def free(self) -> int:
        if self._child is not None:
            return self._ask("free")
        self._file.write_text(str(PRETENDED_BYTES))
        return PRETENDED_BYTES

    def _ask(self, command: str) -> int:
        assert self._child is not None and self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(f"{command}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise RuntimeError(f"the program that fills the card ended at `{command}` with {self._child.wait(10)}")
        return int(answer)

    def close(self) -> None:
        if self._child is not None:
            self._child.communicate()


def _serve(device: str) -> None:
    import torch

    held = None
    for line in sys.stdin:
        command, *amount = line.split()
        held = None
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        if command == "fill" and free > int(amount[0]):
            held = torch.empty(free - int(amount[0]), dtype=torch.uint8, device=device)
        print(torch.cuda.mem_get_info(device)[0], flush=True)
    del held


if __name__ == "__main__":
    _serve(sys.argv[1])
