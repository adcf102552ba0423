"""What finding a LoRA's file costs before the first step: a stack of a loader's tensors against a folder's files, by hashes and by places in the file.

`python bench/plugin-lora.py [--ranks 16 128]` (torch, safetensors). 722 matrices as SDXL's UNet has: rank 16 is about 85 MB, rank 128 681 MB. Files lie in memory.
Nothing of a UI is imported.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import safe_open
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugin")]

from refit_sidecar_plugin.files import Identities  # noqa: E402
from refit_sidecar_plugin.stack import Candidate, FileItem, Patch, Target, identify  # noqa: E402
from refit_sidecar_plugin.ui.denoising.origins import Origins, follow_loads  # noqa: E402
from refit_sidecar_plugin.ui.denoising.tensors import Digests  # noqa: E402

# Rows and columns of SDXL's matrices, and how many there are of each.
MATRICES = ((1280, 1280, 430), (1280, 2048, 120), (10240, 1280, 60), (1280, 5120, 60), (640, 640, 52))


def load(path: str) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def write(path: Path, rank: int, seed: int) -> None:
    make, tensors = torch.Generator().manual_seed(seed), {}
    for rows, columns, count in MATRICES:
        for index in range(count):
            tensors[f"{rows}.{columns}.{index}.up"] = torch.randn(rows, rank, generator=make).half()
            tensors[f"{rows}.{columns}.{index}.down"] = torch.randn(rank, columns, generator=make).half()
    save_file(tensors, path)


def patches(tensors: dict[str, torch.Tensor], digests: Digests, strength: float) -> list[Patch]:
    stems = sorted({key.rsplit(".", 1)[0] for key in tensors})
    return [
        Patch(
            Target(stem),
            "lora",
            (
                ("lora_up.weight", digests.ref(tensors[f"{stem}.up"])),
                ("lora_down.weight", digests.ref(tensors[f"{stem}.down"])),
                ("alpha", 8.0),
            ),
            strength,
        )
        for stem in stems
    ]


def measure(folder: Path, rank: int, notes: bool) -> dict[str, float]:
    """Seconds until the stack is known: a file for the first time, another one, the first again, another strength."""
    paths = [str(folder / f"{name}-{rank}.safetensors") for name in "ab"]
    module, digests, identities = SimpleNamespace(load=load), Digests(Origins()), Identities()
    if notes:
        follow_loads(module, "load", digests.origins, lambda _: True)
    known: dict[str, tuple[str | None, tuple[Patch, ...]]] = {}

    def candidate(path: str) -> Candidate:
        def made() -> tuple[Patch, ...]:
            return known[path][1] if path in known else tuple(patches(module.load(path), digests, 1.0))

        def sha256() -> str | None:
            if path not in known:
                known[path] = (identities.sha256(path), tuple(patch.frozen() for patch in made()))
            return known[path][0]

        return Candidate(path, made, sha256)

    out = {}
    held = {}
    with torch.inference_mode():
        for what, path, strength in (
            ("first use", paths[0], 1.0),
            ("another file, first", paths[1], 1.0),
            ("known, loaded again", paths[0], 1.0),
            ("strength", paths[0], 0.5),
        ):
            if what != "strength":
                held[path] = module.load(path)
            began = time.perf_counter()
            digests.origins.begin()
            live = {patch.target.parameter: [patch] for patch in patches(held[path], digests, strength)}
            items = identify(live, [candidate(name) for name in (path, *paths)])
            out[what] = round((time.perf_counter() - began) * 1000, 1)
            assert len(items) == 1 and isinstance(items[0], FileItem) and items[0].name == path
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 128])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rank in args.ranks:
            for seed, letter in enumerate("ab"):
                write(folder / f"{letter}-{rank}.safetensors", rank, seed)
            size = (folder / f"a-{rank}.safetensors").stat().st_size
            for way, notes in (("hashing", False), ("places", True)):
                print(json.dumps({"rank": rank, "bytes": size, "way": way, "ms": measure(folder, rank, notes)}), flush=True)
            for letter in "ab":
                (folder / f"{letter}-{rank}.safetensors").unlink()


if __name__ == "__main__":
    main()
