"""`python host.py --kind tensorrt …`: the real host process on the simulated library and device. Tests start it; nothing else does."""

from __future__ import annotations

import device  # before anything allocates

if __name__ == "__main__":
    device.install()
    from refit_host.__main__ import main

    main()
