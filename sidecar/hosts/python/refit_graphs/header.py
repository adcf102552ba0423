"""Checkpoint headers. In: a safetensors file, or a JSON table of names and shapes. Out: canonical names and shapes, and the structure hash.

Reads headers only, never tensor data, and never opens anything but the given file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from refit_host.checked import tensor_header

from .descriptions import canonical_names
from .errors import HeaderError

Shapes = dict[str, tuple[int, ...]]

PREFIXES = ("model.diffusion_model.", "model.model.", "net.")


def read_header(path: Path) -> dict[str, dict]:
    """Returns `{name: {"dtype", "shape"}}` of a `.safetensors` file or of a JSON table in the same form. Raises HeaderError."""
    if path.suffix != ".json":
        return _of_safetensors(path)
    try:
        table = json.loads(path.read_bytes())
        return {
            name: {"dtype": str(entry["dtype"]), "shape": [int(n) for n in entry["shape"]]}
            for name, entry in table.items()
            if name != "__metadata__"
        }
    except (UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise HeaderError(f"expected a JSON table of names with dtype and shape, got something else: {error}") from error


def _of_safetensors(path: Path) -> dict[str, dict]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = tensor_header.header_length(file.read(8), size)
            header = tensor_header.parse_header(file.read(length), size)
    except tensor_header.HeaderError as error:
        raise HeaderError(f"expected a whole safetensors file; {error} [{error.code}]") from error
    return {name: {"dtype": entry.dtype, "shape": list(entry.shape)} for name, entry in header.entries.items()}


def canonical_shapes(header: Mapping[str, Mapping]) -> Shapes:
    """Returns canonical names and shapes of the diffusion model inside a checkpoint header.

    The prefix is the one that most keys carry; names that already are canonical stay. fp8 helpers are no parameters. Names that other releases
    of a family give its parameters become canonical (docs/develop/adding-a-family.md, "Renames").
    """
    counts = {prefix: sum(name.startswith(prefix) for name in header) for prefix in PREFIXES}
    prefix = max(PREFIXES, key=lambda candidate: counts[candidate])
    if counts[prefix] <= 5:
        prefix = ""
    shapes = {name[len(prefix) :]: tuple(entry["shape"]) for name, entry in header.items() if name.startswith(prefix)}
    shapes = {name: shape for name, shape in shapes.items() if not is_fp8_helper(name) and name not in SAMPLING_MARKERS}
    canonical = canonical_names(shapes)
    return {canonical[name]: shape for name, shape in shapes.items()}


# Empty tensors that tell a UI's sampler how the model was trained (`samplingMarkers` of the sidecar's names/canonical.ts).
SAMPLING_MARKERS = frozenset({"v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min"})


def is_fp8_helper(name: str) -> bool:
    return name.split(".")[-1] in ("scaled_fp8", "scale_weight", "scale_input")


def structure_hash(shapes: Shapes) -> str:
    """SHA-256 of the sorted lines `name<TAB>dim,dim,...<LF>`; the same text as the catalog hashes (sorted by UTF-16 code unit)."""
    lines = sorted((f"{name}\t{','.join(map(str, shape))}\n" for name, shape in shapes.items()), key=lambda line: line.encode("utf-16-be"))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
