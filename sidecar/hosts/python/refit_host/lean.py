"""What the host's process does before anything else is imported, so that it starts quickly and answers quickly."""

from __future__ import annotations

import sys

# diffusers imports these when they are installed (beside a UI's packages they are). No engine uses them, and they take half of the start.
UNUSED = ("peft", "transformers", "accelerate", "scipy", "sklearn", "torchvision", "bitsandbytes", "xformers", "flash_attn", "flash_attn_3", "sageattention")
# Seconds. A compiler in the background would else keep a step or a refit waiting for 5 ms at every change of threads.
SWITCH_INTERVAL = 0.0005
# Linux: F_SETPIPE_SZ. A step's tensors fit, so that a writer does not wait for the reader after every 64 KiB.
SET_PIPE_SIZE, PIPE_BYTES = 1031, 1 << 20


def hide_unused() -> None:
    """`import` and `find_spec` of these find nothing in this process."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def answer_quickly() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL)
    if sys.platform != "linux":
        return
    import fcntl

    for pipe in (0, 1):
        try:
            fcntl.fcntl(pipe, SET_PIPE_SIZE, PIPE_BYTES)
        except OSError:
            pass  # a socket, or a pipe that may not grow: it works as it is
