"""`python -m refit_host.about`: what this Python and this computer give the GPU hosts, as one JSON line on stdout, for `refit-sidecar doctor`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib import metadata
from typing import Any

NAMES = (
    "torch",
    "diffusers",
    "safetensors",
    "numpy",
    "psutil",
    "onnx",
    "triton",
    "triton-windows",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "tensorrt-rtx",
    "tensorrt",
)


def _versions() -> dict[str, str]:
    found = {}
    for name in NAMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _has_c_compiler() -> bool:
    """Triton builds its launchers with a C compiler; its builds for Windows bring one."""
    return sys.platform == "win32" or any(shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name)


def tier_of(device: str, versions: dict[str, str], triton: bool, c_compiler: bool) -> tuple[str, str]:
    """(fastest tier that the torch host reaches here, why)."""
    if device != "cuda":
        return "eager", "PyTorch sees no GPU"
    if "triton" not in versions and "triton-windows" not in versions:
        where = " (PyTorch's packages for Windows bring none)" if sys.platform == "win32" else ""
        return "CUDA graphs", f"Triton is not installed{where}, so nothing can be compiled"
    if not triton:
        return "CUDA graphs", "Triton cannot be imported, or does not serve this card"
    if not c_compiler:
        return "CUDA graphs", "Triton finds no C compiler (cc, gcc or clang); install one"
    return "compiled blocks in CUDA graphs", "Triton and a C compiler are there; CUDA graphs serve until the background build is done"


def _engines(versions: dict[str, str], triton: bool) -> list[dict[str, str]]:
    """Hosts that compile engines here, with what those depend on: a bundle from elsewhere has to fit one of them."""
    import torch

    from .engine_platform import key_and_finger

    if not torch.cuda.is_available():
        return []
    capability, name = torch.cuda.get_device_capability(0), torch.cuda.get_device_name(0)
    libraries = {"torch": ("torch", torch.__version__)} if triton else {}
    if any(found.startswith("tensorrt") for found in versions):
        try:
            from refit_tensorrt.binding import find

            binding = find(capability)
            libraries["tensorrt"] = (binding.name, binding.version)
        except Exception:  # noqa: BLE001 - whatever a broken package does when it is imported: then no engine of it fits here
            pass
    rows = []
    for host, library in libraries.items():
        key, _ = key_and_finger("", "", "", host, library, capability, name)
        rows.append({"host": host, "library": key.library, "capability": key.capability, "driverBranch": key.driverBranch})
    return rows


def about() -> dict[str, Any]:
    versions = _versions()
    facts: dict[str, Any] = {"python": platform.python_version(), "executable": sys.executable, "versions": versions, "device": None}
    try:
        import torch

        from .weights.merge import triton_works
    except Exception as error:  # whatever a broken package does when it is imported
        return {**facts, "problem": f"{type(error).__name__}: {error}"[:500]}
    facts["torch_cuda"] = torch.version.cuda
    facts["torch_hip"] = torch.version.hip
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts["device"] = {
            "type": "cuda",
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
        }
        triton = triton_works(torch.device("cuda"))
    else:
        facts["device"] = {"type": "cpu", "name": platform.machine()}
        triton = False
    facts["engines"] = _engines(versions, triton)
    facts["tier"], facts["why"] = tier_of(facts["device"]["type"], versions, triton, _has_c_compiler())
    return facts


if __name__ == "__main__":
    print(json.dumps(about()))
