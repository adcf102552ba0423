"""What compiled engines depend on besides the model: library, capability and driver, in the words of the engine store's keys."""

from __future__ import annotations

import ctypes
import functools
import os
import re

from .engine_store import EngineFinger, EngineKey


@functools.cache
def driver() -> str:
    """Version of the NVIDIA driver, "" where there is none."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(96)
        if nvml.nvmlInit_v2() != 0:
            return ""
        found = nvml.nvmlSystemGetDriverVersion(text, len(text)) == 0
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        return ""
    return text.value.decode("ascii", "replace") if found else ""


def branch(version: str) -> str:
    """ "580.65.06" → "580"."""
    return version.partition(".")[0]


def major_minor(version: str) -> str:
    """ "2.11.0+cu130" → "2.11"."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return version if found is None else f"{found[1]}.{found[2]}"


def capability_name(capability: tuple[int, int]) -> str:
    return f"sm{capability[0]}{capability[1]}"


def key_and_finger(
    structure: str, precision: str, profile: str, host: str, library: tuple[str, str], capability: tuple[int, int], device: str, more: str = ""
) -> tuple[EngineKey, EngineFinger]:  # fmt: skip
    """`library`: name and full version. `more`: versions of whatever else takes part."""
    name, version = library
    key = EngineKey(structure, precision, profile, host, f"{name} {major_minor(version)}", capability_name(capability), branch(driver()))
    return key, EngineFinger(f"{version} {more}".strip(), driver(), device)
