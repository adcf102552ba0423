"""Safetensors files as the plugin needs them. In: paths. Out: checked headers, small tensors, content identities.

It never opens a pickle and never holds a whole file in memory.
"""

from .header import Entry, Header, HeaderError, read_header, read_tensor
from .identity import Identities, Stamp, stamp

__all__ = ["Entry", "Header", "HeaderError", "Identities", "Stamp", "read_header", "read_tensor", "stamp"]
