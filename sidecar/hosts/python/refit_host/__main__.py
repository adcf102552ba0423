"""`python -m refit_host --kind torch|tensorrt`: one engine host on stdin and stdout."""

from __future__ import annotations

import logging
import os
import sys
from typing import BinaryIO

from .host.options import parse_options
from .log import ToSidecar
from .quick_start import answer_quickly, begin_imports, end_imports, hide_unused, last_import
from .wire.server import Server


def _claim_stdout() -> BinaryIO:
    """The pipe belongs to frames alone: whatever a library prints goes to stderr, the log."""
    frames = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return frames


def main() -> int:
    answer_quickly()
    hide_unused()
    begin_imports()
    output = _claim_stdout()
    options = parse_options()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Nothing here downloads; this keeps the libraries from trying.
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from .allocator import WrongAllocator, check_allocator
    from .host.host import Host, device_of, translate

    torch.set_grad_enabled(False)
    try:
        check_allocator(device_of(options.device))
    except WrongAllocator as error:
        logging.getLogger("refit_host").error("%s", error)
        return 1
    if options.kind == "torch":
        from .torch_engine.maker import TorchMaker

        maker = TorchMaker(device_of(options.device), last_import())
    else:
        from refit_tensorrt.maker import TensorRTMaker

        maker = TensorRTMaker(options)
        end_imports()
    host = Host(options, maker)
    server = Server(host.methods(), output, translate)
    host.notify = server.notify
    logging.getLogger("refit_host").addHandler(ToSidecar(server.notify))
    status = server.serve(sys.stdin.buffer)
    # A step in flight has nobody left to answer, and a compiler thread must not keep the process alive.
    os._exit(status)


if __name__ == "__main__":
    main()
