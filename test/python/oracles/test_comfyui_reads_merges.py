"""ComfyUI's own quantised layers load what `merge` writes: every key is taken, and the weight is the one that the file's codes and scales stand for.

COMFYUI_DIR (0.33 or newer) and COMFYUI_PYTHON name a real ComfyUI; without them the test says so and ends.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from oracle_comfyui import needs_comfyui, run_by_comfyui

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "test/golden2"

READER = """
import json, sys
sys.argv, (tree, jobs) = ["comfyui", "--cpu"], sys.argv[1:]
sys.path.insert(0, tree)
import comfy.options
comfy.options.enable_args_parsing()
import torch, comfy.ops, comfy.utils
from safetensors import safe_open
from safetensors.torch import load_file
ops = comfy.ops.mixed_precision_ops({}, torch.float32)
layers, worst, bad = 0, 0.0, []
for job in json.load(open(jobs)):
    tensors, plain = load_file(job["keep"]), load_file(job["f32"])
    metadata = safe_open(job["keep"], "pt").metadata() or {}
    tensors, _ = comfy.utils.convert_old_quants(tensors, model_prefix=job["prefix"], metadata=metadata)
    for key in job["layers"]:
        stem, wanted = key[: -len("weight")], plain[key]
        part = {name[len(stem):]: value for name, value in tensors.items() if name.startswith(stem)}
        layer = ops.Linear(wanted.shape[1], wanted.shape[0], bias="bias" in part)
        missing, unexpected = [], []
        layer._load_from_state_dict(dict(part), "", {}, False, missing, unexpected, [])
        got = layer.weight.dequantize() if hasattr(layer.weight, "dequantize") else layer.weight
        layers, worst = layers + 1, max(worst, float((got - wanted).abs().max() / wanted.abs().max()))
        if missing or unexpected:
            bad.append([job["keep"], key, missing, unexpected])
print(json.dumps({"layers": layers, "worst": worst, "bad": bad}))
"""


def merge(folder: Path, name: str, rows: list[dict]) -> None:
    """One process for all jobs."""
    jobs = folder / f"{name}.jsonl"
    jobs.write_text("\n".join(map(json.dumps, rows)))
    run = subprocess.run(
        ["node", str(ROOT / "sidecar/bin/refit-sidecar.mjs"), "merge", "--jobs", str(jobs), "--json"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-2000:]


@needs_comfyui
def test_comfyui_loads_every_layout_that_merge_writes(tmp_path: Path) -> None:
    cases = [
        case
        for case in json.loads((GOLDEN / "quantised.json").read_text())["cases"]
        if case["kind"] == "quantised-lora" and case["name"].endswith("_lora")
    ]
    keep, plain, jobs = [], [], []
    for case in cases:
        out, adapters = str(tmp_path / f"{case['name']}.safetensors"), case["adapters"]
        keep.append(
            {
                "base": str(GOLDEN / case["base"]),
                "adapter": [f"{GOLDEN / one['file']}:{one['strength']}" for one in adapters],
                "family": case["family"],
                "out": out,
            }
        )
        # What the written file stands for, by our own reader.
        wide = f"{out}.f32.safetensors"
        plain.append({"base": out, "adapter": [f"{GOLDEN / adapters[0]['file']}:0"], "family": case["family"], "dtype": "f32", "out": wide})
        prefix = "model.diffusion_model." if case["family"] == "sdxl" else ""
        jobs.append({"keep": out, "f32": wide, "prefix": prefix, "layers": list(case["quantisation"]["layers"])})
    merge(tmp_path, "keep", keep)
    merge(tmp_path, "plain", plain)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "reader.py").write_text(READER)
    answer = json.loads(run_by_comfyui(tmp_path / "reader.py", str(tmp_path / "jobs.json"))[-1])
    assert answer["bad"] == []
    assert answer["layers"] >= len(cases)
    assert answer["worst"] <= 1e-6
