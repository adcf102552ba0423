"""Makes the demo model from nothing: python tools/demo-model/make.py --work DIR

Trains the UNet, the LoRAs and the classifier, checks what they draw and writes `sidecar/demo/`. Files in DIR from an earlier,
interrupted run are kept and not made again. Needs the packages of test/python/requirements.txt; no network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STAGES = [
    ("train_unet.py", "unet.pt"),
    ("train_lora.py", "small.safetensors"),
    ("train_classifier.py", "classifier.safetensors"),
    ("assemble.py", None),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate files and PNG grids")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for script, product in STAGES:
        if product and (options.work / product).exists():
            print(f"{script}: {product} is there")
            continue
        print(script, flush=True)
        subprocess.run([sys.executable, HERE / script, "--work", options.work], check=True)


if __name__ == "__main__":
    main()
