"""What torch_tensorrt's published examples do with its mutable module, with the class name changed: load_state_dict, dynamic sizes, nested arguments, save and load."""

import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from refit_sidecar import RangeError, RefitModule, SavedModuleError, State
from small_models import sd15, sd15_call, seeded
from torch import nn

ROOT = Path(__file__).resolve().parents[4]
SETTINGS = {"use_python_runtime": False, "enabled_precisions": {torch.float32}, "immutable_weights": False}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + x)


class SmallResNet(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.layers, self.head = nn.Conv2d(3, 8, 3), nn.Sequential(Residual(8), Residual(8)), nn.Linear(8, 10)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, a, b=None, *, more=None, flag=None):
        return self.inner(a) * more["scale"] + b[0] + b[1] if flag is None else a


def test_refitted_by_load_state_dict_and_saved(tmp_path):
    inputs = torch.rand(2, 3, 16, 16)
    mutable = RefitModule(SmallResNet(0).eval(), **SETTINGS)
    other = SmallResNet(1).eval()
    with torch.no_grad():
        mutable(inputs)
        mutable.load_state_dict(other.state_dict())
        assert torch.allclose(mutable(inputs), other(inputs), atol=1e-5)
        assert mutable.counts["builds"] == 1 and mutable.served_by == "engine"
        path = tmp_path / "mutable_module.pkl"
        RefitModule.save(mutable, str(path))
        loaded = RefitModule.load(str(path))
        assert torch.equal(loaded(inputs), mutable(inputs)) and loaded.state is State.LIVE
    assert path.stat().st_mode & 0o077 == 0


def test_running_statistics_are_followed():
    mutable, plain = RefitModule(SmallResNet(0).eval()), SmallResNet(0).eval()
    inputs = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        mutable(inputs)
        for module in (mutable, plain):
            module.train()
            module(inputs)
            module.eval()
        assert torch.allclose(mutable(inputs), plain(inputs), atol=1e-6) and mutable.served_by == "engine"


def test_dynamic_sizes_with_nested_arguments(caplog):
    dim, batch = torch.export.Dim("dim", min=2, max=5), torch.export.Dim("batch", min=1, max=4)
    module, plain = RefitModule(Nested().eval()), Nested().eval()
    plain.load_state_dict(module.state_dict())
    module.set_expected_dynamic_shape_range(({0: batch},), {"b": [{0: batch}, None], "more": {"scale": {}}, "flag": None})

    def call(which, rows):
        return which(torch.ones(rows, 4), b=[torch.ones(rows, 4), torch.ones(1, 4)], more={"scale": torch.tensor(2.0)}, flag=None)

    with torch.no_grad():
        for rows in (1, 3, 4):
            assert torch.equal(call(module, rows), call(plain, rows))
        assert module.counts["builds"] == 1
        assert torch.equal(call(module, 6), call(plain, 6))
        assert module.counts["builds"] == 2 and "dimension 0: 6 is outside of 1 to 4" in caplog.text
        call(module, 7)
        assert module.counts["builds"] == 2
    module.set_expected_dynamic_shape_range((), {"sample": {0: batch, 2: 4 * dim, 3: 4 * dim}, "return_dict": None})


@pytest.mark.parametrize("args, kwargs, text", [
    ("x", {}, "expected a tuple"), (({0: "two"},), {}, "expected a torch.export.Dim"), ((), {"a": 3}, r"kwargs\['a'\]: expected None"),
])  # fmt: skip
def test_ranges_that_do_not_fit(args, kwargs, text):
    with pytest.raises(RangeError, match=text):
        RefitModule(Nested().eval()).set_expected_dynamic_shape_range(args, kwargs)


def test_multiples_of_a_dim_are_ranges():
    side = torch.export.Dim("side", min=2, max=4)
    module = RefitModule(seeded(sd15))
    module.set_expected_dynamic_shape_range(({0: None, 2: 4 * side, 3: 4 * side}, {}), {"encoder_hidden_states": {}})
    torch.manual_seed(0)
    with torch.no_grad():
        for sizes in (8, 16):
            args, kwargs = sd15_call(side=sizes)
            module(*args, **kwargs)
        assert module.counts["builds"] == 1
        args, kwargs = sd15_call(side=20)
        module(*args, **kwargs)
    assert module.counts["builds"] == 2


def test_a_diffusers_module_is_saved_without_a_pickle(tmp_path):
    module = RefitModule(seeded(sd15), precision="keep")
    torch.manual_seed(0)
    args, kwargs = sd15_call()
    with torch.no_grad():
        expected = module(*args, **kwargs).sample
        loaded = RefitModule.load(module.save(tmp_path / "unet.refit"))
        assert torch.equal(loaded(*args, **kwargs).sample, expected)
    assert b"diffusers" not in (tmp_path / "unet.refit").read_bytes().split(b"PK", 1)[0] and type(loaded).__name__ == "UNet2DConditionModel"


def test_an_engine_of_codes_is_saved_by_its_values(tmp_path):
    module = RefitModule(seeded(sd15), precision="fp8")
    torch.manual_seed(0)
    args, kwargs = sd15_call()
    with torch.no_grad():
        expected = module(*args, **kwargs).sample
        assert torch.equal(RefitModule.load(module.save(tmp_path / "unet.refit"))(*args, **kwargs).sample.float(), expected)


def _with_head(path, whole, key, value):
    """The saved module with another entry in its head."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    parts["refit.json"] = json.dumps({**json.loads(parts["refit.json"]), key: value}).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)


def test_what_is_not_loaded(tmp_path):
    module = RefitModule(Nested().eval())
    path = module.save(tmp_path / "module.refit")
    whole = path.read_bytes()

    def refused(text):
        with pytest.raises(SavedModuleError, match=text):
            RefitModule.load(path)

    for cut in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:cut])
        refused("no saved RefitModule, or a damaged one")
    at = whole.index(b"weights.safetensors") + 200
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refused("damaged")
    for key, value, text in (
        ("device", "cuda Some Other Card", "was saved on cuda Some Other Card, which is not here"),
        ("torch", "1.13.0", "PyTorch 1.13.0, this is"),
        ("formatVersion", 99, "has format 99"),
    ):
        _with_head(path, whole, key, value)
        refused(text)
    path.write_bytes(whole)
    os.chmod(path, 0o666)
    refused("can be written by others")
    with pytest.raises(SavedModuleError, match="there is no file"):
        RefitModule.load(tmp_path / "absent")


def test_a_saved_module_loads_in_another_process(tmp_path):
    module = RefitModule(seeded(sd15))
    torch.manual_seed(0)
    args, kwargs = sd15_call()
    with torch.no_grad():
        torch.save((args, kwargs, module(*args, **kwargs).sample), tmp_path / "call.pt")
    module.save(tmp_path / "unet.refit")
    script = textwrap.dedent("""
        import sys, torch
        from refit_sidecar import RefitModule
        args, kwargs, expected = torch.load(sys.argv[1] + "/call.pt", weights_only=False)
        module = RefitModule.load(sys.argv[1] + "/unet.refit")
        torch.set_num_threads(1)
        with torch.no_grad():
            assert torch.allclose(module(*args, **kwargs).sample, expected, atol=1e-6) and module.served_by == "engine"
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "sidecar/hosts/python")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_saved_module_replaces_an_earlier_one_and_nothing_else(tmp_path):
    module = RefitModule(SmallResNet().eval(), precision="keep")
    saved = module.save(tmp_path / "net.refit")
    assert module.save(saved) == saved
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"somebody's checkpoint")
    pipe = tmp_path / "pipe"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    else:
        pipe.mkdir()
    for path, says in ((model, "no saved module"), (pipe, "a folder, a device or a pipe"), (tmp_path, "a folder")):
        with pytest.raises(SavedModuleError, match=says):
            module.save(path)
    assert model.read_bytes() == b"somebody's checkpoint" and not pipe.is_file()
