"""Calls on an engine: inputs, residuals, and batches that are larger than the engine takes."""

import comfy_fakes
import pytest

torch = pytest.importorskip("torch")
comfy_fakes.install()

from fake_sidecar import FakeClient, FakeSidecar  # noqa: E402
from refit_sidecar_plugin.client import SidecarRefused, Tensor  # noqa: E402
from refit_sidecar_plugin.engine import EngineRun, Wanted  # noqa: E402
from refit_sidecar_plugin.ui.denoising import (  # noqa: E402
    UNET,
    CallShape,
    NotServed,
    call_shape,
    made_by,
    read_call,
    read_words,
    refuse_patches,
    require_gpu_engine,
)  # noqa: E402
from refit_sidecar_plugin.ui.denoising.answer import Answerer  # noqa: E402


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


def test_a_batch_that_the_engine_takes_is_one_step(answerer):
    engine = Engine()
    assert torch.equal(answerer(engine)(call(3)), call(3).x + 1) and engine.batches == [3]


def test_a_batch_beyond_what_the_engine_takes_is_split_after_its_refusal_and_then_at_once(answerer):
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


FLUX = call_shape("comfyui", "Flux")


def flux_call():
    x = torch.zeros(1, 16, 2, 2)
    return read_call(
        FLUX, (x, torch.zeros(1), torch.zeros(1, 2, 3), torch.zeros(1, 768), torch.ones(1)), {"control": None, "transformer_options": {}}
    )


def test_guidance_goes_only_to_an_engine_that_takes_it(answerer):
    """ComfyUI gives every Flux model a guidance; schnell's own forward does not look at it."""
    answer = answerer(Engine())
    answer._run.inputs["y"] = ["batch", 768]
    assert answer(flux_call()).shape == (1, 16, 2, 2)
    answer._run.inputs["guidance"] = ["batch"]
    assert answer(flux_call()).shape == (1, 16, 2, 2)


@pytest.mark.parametrize(("ui", "name"), [("comfyui", "Flux"), ("forge", "MMDiTX"), ("comfyui", "WAN21")])
def test_an_odd_latent_is_filled_up_to_whole_patches_from_its_start_and_the_answer_cut_back(answerer, ui, name):
    """As these classes do it; a graph takes whole patches only."""
    sizes = (2, 5, 3) if name == "WAN21" else (5, 3)
    x = torch.arange(16 * torch.tensor(sizes).prod().item(), dtype=torch.float32).reshape(1, 16, *sizes)
    made = read_call(call_shape(ui, name), (x, torch.zeros(1)), {"context": torch.zeros(1, 2, 3)})
    sample = made.tensors["sample"]
    assert sample.shape[-2:] == (6, 4)
    assert (
        torch.equal(sample[..., :5, :3], x)
        and torch.equal(sample[..., 5, :3], x[..., 0, :])
        and torch.equal(sample[..., 3], sample[..., 0])
    )
    assert torch.equal(answerer(Engine())(made), x + 1)


def test_times_of_parts_of_the_sample_go_in_beside_the_largest():
    shape = call_shape("comfyui", "WAN22")
    x, words = torch.zeros(2, 48, 3, 4, 4), torch.zeros(2, 5, 8)
    whole = read_call(shape, (x, torch.tensor([900.0, 900.0]), words), {"denoise_mask": torch.ones(2, 1, 3, 4, 4)})
    assert set(whole.tensors) == {"sample", "timestep", "encoder_hidden_states"}
    parts = read_call(shape, (x, torch.tensor([[0.0, 900.0, 900.0]] * 2), words), {})
    assert parts.tensors["timestep"].tolist() == [900.0, 900.0]
    assert parts.tensors["frame_timesteps"].tolist() == [[0.0, 900.0, 900.0]] * 2 and "frame_timesteps" in parts.optional


def test_settings_of_a_file_go_in_as_numbers_and_a_word_as_whether_it_is_the_one():
    shape = call_shape("comfyui", "LTXAV")
    streams = [torch.zeros(1, 128, 1, 2, 2), torch.zeros(1, 8, 3, 16)]
    args, times = (streams, (torch.ones(1), torch.ones(1)), torch.zeros(1, 4, 8), None, 25), {"causal_temporal_positioning": True}
    read = read_call(shape, args, {}, {**times, "rope_type": "split", "frequencies_precision": "float32"})
    assert {name: float(read.tensors[name]) for name in ("causal", "halves", "precise")} == {"causal": 1, "halves": 1, "precise": 0}
    assert not {"middle", "gate_scale"} & read.tensors.keys()
    with pytest.raises(NotServed, match="'ref_audio' has no engine input"):
        read_call(shape, args, {"ref_audio": {"tokens": torch.zeros(1, 2, 128)}})


def test_words_that_are_ready_need_no_call(answerer):
    words, asked = call_shape("comfyui", "LTXAV").words, []
    answer = answerer(lambda state, tensors: asked.append(set(tensors)) or Tensor("out", "f32", (1, 2, 8), bytes(64)))
    answer._run.inputs |= {"encoder_hidden_states": ["batch", "tokens", 8], "words": ["batch", "words", 8], "word_halves": ["batch"]}
    ready = torch.ones(1, 2, 8)
    assert answer(read_words(words, (ready,), {"unprocessed": False})) is ready and not asked
    assert answer(read_words(words, (ready,), {"unprocessed": True}, {"rope_type": "interleaved"})).shape == (1, 2, 8)
    assert asked == [{"words", "word_halves"}]


def test_a_sample_of_several_streams_comes_back_as_such(answerer):
    shape = CallShape(("x", "timestep"), {"x": ("sample", "audio_sample"), "timestep": ("timestep", "audio_timestep"), "strength": "strength",
                      "rate": "rate"}, frozenset(), optional=frozenset({"audio_sample", "audio_timestep", "strength", "rate"}))  # fmt: skip
    video, audio = torch.ones(2, 4, 1, 2), torch.zeros(2, 3)
    times = torch.ones(2)
    read = read_call(shape, ([video, audio], (times, times * 2)), {"strength": [1.0, 0.5], "rate": 25})
    assert read.tensors["audio_sample"] is audio and read.tensors["audio_timestep"].tolist() == [2.0, 2.0]
    assert read.tensors["strength"].tolist() == [[1.0, 0.5]] * 2 and read.tensors["rate"].tolist() == [25.0, 25.0]
    with pytest.raises(NotServed, match="3 tensors as 'x'"):
        read_call(shape, ([video, audio, audio], times), {})

    def engine(_state, tensors):
        flat = [
            torch.frombuffer(bytearray(tensors[name].data), dtype=torch.float32).reshape(tensors[name].shape).flatten(1)
            for name in shape.inputs["x"]
        ]
        out = torch.cat(flat, dim=1) + 1
        return Tensor("out_sample", "f32", tuple(out.shape), out.numpy().tobytes())

    answer = answerer(engine)
    answer._run.inputs = {name: ["batch"] for name in read.tensors}
    got = answer(read)
    assert [tuple(one.shape) for one in got] == [(2, 4, 1, 2), (2, 3)] and torch.equal(got[0], video + 1) and torch.equal(got[1], audio + 1)


def test_a_number_is_rounded_as_the_class_rounds_it():
    """ComfyUI hands guidance over in the model's type, and multiplies it there."""
    shape = call_shape("comfyui", "Flux")
    given = {"x": torch.zeros(1, 16, 4, 4), "timestep": torch.tensor([0.7]), "context": torch.zeros(1, 2, 8)}
    for dtype, expected in ((torch.bfloat16, 3504.0), (torch.float16, 3500.0), (torch.float32, 3500.0)):
        call = read_call(shape, (), {**given, "guidance": torch.tensor([3.5], dtype=dtype)})
        assert abs(float(call.tensors["guidance"].double() * 1000) - expected) < 1e-3
    assert float(read_call(shape, (), given).tensors["timestep"]) == given["timestep"].item()


def test_an_input_that_the_engine_does_not_take_is_named(answerer):
    with pytest.raises(NotServed, match="'y', which this engine does not take"):
        answerer(Engine())(flux_call())


class FreeU_V2:
    def patch(self):
        def output_block_patch(h, hsp, options):
            return h, hsp

        return output_block_patch


class CrossAttention:
    def __call__(self, q, k, v):
        return q


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"patches": {"output_block_patch": [FreeU_V2().patch()]}}, r"FreeU_V2, which acts inside the model \(output_block_patch\)"),
        ({"patches_replace": {"attn2": {("input", 4, 0): CrossAttention()}}}, r"CrossAttention, .*\(attn2\)"),
        ({"rope_options": {"scale_x": 2.0}}, r"a node, which may act inside the model \(option 'rope_options'\)"),
        ({"a": {"b": FreeU_V2().patch()}}, r"FreeU_V2, which may act inside the model \(option 'a'\)"),
    ],
)
def test_what_reaches_into_the_model_is_refused_by_the_node_that_made_it(options, says):
    with pytest.raises(NotServed, match=says):
        refuse_patches(options)


def test_options_that_describe_the_call_are_served():
    refuse_patches(
        {
            "easycache": object(),
            "multigpu_thread_device": "cuda:0",
            "patches": {"attn1_patch": []},
            "patches_replace": {},
            "prefetch_dynamic_vbars": True,
        }
    )
    assert made_by(None) == "a node"


class Hosts:
    def __init__(self, *hosts):
        self._hosts = [{"kind": kind, "available": available, "device": device} for kind, available, device in hosts]

    def call(self, method, params, check):
        assert method == "status"
        return type("Reply", (), {"result": {"hosts": self._hosts}})


@pytest.mark.parametrize(
    "hosts", [[("onnxruntime", True, None), ("torch", False, None)], [("onnxruntime", True, "cpu"), ("torch", True, "cpu")]]
)
def test_a_ui_on_a_graphics_card_takes_no_engine_on_the_processor(hosts):
    with pytest.raises(NotServed, match="npx refit-sidecar host install torch"):
        require_gpu_engine(Hosts(*hosts), lambda: None)


@pytest.mark.parametrize("hosts", [[("torch", True, None)], [("onnxruntime", True, None), ("tensorrt", True, "cuda:0")]])
def test_a_ui_on_a_graphics_card_takes_any_engine_of_the_card(hosts):
    require_gpu_engine(Hosts(*hosts), lambda: None)
