"""`guarded.py MODULE ARGUMENTS…`: runs a module (venv, ensurepip, pip) that ends when its standard input closes, with whatever it started.

The installer holds the other end: however it dies, no pip goes on writing into a folder that the next installation takes over.
"""

import os
import runpy
import signal
import sys
import threading
from pathlib import Path


def _end_with_parent() -> None:
    # Not sys.stdin: its lock, held while it waits, is taken at the end of the interpreter too.
    while os.read(0, 4096):
        pass
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(130)


if __name__ == "__main__":
    if hasattr(os, "setsid"):
        # A group of its own, so that ending it ends what it started and nothing else.
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    # This folder must not shadow a module of the same name.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [folder for folder in sys.path if folder != here]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
