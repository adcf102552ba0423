"""Exports weightless graphs; the same command as `python -m refit_graphs`, callable from a checkout without setting a path.

python tools/graphs/export.py --header CHECKPOINT.safetensors --out DIR [--name NAME]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sidecar/hosts/python"))
from refit_graphs.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
