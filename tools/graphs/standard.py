"""Exports the shipped bundles again, from the structures that their own graph.json lists: python tools/graphs/standard.py [NAME ...]"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sidecar/hosts/python"))
from refit_graphs.bundle import export_bundle  # noqa: E402

GRAPHS = ROOT / "sidecar/graphs"


def main(names: list[str]) -> None:
    for name in names or sorted(folder.name for folder in GRAPHS.iterdir()):
        rows = json.loads((GRAPHS / name / "graph.json").read_text(encoding="utf-8"))["refitMap"]
        shapes = {row["parameter"]: tuple(row["shape"]) for row in rows}
        export_bundle(shapes, name, GRAPHS / name, lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
