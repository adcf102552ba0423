"""Calls on an engine: inputs, residuals, and batches that are larger than the engine takes."""

import comfy_fakes
import pytest

torch = pytest.importorskip("torch")
comfy_fakes.install()

from fake_sidecar import FakeClient, FakeSidecar  # noqa: E402
from refit_sidecar_plugin.client import SidecarRefused, Tensor  # noqa: E402
from refit_sidecar_plugin.engine import EngineRun, Range, Wanted  # noqa: E402
from refit_sidecar_plugin.hosts.denoising import UNET, NotServed, read_call  # noqa: E402
from refit_sidecar_plugin.hosts.denoising.answer import Answerer  # noqa: E402


class Engine:
    """Answers sample + 1 and takes at most `limit` samples at once."""

    def __init__(self, limit: int = 99) -> None:
        self.limit, self.batches = limit, []

    def __call__(self, _state, tensors):
        shapes = {name: tensor.shape[0] for name, tensor in tensors.items()}
        if shapes["sample"] > self.limit:
            raise SidecarRefused("STEP_INPUT_INVALID", f"expected at most {self.limit}")
        assert all(rows in (1, shapes["sample"]) for rows in shapes.values()), shapes
        self.batches.append(shapes["sample"])
        sample = torch.frombuffer(bytearray(tensors["sample"].data), dtype=torch.float32).reshape(tensors["sample"].shape)
        return Tensor("out_sample", "f32", tensors["sample"].shape, (sample + 1).numpy().tobytes())


@pytest.fixture
def answerer(tmp_path):
    def make(engine, **wanted):
        sidecar = FakeSidecar(engine)
        (tmp_path / "base.safetensors").write_bytes(b"x")
        sidecar.do_folders_add({"path": str(tmp_path), "kind": "checkpoints"})
        run = EngineRun(FakeClient(sidecar), Wanted("checkpoint:base.safetensors", (), **wanted), lambda: None)
        run.prepare()
        return Answerer(run)

    return make


def call(batch: int, control=None):
    x = torch.arange(batch * 4, dtype=torch.float32).reshape(batch, 4, 1, 1)
    return read_call(UNET, (x, torch.zeros(batch), torch.zeros(batch, 2, 3), None, control, {}), {})


def test_a_batch_within_the_profile_is_one_step(answerer):
    engine = Engine()
    assert torch.equal(answerer(engine)(call(3)), call(3).x + 1) and engine.batches == [3]


def test_a_batch_beyond_the_profile_of_the_run_is_split(answerer):
    engine = Engine(2)
    answer = answerer(engine, profile={name: Range(1, 2, 2) for name in ("batch", "height", "width", "tokens")})
    assert torch.equal(answer(call(5)), call(5).x + 1) and engine.batches == [2, 2, 1]


def test_a_batch_beyond_a_profile_that_the_sidecar_chose_is_split_after_its_refusal_and_then_at_once(answerer):
    engine = Engine(2)
    answer = answerer(engine)
    assert torch.equal(answer(call(8)), call(8).x + 1) and engine.batches == [2, 2, 2, 2]
    assert torch.equal(answer(call(8)), call(8).x + 1) and engine.batches == [2] * 8


def test_a_single_sample_that_is_refused_is_the_answer(answerer):
    with pytest.raises(SidecarRefused, match="STEP_INPUT_INVALID"):
        answerer(Engine(0))(call(2))


def test_residuals_go_in_by_name_and_may_be_left_out_all_together(answerer):
    engine = Engine(1)
    answer = answerer(engine, residuals=True)
    control = {"output": [torch.zeros(2, 1, 1, 1)] * 4, "middle": [torch.zeros(1, 1, 1, 1)]}
    assert torch.equal(answer(call(2, control)), call(2).x + 1) and torch.equal(answer(call(1)), call(1).x + 1)
    with pytest.raises(NotServed, match="2 residuals"):
        answer(call(1, {"output": [torch.zeros(1)], "middle": [torch.zeros(1)]}))


def test_an_input_that_the_run_does_not_give_is_named(answerer):
    answer = answerer(Engine())
    answer._run.inputs["y"] = ["batch", 2816]
    with pytest.raises(NotServed, match="'y'"):
        answer(call(1))
