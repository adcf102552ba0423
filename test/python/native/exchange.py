"""Reads one file of ours and prints it; writes one of its own. stdin: JSON [ours, theirs]."""

import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

ours, theirs = json.load(sys.stdin)
with safe_open(ours, framework="pt") as file:
    print(json.dumps({"metadata": file.metadata(), "tensors": {name: file.get_tensor(name).float().tolist() for name in file.keys()}}))
save_file({"a": torch.tensor([1.5, -2.0]), "b": torch.zeros(2, 1).to(torch.float8_e4m3fn)}, theirs, metadata={"format": "pt"})
