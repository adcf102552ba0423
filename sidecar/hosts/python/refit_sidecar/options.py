"""Options of a RefitModule. In: keyword arguments. Out: checked options. Never: an option that is accepted and changes nothing without a word."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import torch
from refit_host.quant.formats import FLOAT, FORMATS

from .running import TIERS

log = logging.getLogger("refit_sidecar")
PRECISIONS: Mapping[str, torch.dtype | None] = {
    "keep": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, **dict.fromkeys(FORMATS, FLOAT),
}  # fmt: skip
HOSTS = ("auto", "inprocess", "sidecar")
MODES = ("make_refittable", "strip_engine_weights", "fixed")
# Settings of torch_tensorrt's MutableTorchTensorRTModule: they choose among TensorRT's ways, which are not used here. Its scripts run with them.
TENSORRT_ONLY = frozenset({
    "use_python_runtime", "enabled_precisions", "immutable_weights", "min_block_size", "truncate_double", "use_explicit_typing", "workspace_size",
    "optimization_level", "torch_executed_ops", "torch_executed_modules", "pass_through_build_failures", "version_compatible", "timing_cache_path",
    "hardware_compatible", "use_fp32_acc", "refit_identical_engine_weights", "allow_shape_tensors", "disable_tf32", "assume_dynamic_shape_support",
    "sparse_weights", "engine_capability", "num_avg_timing_iters", "dla_sram_size", "dla_local_dram_size", "dla_global_dram_size", "require_full_compilation",
    "dryrun", "lazy_engine_init", "debug", "strict", "l2_limit_for_tiling", "tiling_optimization_level", "enable_weight_streaming",
    "enable_cross_compile_for_windows", "prefer_deferred_runtime_asserts_over_guards", "allow_complex_guards_as_runtime_asserts",
})  # fmt: skip


@dataclass(frozen=True)
class Options:
    """`precision`: number format of the engine ("keep": each parameter's own). `device`: the engine's, None: the module's. `mode` "fixed": no refit, a change
    of weights makes another engine, as an engine with weights inside would. `host`: "inprocess" (what "auto" takes) or "sidecar", a running one, found in
    `sidecar_data_dir` (None: where it usually is)."""

    precision: str = "keep"
    host: str = "auto"
    tier: str = "auto"
    device: torch.device | None = None
    mode: str = "make_refittable"
    offload_module_to_cpu: bool = False
    cache_built_engines: bool = False
    reuse_cached_engines: bool = False
    engine_cache_dir: Path | None = None
    engine_cache_size: int = 5 << 30
    tolerance: float | None = None
    sidecar_data_dir: Path | None = None

    @property
    def dtype(self) -> torch.dtype | None:
        return PRECISIONS[self.precision]

    @property
    def form(self) -> str | None:
        """Name of the format in which large matrices are held as codes."""
        return self.precision if self.precision in FORMATS else None

    @property
    def cache_folder(self) -> Path | None:
        if not (self.cache_built_engines or self.reuse_cached_engines):
            return None
        return self.engine_cache_dir or Path.home() / ".cache" / "refit-sidecar" / "engines"


def options_of(given: Mapping[str, Any]) -> Options:
    """Raises TypeError for an unknown option and ValueError for a value that is none."""
    values = dict(given)
    foreign = sorted(values.keys() & TENSORRT_ONLY)
    for name in foreign:
        values.pop(name)
    if foreign:
        log.info("refit_sidecar: %s: settings of TensorRT, which serves nothing here", ", ".join(foreign))
    flags = {name: values.pop(name, None) for name in ("strip_engine_weights", "make_refittable")}
    for name, flag in flags.items():
        if flag is not None and not isinstance(flag, bool):
            raise ValueError(f"{name}: expected True or False, got {flag!r}")
    if flags["make_refittable"] is False:
        values.setdefault("mode", "fixed")
    elif flags["strip_engine_weights"]:
        values.setdefault("mode", "strip_engine_weights")
    inside = values.pop("inprocess", None)
    if inside is not None:
        if not isinstance(inside, bool):
            raise ValueError(f"inprocess: expected True or False, got {inside!r}")
        wanted = "inprocess" if inside else "sidecar"
        if values.setdefault("host", wanted) != wanted:
            raise ValueError(f"inprocess={inside} and host={values['host']!r} say different things")
    unknown = sorted(values.keys() - Options.__dataclass_fields__.keys())
    if unknown:
        raise TypeError(f"RefitModule has no option {', '.join(unknown)}; expected some of {', '.join(Options.__dataclass_fields__)}")
    if values.get("device") is not None:
        values["device"] = torch.device(values["device"])
    for name in ("engine_cache_dir", "sidecar_data_dir"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    options = Options(**values)
    for name, wanted in (("precision", tuple(PRECISIONS)), ("tier", TIERS), ("mode", MODES), ("host", HOSTS)):
        if getattr(options, name) not in wanted:
            raise ValueError(f"{name}: expected one of {', '.join(wanted)}, got {getattr(options, name)!r}")
    return options
