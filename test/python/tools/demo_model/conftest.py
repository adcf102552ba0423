"""Puts the exporter's package on the path, for its parameter names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "sidecar/hosts/python"))
