"""Prints what an installer has to know of a Python as one JSON line: its version, pip, venv, and the packages that it sees. Imports none of them."""

import importlib.util
import json
import sys
from importlib import metadata


def main() -> None:
    packages = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        # The first one on the path is the one that is imported.
        if name:
            packages.setdefault(name.lower().replace("_", "-").replace(".", "-"), distribution.version)
    print(json.dumps({
        "executable": sys.executable,
        "version": list(sys.version_info[:3]),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "venv": importlib.util.find_spec("venv") is not None and importlib.util.find_spec("ensurepip") is not None,
        "pip": packages.get("pip"),
        "packages": packages,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
