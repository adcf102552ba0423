"""Benchmarks of the GPU hosts. `python -m bench.gpu --help` from the repository's root; docs/operate/gpu.md explains every figure."""
