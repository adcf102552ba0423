"""Checked files. In: descriptions from the sidecar (checkpoint sources, delta paths). Out: bytes of tensors. Never: pickle, mmap."""
