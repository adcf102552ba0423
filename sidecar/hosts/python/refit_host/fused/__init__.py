"""Blocks that a family repeats, as large products with one pass over memory between them. No compiler but Triton's: they serve from the first step.

`operations.py` says what each pass computes (plain PyTorch, any device), `kernels.py` does the same in one launch each. A block takes its operations
as an object, so tests compare the two and run the blocks without a GPU.
"""
