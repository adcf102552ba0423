"""The start of a host's process: diffusers comes without PyTorch's compiler, which is told afterwards what diffusers wanted it to know. Each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
START = """
import gc, sys
from refit_host import quick_start
quick_start.hide_unused()
quick_start.begin_imports()
import torch
"""


def python(code: str) -> None:
    """Runs `code` after what the host does first; its assertions count."""
    folders = [ROOT / "sidecar/hosts/python", ROOT, ROOT / "test/python/hosts/refit_graphs", ROOT / "test/python/hosts"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run([sys.executable, "-c", START + code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_step_needs_no_compiler_and_the_first_compilation_knows_what_diffusers_marked():
    python("""
with quick_start.last_import():
    from refit_host.models import registry
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import exported_cases
from refit_graphs.families import plan
from refit_host.models.bind import bind, layout_of
torch.set_grad_enabled(False)
from engines import UNET
shapes = UNET
spec = registry.spec_of(shapes)
layout = layout_of(spec, shapes, torch.float32, channels_last=False)
arena = torch.zeros(layout.nbytes, dtype=torch.uint8)
module = bind(spec.build(), spec, layout, arena)
spec.forward(module, exported_cases.step_inputs(plan(dict(shapes))))
assert not [name for name in ("torch._dynamo", "torch._inductor.compile_fx", "sympy", "peft", "transformers") if sys.modules.get(name)]
from refit_host.torch_engine.compiled import compile_blocks
assert compile_blocks(module, spec.repeated) > 0
from diffusers.models.attention import BasicTransformerBlock
from torch._dynamo import trace_rules
assert trace_rules.is_callable_allowed(BasicTransformerBlock)
""")


@pytest.mark.e2e
def test_whoever_needs_the_compiler_during_the_import_gets_it():
    python("""
with quick_start.compiler_later():
    import torch._dynamo
    assert torch._dynamo.allow_in_graph(print) is print
    assert torch._dynamo.config.suppress_errors is False
    assert type(sys.modules["torch._dynamo"]).__name__ == "module"
assert torch._dynamo.eval_frame is not None
quick_start.tell_compiler()
""")


@pytest.mark.e2e
def test_a_compiler_that_is_there_already_is_left_alone():
    python("""
import torch._dynamo
real = sys.modules["torch._dynamo"]
with quick_start.compiler_later():
    assert sys.modules["torch._dynamo"] is real
""")


def test_an_import_that_fails_leaves_everything_as_it_was():
    python("""
from importlib import metadata
listed = metadata.packages_distributions
try:
    with quick_start.last_import():
        raise ImportError
except ImportError:
    pass
assert "torch._dynamo" not in sys.modules and metadata.packages_distributions is listed and gc.isenabled()
import torch._dynamo
assert torch._dynamo.eval_frame is not None
""")
