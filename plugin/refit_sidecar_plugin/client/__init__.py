"""The client of the wire. In: calls with tensors as buffers. Out: answers, progress and events of a running sidecar, or one clear SidecarError.

Standard library and ``websockets`` only. It never starts a sidecar, never configures logging, and never shows a token, a path or a segment's name.
"""

from ..checked.tensor_frame import PlacedTensor
from .client import CHECK_EVERY_S, SidecarClient
from .discovery import Address, default_data_dir, read_discovery
from .errors import CLIENT_ERRORS, SidecarError, SidecarInterrupted, SidecarRefused, SidecarUnavailable
from .frames import Tensor, TensorLike
from .pending import Pending, Preview, Reply
from .segments import DeviceSegment, Loan

__all__ = [
    "CHECK_EVERY_S",
    "CLIENT_ERRORS",
    "Address",
    "DeviceSegment",
    "Loan",
    "Pending",
    "PlacedTensor",
    "Preview",
    "Reply",
    "SidecarClient",
    "SidecarError",
    "SidecarInterrupted",
    "SidecarRefused",
    "SidecarUnavailable",
    "Tensor",
    "TensorLike",
    "default_data_dir",
    "read_discovery",
]
