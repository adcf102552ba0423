"""Run by a ComfyUI's Python: what its loader makes of adapters. argv: the ComfyUI's folder.

In: a job {"adapter", "map": [[name, parameter, [start, length] or null, swap]]} a line. Out: a list of [parameter, [start, length] or null, swap] a line.
"""

import json
import sys

tree = sys.argv[1]
sys.argv = ["comfyui", "--cpu"]
sys.path.insert(0, tree)
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.lora  # noqa: E402
import comfy.lora_convert  # noqa: E402
import comfy.utils  # noqa: E402


def exchanged(weight):
    return weight


def key(parameter: str, rows: list | None, swap: bool) -> object:
    if rows is None and not swap:
        return parameter
    return (parameter, None if rows is None else (0, *rows), exchanged) if swap else (parameter, (0, *rows))


for line in sys.stdin:
    job = json.loads(line)
    tensors = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(job["adapter"], safe_load=True))
    loaded = comfy.lora.load_lora(tensors, {name: key(*target) for name, *target in job["map"]}, log_missing=False)
    out = []
    for name in loaded:
        parameter, rows, function = (name, None, None) if isinstance(name, str) else (*name, None)[:3]
        out.append([str(parameter), None if rows is None else list(rows[1:]), function is not None])
    print(json.dumps(out), flush=True)
