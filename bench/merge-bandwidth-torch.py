"""The merge of bench/merge-bandwidth.mjs with torch on the CPU: f16 base widened, addmm with the factors, into a resident f32 weight. stdin: JSON."""

import json
import statistics
import sys
import time

import torch

job = json.load(sys.stdin)
rank = job["rank"]
layers = [
    (torch.ones(rows, cols, dtype=torch.float16), torch.full((rows, rank), 0.01), torch.full((rank, cols), 0.02), torch.ones(rows, cols))
    for rows, cols in job["shapes"]
]


def merge():
    for base, up, down, out in layers:
        out.copy_(base)
        out.addmm_(up, down, alpha=0.8)


merge()
times = []
for _ in range(job["runs"]):
    start = time.perf_counter()
    merge()
    times.append(time.perf_counter() - start)
print(json.dumps({"seconds": statistics.median(times), "threads": torch.get_num_threads(), "version": torch.__version__}))
