"""`python -m refit_ray`: a gateway on stdin and stdout."""

from __future__ import annotations

import asyncio
import logging
import os
import sys


def main() -> int:
    # The pipe belongs to the protocol alone: whatever a library prints goes to stderr, the log.
    output = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    from .cluster import ENV

    for name, value in ENV.items():
        os.environ.setdefault(name, value)
    from .gateway import serve

    async def whole() -> None:
        await serve(0, output)
        # Threads of Ray, and calls that wait for a head that is gone, must not keep the process alive.
        os._exit(0)

    asyncio.run(whole())
    return 1


if __name__ == "__main__":
    main()
