"""The node tables and the parts of the ComfyUI host that decide without a model, on stand-ins made from the recorded API."""

import json
import re
from pathlib import Path

import comfy_fakes
import pytest

torch = pytest.importorskip("torch")
comfy_fakes.install()

from refit_sidecar_plugin.ui.comfyui import freshness, hints  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS  # noqa: E402
from refit_sidecar_plugin.ui.denoising import calls  # noqa: E402
from refit_sidecar_plugin.ui.denoising.tensors import Digests, from_bytes, raw_bytes, to_wire  # noqa: E402

PLUGIN = Path(__file__).resolve().parents[5] / "plugin"
# Saved in people's workflows: an id that leaves this list breaks them.
STABLE_IDS = {
    "RefitLoadEngine", "RefitLoadEngineLora", "RefitLoraStack", "RefitLoadEngineStacked", "RefitAccelerateModel",
    "RefitWarmEngine", "RefitExportLora", "RefitEngineStatus",
}  # fmt: skip


def test_the_ids_are_stable_and_the_tables_agree():
    assert set(NODE_CLASS_MAPPINGS) == STABLE_IDS == set(NODE_DISPLAY_NAME_MAPPINGS)
    assert all(isinstance(node, type) for node in NODE_CLASS_MAPPINGS.values())
    assert all(isinstance(name, str) and name.endswith("(Refit)") for name in NODE_DISPLAY_NAME_MAPPINGS.values())


@pytest.mark.parametrize("ident", sorted(STABLE_IDS))
def test_a_node_is_whole(ident):
    node = NODE_CLASS_MAPPINGS[ident]
    assert callable(getattr(node, node.FUNCTION)) and node.CATEGORY == "Refit" and node.DESCRIPTION and node.SEARCH_ALIASES
    assert len(node.RETURN_TYPES) == len(node.OUTPUT_TOOLTIPS) and all(node.OUTPUT_TOOLTIPS)
    inputs = node.INPUT_TYPES()
    for kind in ("required", "optional"):
        for name, given in inputs.get(kind, {}).items():
            options = given[1]
            assert options.get("tooltip"), f"{ident}.{name} has no tooltip"
            if given[0] in ("INT", "FLOAT"):
                assert options["min"] <= options["default"] <= options["max"] and options["step"] > 0


@pytest.mark.parametrize("ident", sorted(STABLE_IDS))
def test_a_node_has_a_page_and_the_page_names_every_input(ident):
    page = (PLUGIN / "web" / "docs" / f"{ident}.md").read_text("utf-8")
    for kind in ("required", "optional"):
        for name in NODE_CLASS_MAPPINGS[ident].INPUT_TYPES().get(kind, {}):
            family = re.sub(r"_(min|opt|max)$", "_*", name)
            assert f"`{name}`" in page or f"`{family}`" in page, f"{ident}.md does not name {name}"


def test_example_workflows_use_nodes_that_exist_with_inputs_that_exist():
    files = sorted((PLUGIN / "example_workflows").glob("*.json"))
    assert files
    for file in files:
        workflow = json.loads(file.read_text("utf-8"))
        ours = [node for node in workflow["nodes"] if node["type"].startswith("Refit")]
        assert ours, file.name
        for node in ours:
            cls = NODE_CLASS_MAPPINGS[node["type"]]
            inputs = cls.INPUT_TYPES()
            names = {name for kind in ("required", "optional") for name in inputs.get(kind, {})}
            assert {one["name"] for one in node.get("inputs", [])} <= names, (file.name, node["type"])
            assert [one["type"] for one in node.get("outputs", [])] == list(cls.RETURN_TYPES), (file.name, node["type"])


def test_example_workflows_name_no_file_and_lay_no_node_over_another():
    """Nobody has our files: without a value a node takes the first of the user's own list."""
    for file in sorted((PLUGIN / "example_workflows").glob("*.json")):
        nodes = json.loads(file.read_text("utf-8"))["nodes"]
        assert ".safetensors" not in file.read_text("utf-8"), file.name
        for index, one in enumerate(nodes):
            for other in nodes[index + 1 :]:
                apart = [
                    one["pos"][axis] + one["size"][axis] <= other["pos"][axis]
                    or other["pos"][axis] + other["size"][axis] <= one["pos"][axis]
                    for axis in (0, 1)
                ]
                assert any(apart), (file.name, one["type"], other["type"])


def test_only_safetensors_files_are_offered():
    required = NODE_CLASS_MAPPINGS["RefitLoadEngineLora"].INPUT_TYPES()["required"]
    assert required["ckpt_name"][0] == ["base.safetensors"] and required["lora_name"][0] == ["a.safetensors"]


def test_a_missing_file_is_named_with_what_to_do():
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors is in none .* choose a file"):
        NODE_CLASS_MAPPINGS["RefitLoadEngine"]().load("gone.safetensors")


def test_a_stack_keeps_its_order():
    stack = NODE_CLASS_MAPPINGS["RefitLoraStack"]()
    first = stack.stack("a.safetensors", 0.5)[0]
    assert stack.stack("b.safetensors", -1.0, first)[0] == [("a.safetensors", 0.5, 0.5), ("b.safetensors", -1.0, -1.0)]


def unet_call(**named):
    x = torch.zeros(2, 4, 8, 8)
    args = (x, torch.zeros(2), torch.zeros(2, 77, 768), None, named.pop("control", None), named.pop("transformer_options", {}))
    return calls.read_call(calls.UNET, args, named)


def test_a_call_becomes_engine_inputs():
    call = unet_call()
    assert set(call.tensors) == {"sample", "timestep", "encoder_hidden_states"} and call.residuals == ()
    assert call.once == {"encoder_hidden_states", "y"}


@pytest.mark.parametrize(
    "options",
    [
        {"patches": {"attn1_patch": [1]}},
        {"patches_replace": {"attn2": {1: 2}}},
        {"optimized_attention_override": len},
        {"ip_adapter": torch.zeros(2)},
    ],
)
def test_anything_inside_the_model_is_refused_by_name(options):
    with pytest.raises(calls.NotServed, match="inside the model"):
        unet_call(transformer_options=options)


def test_what_only_describes_the_call_is_no_patch():
    unet_call(
        transformer_options={"sigmas": torch.zeros(2), "uuids": [1], "cond_or_uncond": [0, 1], "patches": {}, "patches_replace": None}
    )


def test_a_choice_of_comfyuis_own_attention_kernels_is_no_patch_and_anothers_function_is():
    def override(*_args, **_kwargs): ...

    with pytest.raises(calls.NotServed, match="inside the model"):
        unet_call(transformer_options={"optimized_attention_override": override})
    override.__module__ = "comfy.model_patcher"
    unet_call(transformer_options={"optimized_attention_override": override})


@pytest.mark.parametrize(
    ("model", "configuration", "usual", "other"),
    [
        ("Flux", {}, "offset", "index"),
        ("Flux2", {"default_ref_method": "index"}, "index", "offset"),
        ("QwenImage", {}, "index", "uxo"),
        ("QwenImage", {"default_ref_method": "index_timestep_zero"}, "index_timestep_zero", "index"),
    ],
)
def test_a_word_for_what_the_model_does_anyway_is_no_argument(model, configuration, usual, other):
    """FluxKontextMultiReferenceLatentMethod in a workflow of Kontext asks for what Flux does without it."""
    shape = calls.call_shape("comfyui", model)
    args = (torch.zeros(1, 16, 8, 8), torch.zeros(1), torch.zeros(1, 7, 48))
    assert "sample" in calls.read_call(shape, args, {"ref_latents_method": usual}, configuration).tensors
    with pytest.raises(calls.NotServed, match="ref_latents_method"):
        calls.read_call(shape, args, {"ref_latents_method": other}, configuration)


def test_masked_words_of_lumina_2_are_left_to_the_ui():
    """ComfyUI 0.3.64 looks at the mask, 0.33 does not; it comes only when a word is masked."""
    args = (torch.zeros(1, 16, 8, 8), torch.zeros(1), torch.zeros(1, 7, 48), 5)
    shape = calls.call_shape("comfyui", "Lumina2")
    assert "sample" in calls.read_call(shape, args, {"attention_mask": None}).tensors
    with pytest.raises(calls.NotServed, match="attention_mask"):
        calls.read_call(shape, args, {"attention_mask": torch.ones(1, 7)})


def test_arguments_without_an_engine_input_are_refused_by_name():
    with pytest.raises(calls.NotServed, match="num_video_frames"):
        unet_call(num_video_frames=14)


def test_controlnet_residuals_come_in_the_order_of_the_skip_connections():
    control = {"input": [], "middle": [torch.ones(1)], "output": [torch.full((1,), float(index)) for index in range(3)]}
    assert [int(value) for value in unet_call(control=control).residuals] == [0, 1, 2, 1]


@pytest.mark.parametrize(
    "control", [{"input": [torch.ones(1)]}, {"output": [None, torch.ones(1)], "middle": [torch.ones(1)]}, {"output": [torch.ones(1)]}]
)
def test_control_that_skips_cannot_carry_is_refused(control):
    with pytest.raises(calls.NotServed, match="control|ControlNet"):
        unet_call(control=control)


def flux_call(control: dict, **configuration):
    x = torch.zeros(1, 16, 8, 8)
    args = (x, torch.zeros(1), torch.zeros(1, 7, 48), torch.zeros(1, 40), torch.ones(1), None, control, {})
    return calls.read_call(calls.call_shape("comfyui", "Flux"), args, {}, {"depth": 19, "depth_single_blocks": 38, **configuration})


def spread(blocks: int, each: int) -> list:
    """A ControlNet's tensors, one for so many blocks in a row."""
    tensors = [torch.full((1, 16, 64), float(number)) for number in range(-(-blocks // each))]
    return [tensors[number // each] for number in range(blocks)]


@pytest.mark.parametrize(("double", "single", "sent"), [(1, 1, (19, 38)), (4, 4, (5, 10)), (2, 38, (10, 1)), (19, 3, (1, 13))])
def test_a_transformers_controlnet_sends_each_tensor_once(double, single, sent):
    call = flux_call({"input": spread(19, double), "output": spread(38, single)})
    counts = tuple(sum(name.startswith(kind) for name in call.tensors) for kind in ("double_controls_", "single_controls_"))
    assert counts == sent and call.residuals == () and "double_controls_0" in call.optional
    for kind, blocks, count in (("double", 19, sent[0]), ("single", 38, sent[1])):
        expected = spread(blocks, double if kind == "double" else single)
        # As the engine spreads them.
        each = -(-blocks // count)
        assert all(torch.equal(call.tensors[f"{kind}_controls_{number // each}"], expected[number]) for number in range(blocks))


def test_a_tensor_that_stands_for_blocks_of_uneven_number_is_sent_for_each():
    one, other = torch.zeros(1, 16, 64), torch.ones(1, 16, 64)
    call = flux_call({"input": [one] * 2 + [other] * 17, "output": []})
    assert sum(name.startswith("double_controls_") for name in call.tensors) == 19


@pytest.mark.parametrize(
    ("control", "configuration"),
    [
        ({"input": spread(19, 1)}, {"depth": None}),
        ({"input": spread(19, 1), "middle": [torch.ones(1)]}, {}),
    ],
    ids=["no number of blocks", "a UNet's part"],
)  # fmt: skip
def test_a_transformers_controlnet_of_another_kind_is_refused(control, configuration):
    with pytest.raises(calls.NotServed, match="ControlNet"):
        flux_call(control, **configuration)


def told(call, name: str, blocks: int) -> list[torch.Tensor]:
    """What the engine adds behind each block: it spreads what it gets, and fills it up with zeros."""
    given = [call.tensors[f"{name}_{number}"] for number in range(64) if f"{name}_{number}" in call.tensors]
    each = -(-blocks // len(given)) if given else 1
    return [torch.nn.functional.pad(given[number // each], (0, 0, 0, 16 - given[number // each].shape[1])) for number in range(blocks)]


@pytest.mark.parametrize("left", [[18], [0], [3, 4, 11], list(range(1, 19)), list(range(9, 19))], ids=str)
@pytest.mark.parametrize("short", [False, True])
def test_a_transformers_controlnet_may_leave_out_blocks(left, short):
    given = [None if number in left else one for number, one in enumerate(spread(19, 1))]
    while short and given[-1] is None:
        given.pop()
    call = flux_call({"input": given, "output": []})
    nothing = torch.zeros(1, 16, 64)
    expected = [nothing if number in left else one for number, one in enumerate(spread(19, 1))]
    assert all(torch.equal(one, other) for one, other in zip(told(call, "double_controls", 19), expected, strict=True))


def test_what_a_transformers_controlnet_has_for_more_blocks_than_there_are_is_not_looked_at():
    call = flux_call({"input": spread(24, 1), "output": []})
    assert sum(name.startswith("double_controls_") for name in call.tensors) == 19


@pytest.mark.parametrize(("blocks", "sent", "last"), [(23, 12, False), (24, 12, True), (26, 12, True)])
def test_the_last_block_of_sd3_has_an_input_of_its_own(blocks, sent, last):
    """Most ControlNets of SD3 add nothing behind it: 12 tensors for 23 of 24 blocks go once each."""
    given = (spread(24, 2) + [torch.full((1, 16, 64), 99.0)] * 2)[:blocks]
    args = (torch.zeros(1, 16, 8, 8), torch.zeros(1), torch.zeros(1, 7, 4096), torch.zeros(1, 2048), {"output": given}, {})
    call = calls.read_call(calls.call_shape("comfyui", "SD3"), args, {}, {"depth": 24})
    assert sum(name.startswith("block_controls_") for name in call.tensors) == sent
    assert all(torch.equal(one, other) for one, other in zip(told(call, "block_controls", 23), given[:23], strict=True))
    assert ("last_control" in call.tensors) == last and call.residuals == ()
    assert not last or torch.equal(call.tensors["last_control"], given[23])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_tensors_go_over_the_wire_and_back(dtype):
    value = torch.arange(24).reshape(2, 3, 4).to(dtype).transpose(0, 2)
    sent = to_wire("x", value)
    assert torch.equal(from_bytes(bytes(sent.data), dtype, sent.shape), value)
    assert torch.equal(from_bytes(b"", dtype, (0, 4)), torch.empty(0, 4, dtype=dtype))


@pytest.mark.parametrize("inference", [False, True])
def test_digests_notice_a_change_in_place(inference):
    digests = Digests()
    with torch.inference_mode(inference):
        value = torch.arange(9, dtype=torch.float16)
        before = digests.of(value)
        assert digests.of(value.clone()) == before
        value[8] += 1
        assert digests.of(value) != before and len(bytes(raw_bytes(value))) == 18


def test_freshness_grows_when_a_used_file_was_rewritten(tmp_path):
    from refit_sidecar_plugin.files import stamp

    path = tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    assert freshness.freshness_of("base") == 0
    freshness.used("base", str(path), stamp(str(path)))
    assert freshness.freshness_of("base") == 0
    path.write_bytes(b"other")
    assert freshness.freshness_of("base") == 1 and freshness.freshness_of("base") == 1
    assert freshness.freshness_of("another") == 0


def test_hints_are_lora_names_of_prompts_wherever_they_stand():
    message = {"prompt": {"1": {"inputs": {"stack": [{"name": "a.safetensors"}, "b.safetensors"], "text": "a.safetensors is nice"}}}}
    assert hints.on_prompt(message) is message and hints.adapter_names() == ["a.safetensors"]
    assert hints.on_prompt({"number": 1}) == {"number": 1}


def test_the_status_node_tells_how_an_engine_serves_and_what_its_number_format_loses():
    from refit_sidecar_plugin.ui.comfyui.report import _engine_line

    engine = {
        "id": "e1", "family": "flux", "precision": "fp8", "host": "torch", "state": "LIVE", "reason": None, "memoryBytes": 2 << 20, "lastRefit": None,
        "serving": {
            "tier": "CUDA graphs", "refused": [{"steps": "compiled", "reason": "differs by 0.2"}], "base": "pinned", "deviceBytes": 1, "streamedBytes": 3 << 20,
            "quantised": {"format": "fp8", "way": "rowwise", "weightError": 0.021, "outputError": 0.03},
        },
        "losses": [
            {"adapter": "a" * 64, "projection": 0.99, "lostShare": 0.1, "merged": 1, "branched": 0},
            {"adapter": "b" * 64, "projection": 0.31, "lostShare": 0.8, "merged": 1, "branched": 0},
        ],
    }  # fmt: skip
    assert _engine_line(engine) == (
        "Engine e1: LIVE, flux fp8 on torch, 2 MiB\n"
        "  Steps: CUDA graphs; base: pinned, 3 MiB of weights copied for each step.\n"
        "  fp8 (rowwise): error of the weights 2.1%, of a step 3.0%.\n"
        "  Not used: compiled: differs by 0.2\n"
        "  LoRA 2 of the stack (bbbbbbbb): its number format keeps 31% of the change."
    )
    assert _engine_line({**engine, "serving": None, "losses": []}) == "Engine e1: LIVE, flux fp8 on torch, 2 MiB"
