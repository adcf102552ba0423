"""Finds out which adapter files a model's patches came from. In: patches as the UI holds them, candidate files. Out: the ordered stack.

A file is named only when every tensor that it would patch is there, equal by hash, shape and dtype, at one strength; whatever is left
is described by content. It never guesses by name, and never changes a patch.
"""

from .arrange import ContentItem, FileItem, StackItem, arrange
from .content import NotExpressible, content_tensors
from .identify import Candidate, identify
from .patches import Once, Part, Patch, Scalar, Target, TensorRef, targets_digest

__all__ = [
    "Candidate", "ContentItem", "FileItem", "NotExpressible", "Once", "Part", "Patch", "Scalar", "StackItem", "Target", "TensorRef",
    "arrange", "content_tensors", "identify", "targets_digest",
]  # fmt: skip
