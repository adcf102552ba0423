"""Benchmarks of the GPU hosts. `python -m bench.gpu --help` from the repository's root; docs/evidence/benchmark.md shows the figures."""
