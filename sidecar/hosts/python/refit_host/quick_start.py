"""What the host's process does before anything else is imported, so that it starts quickly and answers quickly."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Callable, Iterator

# diffusers imports these when they are installed (beside a UI's packages they are). No engine uses them, and they take half of the start.
UNUSED = ("peft", "transformers", "accelerate", "scipy", "sklearn", "torchvision", "torchao", "bitsandbytes", "xformers", "flash_attn", "flash_attn_3", "flash_attn_interface",
          "flashinfer", "kernels", "sageattention")  # fmt: skip
COMPILER = "torch._dynamo"
# Seconds. A compiler in the background would else keep a step or a refit waiting for 5 ms at every change of threads. 700 tensor operations of 30 us beside a busy
# thread: 766 ms at Python's 5 ms, 230 at 0.5, 110 at 0.05 (below that, changing takes longer than it gives).
SWITCH_INTERVAL = 0.00005
# 0 is usual, 19 the lowest.
LOW_PRIORITY = 10
# Linux: F_SETPIPE_SZ. A step's tensors fit, so that a writer does not wait for the reader after every 64 KiB.
SET_PIPE_SIZE, PIPE_BYTES = 1031, 1 << 20


def hide_unused() -> None:
    """`import` and `find_spec` of these find nothing in this process."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


# Classes that diffusers wants the compiler to take as they are; told to it before it compiles.
_taken_whole: list[Any] = []


class _Later(ModuleType):
    """Stands for PyTorch's compiler while diffusers is imported, which asks for two marks. Anything else brings the compiler itself."""

    def allow_in_graph(self, found: Any) -> Any:
        _taken_whole.append(found)
        return found

    def disable(self, found: Callable | None = None, *_: Any, **__: Any) -> Any:
        # Of hooks (block caches, group offloading), which no engine uses.
        return found if found is not None else lambda method: method

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)


@contextmanager
def compiler_later() -> Iterator[None]:
    """For the import of diffusers: without PyTorch's compiler (600 modules, half of that import; a step without compiled blocks never needs it), and without the list of
    every file of every installed package. Nothing else of this process may run code of PyTorch that needs its compiler meanwhile: no engine is there yet."""
    from importlib import metadata

    if COMPILER in sys.modules:
        yield
        return
    later = sys.modules[COMPILER] = _Later(COMPILER)
    listed, metadata.packages_distributions = metadata.packages_distributions, dict
    try:
        yield
    finally:
        metadata.packages_distributions = listed
        if sys.modules.get(COMPILER) is later:
            del sys.modules[COMPILER]


def tell_compiler() -> None:
    """Before the first compilation: the marks that `compiler_later` kept."""
    compiler = importlib.import_module(COMPILER)
    while _taken_whole:
        compiler.allow_in_graph(_taken_whole.pop())


def begin_imports() -> None:
    """No search for garbage while libraries make a quarter of a million objects that stay for good."""
    gc.disable()


def end_imports() -> None:
    """Before any engine exists. What was imported is not searched for garbage ever again: that would stop a step for 0.15 s at a time."""
    gc.freeze()
    gc.enable()


@contextmanager
def last_import() -> Iterator[None]:
    """diffusers, after everything else."""
    try:
        with compiler_later():
            yield
    finally:
        end_imports()


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


def yield_processor() -> None:
    """The calling thread, and processes that it starts, stand back behind everything else that wants the processor (Linux: a thread has a priority of its own)."""
    if sys.platform != "linux":
        return
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
    except OSError:
        pass  # a sandbox that forbids it: it works as before
