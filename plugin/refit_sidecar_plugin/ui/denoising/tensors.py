"""torch tensors to and from the words of the wire and of safetensors. One table for dtypes."""

from __future__ import annotations

import hashlib
import weakref

import torch

from ...client import Tensor
from ...stack import Once, TensorRef
from .origins import Origins

# torch dtype -> (safetensors name, wire name or None where the wire has no such dtype)
_DTYPES: dict[torch.dtype, tuple[str, str | None]] = {
    torch.float32: ("F32", "f32"),
    torch.float16: ("F16", "f16"),
    torch.bfloat16: ("BF16", "bf16"),
    torch.float64: ("F64", None),
    torch.int64: ("I64", "i64"),
    torch.int32: ("I32", None),
    torch.int16: ("I16", None),
    torch.int8: ("I8", None),
    torch.uint8: ("U8", "u8"),
    torch.bool: ("BOOL", None),
    torch.float8_e4m3fn: ("F8_E4M3", None),
    torch.float8_e5m2: ("F8_E5M2", None),
}
_FILE_TO_TORCH = {file: dtype for dtype, (file, _) in _DTYPES.items()}
_WIRE_TO_TORCH = {wire: dtype for dtype, (_, wire) in _DTYPES.items() if wire}


def file_dtype(dtype: torch.dtype) -> str:
    """Name in a safetensors header. KeyError for dtypes that no adapter has (complex, quantised)."""
    return _DTYPES[dtype][0]


def torch_dtype(file_name: str) -> torch.dtype | None:
    return _FILE_TO_TORCH.get(file_name)


def from_wire(name: str) -> torch.dtype:
    return _WIRE_TO_TORCH[name]


def wire_dtype(dtype: torch.dtype) -> str | None:
    """None for a dtype that the wire does not have."""
    return _DTYPES[dtype][1]


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The tensor's values as little-endian bytes; shares memory with a contiguous CPU tensor, copies anything else."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal dtype, shape and bytes, compared where they lie. As integers: a negative zero is another value, and a NaN equals itself."""
    if one.dtype != other.dtype or one.shape != other.shape or one.device != other.device:
        return False
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return torch.equal(one.contiguous().view(whole), other.contiguous().view(whole))


# Of a tensor's bytes at its start and in its middle.
SAMPLE_BYTES = 32


def sample_bytes(tensor: torch.Tensor) -> bytes | None:
    """A few of the tensor's bytes, at positions that depend on its size alone; None where it is not plain memory of the CPU."""
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or not tensor.numel():
        return None
    data = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    middle = data.size // 2
    return data[:SAMPLE_BYTES].tobytes() + data[middle : middle + SAMPLE_BYTES].tobytes()


def to_wire(name: str, tensor: torch.Tensor) -> Tensor:
    """KeyError for a dtype that the wire does not have."""
    return Tensor(name, _DTYPES[tensor.dtype][1] or file_dtype(tensor.dtype), tuple(tensor.shape), raw_bytes(tensor))


def from_bytes(data: memoryview | bytes | bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of its own: `data` may be reused afterwards."""
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


class Digests:
    """SHA-256 of tensors' bytes, remembered per tensor object until it is changed in place or gone."""

    def __init__(self, origins: Origins | None = None) -> None:
        """`origins`: what is known of places in files, asked before anything is hashed."""
        self.origins = origins or Origins()
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], object, str]] = {}

    def of(self, tensor: torch.Tensor) -> str:
        known, mark = self._known.get(id(tensor)), _mark(tensor)
        if known and known[0]() is tensor and known[1] == mark:
            return known[2]
        digest = hashlib.sha256(raw_bytes(tensor)).hexdigest()
        key = id(tensor)
        self._known[key] = (weakref.ref(tensor, lambda _: self._known.pop(key, None)), mark, digest)
        return digest

    def ref(self, tensor: torch.Tensor) -> TensorRef:
        """The tensor as a part of a patch; its sample is taken once. KeyError for a dtype that no adapter has."""
        return TensorRef(
            file_dtype(tensor.dtype),
            tuple(tensor.shape),
            lambda: self.of(tensor),
            lambda: bytes(raw_bytes(tensor)),
            lambda: self.origins.of(tensor),
            Once(lambda: sample_bytes(tensor)),
        )


def _mark(tensor: torch.Tensor) -> object:
    """Differs after a change in place. ComfyUI runs nodes in inference mode, where torch counts no versions: there, a sum over all words at memory speed."""
    if not tensor.is_inference():
        return tensor._version
    data = raw_bytes(tensor)
    whole = len(data) // 8 * 8
    words = torch.frombuffer(data[:whole], dtype=torch.int64).sum().item() if whole else 0
    return (words, bytes(data[whole:]))
