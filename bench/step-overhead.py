"""The same graph with fixed weights, for bench/step-overhead.mjs.

    python step-overhead.py --graph sidecar/graphs/sd15 --out DIR

Writes DIR/fixed.onnx (every weight an initialiser, external data) and DIR/weights.bin: random f32 values, in the order of the refit map. Both sides of the
bench read that one file, so they compute the same step.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    table = json.loads((arguments.graph / "graph.json").read_text())
    model = onnx.load(arguments.graph / table["variants"]["fp32"])
    random = np.random.default_rng(3)
    weights = {row["weight"]: row["shape"] for row in table["refitMap"]}
    kept = [item for item in model.graph.input if item.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    offset = 0
    with (arguments.out / "weights.bin").open("wb") as file:
        for name, shape in weights.items():
            scale = 0.05 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
            data = (random.standard_normal(shape, dtype=np.float32) * scale).tobytes()
            file.write(data)
            tensor = model.graph.initializer.add(
                name=name, data_type=onnx.TensorProto.FLOAT, dims=shape, data_location=onnx.TensorProto.EXTERNAL
            )
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", len(data))):
                tensor.external_data.add(key=key, value=str(value))
            offset += len(data)
    (arguments.out / "fixed.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
