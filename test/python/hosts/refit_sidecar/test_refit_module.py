"""Every call that changes a module's weights, against the plain module: noticed, right, and back bit for bit."""

import copy
import io
import pickle

import pytest
import torch
from pairs import Pair
from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model
from refit_host.quant.formats import FORMATS
from refit_sidecar import RefitModule, State, refit_module_weights
from small_models import FAMILIES, sd15, sd15_call, seeded


@pytest.fixture
def pair() -> Pair:
    return Pair(sd15, sd15_call)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_follows_its_adapters_and_comes_back_bit_for_bit(family):
    pair = Pair(*FAMILIES[family])
    base = pair.check()
    pair.add("a")
    with_a = pair.check()
    assert not torch.equal(with_a, base)
    pair.add("b", rank=2, seed=1)
    pair.both(lambda module: module.set_adapters(["a", "b"], [0.7, -0.4]))
    pair.check()
    pair.both(lambda module: module.set_adapters(["a"], [1.0]))
    assert torch.equal(pair.check(), with_a)
    pair.both(lambda module: module.disable_adapters())
    assert torch.equal(pair.check(), base)
    pair.both(lambda module: module.enable_adapters())
    pair.check()
    pair.both(lambda module: module.delete_adapters(["a", "b"]))
    assert torch.equal(pair.check(), base)
    assert pair.module.counts["builds"] == 1 and pair.module.counts["original"] == 0


def test_it_is_the_module_itself(pair):
    module = pair.module
    assert isinstance(module, RefitModule) and isinstance(module, type(pair.plain)) and type(module).__name__ == "UNet2DConditionModel"
    assert module.config == pair.plain.config and module.dtype == torch.float32 and module.device == torch.device("cpu")
    assert list(module.state_dict()) == list(pair.plain.state_dict())
    clone = copy.deepcopy(module)
    assert type(clone) is type(pair.plain) and type(pickle.loads(pickle.dumps(module))) is type(pair.plain)
    seen = []
    module.register_forward_hook(lambda *_: seen.append(1))
    pair.check()
    assert seen == [1]
    plain = module.unwrap()
    assert plain is module and type(plain) is type(pair.plain)
    with torch.no_grad():
        assert torch.allclose(plain(*pair.args, **pair.kwargs).sample, pair.plain(*pair.args, **pair.kwargs).sample)


def test_states_are_told_with_their_reasons(pair):
    told = []
    end = pair.module.on_state(lambda state, reason: told.append((state, reason)))
    assert pair.module.state is State.NEEDS_RECOMPILE
    pair.check()
    assert pair.module.state is State.LIVE
    with torch.no_grad():
        pair.module.conv_in.weight.mul_(2)
        pair.plain.conv_in.weight.mul_(2)
    assert pair.module.state is State.NEEDS_REFIT and "conv_in.weight" in pair.module.reason
    pair.check()
    assert pair.module.last_refit.written == ("conv_in.weight",)
    pair.both(lambda module: setattr(module, "conv_out", torch.nn.Sequential(module.conv_out)))
    assert pair.module.state is State.NEEDS_RECOMPILE and "conv_out" in pair.module.reason
    pair.check()
    assert pair.module.counts["builds"] == 2
    assert [state for state, _ in told][:3] == [State.LIVE, State.NEEDS_REFIT, State.LIVE]
    end()


def _optimiser(kind, **options):
    def step(module):
        module.requires_grad_(True)
        with torch.enable_grad():
            optimiser = kind(module.conv_in.parameters(), lr=0.1, **options)
            loss = module.conv_in(torch.ones(1, 4, 8, 8)).square().sum()
            loss.backward()
            optimiser.step()
        module.requires_grad_(False)

    return step


def _half_and_back(module):
    for parameter in module.conv_in.parameters():
        parameter.data = parameter.data.half().float() * 1.5


def _tied(module):
    module.conv_out.bias.data[...] = 3.0


def _buffer_like(module):
    with torch.no_grad():
        for parameter in module.mid_block.parameters():
            parameter.copy_(parameter * 0.9)


WRITES = {
    "in place": lambda module: module.conv_in.weight.data.add_(0.1),
    "in place through detach": lambda module: module.conv_in.weight.detach().add_(0.1),
    "data assigned": _half_and_back,
    "one element": lambda module: module.conv_in.weight.data.view(-1).__setitem__(3, 9.0),
    "a slice through data": _tied,
    "new parameter": lambda module: setattr(module.conv_in, "weight", torch.nn.Parameter(torch.randn_like(module.conv_in.weight))),
    "load_state_dict": lambda module: module.load_state_dict({name: value * 1.1 for name, value in module.state_dict().items()}),
    "load_state_dict, assigned": lambda module: module.load_state_dict({name: value * 1.1 for name, value in module.state_dict().items()}, assign=True),
    "a part of the module": _buffer_like,
    "SGD": _optimiser(torch.optim.SGD), "AdamW, foreach": _optimiser(torch.optim.AdamW, foreach=True), "AdamW, fused": _optimiser(torch.optim.AdamW, fused=True),
    "copied by foreach": lambda module: torch._foreach_mul_([each.detach() for each in module.conv_in.parameters()], 1.3),
    "swap_tensors": lambda module: torch.utils.swap_tensors(module.conv_in.bias, torch.nn.Parameter(torch.ones_like(module.conv_in.bias))),
    "refit_module_weights": lambda module: refit_module_weights(module, {"conv_in.weight": torch.full_like(module.conv_in.weight, 0.1)}),
}  # fmt: skip


@pytest.mark.parametrize("way", WRITES)
def test_every_way_of_writing_is_noticed(pair, way):
    before = pair.check()
    pair.both(WRITES[way])
    assert pair.module.state is not State.LIVE
    after = pair.check()
    assert not torch.equal(before, after)
    pair.both(WRITES[way])
    pair.check()


def test_an_alias_that_was_taken_before_is_watched(pair):
    held = [module.conv_in.weight.data for module in (pair.plain, pair.module)]
    pair.check()
    for each in held:
        each.mul_(0.5)
    pair.check()
    assert pair.module.last_refit.written == ("conv_in.weight",)


KINDS = [
    {"use_dora": True},
    {"use_rslora": True},
    {"lora_bias": True, "target_modules": ["to_out.0"]},
    {"rank_pattern": {"to_q": 7}, "alpha_pattern": {"to_k": 3}},
]


@pytest.mark.parametrize("options", KINDS)
def test_kinds_of_lora(pair, options):
    base = pair.check()
    pair.add("a", **options)
    pair.check()
    pair.both(lambda module: module.set_adapters(["a"], [0.5]))
    pair.check()
    pair.both(lambda module: module.disable_adapters())
    assert torch.equal(pair.check(), base)


@pytest.mark.parametrize("kind", [LoHaConfig, LoKrConfig])
def test_other_kinds_of_adapters(pair, kind):
    pair.check()
    pair.both(lambda module: inject_adapter_in_model(kind(r=4, alpha=4, target_modules=["to_q", "to_v"], init_weights=False), module, "a"))
    pair.check()
    assert pair.module.last_refit.adapters == ("a",)


def test_fused_and_unfused(pair):
    pair.check()
    pair.add("a")
    pair.check()
    pair.both(lambda module: module.fuse_lora(0.6))
    pair.check()
    pair.both(lambda module: module.unfuse_lora())
    pair.check()
    pair.both(lambda module: module.fuse_lora())
    pair.both(lambda module: module.unload_lora())
    pair.check()


def test_strengths_by_block(pair):
    pair.add("a")
    pair.check()
    pair.both(lambda module: module.set_adapters(["a"], [{"down": 0.2, "mid": 0.5, "up": {"block_1": [0.1, 0.9]}}]))
    pair.check()


def test_the_strength_of_one_call(pair):
    pair.add("a")
    full = pair.check()
    pair.kwargs["cross_attention_kwargs"] = {"scale": 0.3}
    pair.check()
    del pair.kwargs["cross_attention_kwargs"]
    assert torch.allclose(pair.check(), full, atol=1e-5)


def test_wrapped_with_adapters_already_there():
    pair = Pair(sd15, sd15_call)
    pair.module.unwrap()
    pair.add("a")
    pair.module = RefitModule(pair.module)
    pair.check()
    pair.both(lambda module: module.set_adapters(["a"], [0.3]))
    pair.check()


def test_the_adapters_context(pair):
    pair.add("a")
    pair.add("b", seed=1)
    pair.both(lambda module: module.set_adapters(["a"], [1.0]))
    before = pair.check()
    with pair.module.adapters(a=0.8, b=-0.2):
        pair.plain.set_adapters(["a", "b"], [0.8, -0.2])
        pair.check()
    with pair.module.adapters():
        pair.plain.disable_adapters()
        pair.check()
        pair.plain.enable_adapters()
    pair.plain.set_adapters(["a"], [1.0])
    assert torch.equal(pair.check(), before)
    with pytest.raises(KeyError, match="it has a, b"), pair.module.adapters(c=1.0):
        pass


def test_refit_by_name_and_its_refusals(pair):
    pair.check()
    value = torch.randn_like(pair.plain.conv_in.weight)
    done = pair.module.refit(**{"conv_in.weight": value})
    assert done.written == ("conv_in.weight",) and pair.module.state is State.LIVE
    refit_module_weights(pair.plain, {"conv_in.weight": value})
    pair.check()
    with pytest.raises(KeyError, match="nothing_here"):
        pair.module.refit(nothing_here=value, **{"conv_in.weight": value * 2})
    with pytest.raises(ValueError, match="expected the shape"):
        refit_module_weights(pair.module, {"conv_in.bias": torch.zeros(1), "conv_in.weight": value * 2})
    assert torch.equal(pair.module.conv_in.weight, value)
    assert set(pair.module.refit_map.values()) == {"refittable"}


def test_an_attribute_that_may_matter_is_compared(pair):
    pair.check()
    pair.both(lambda module: setattr(module.mid_block.attentions[0], "noted", "for later"))
    assert pair.module.state is State.UNKNOWN
    pair.check()
    assert pair.module.counts["builds"] == 1
    pair.both(lambda module: setattr(module.mid_block.resnets[0], "output_scale_factor", 2.0))
    assert pair.module.state is State.UNKNOWN
    pair.check()
    assert pair.module.counts["builds"] == 2


def test_when_the_original_answers(pair):
    pair.check()
    with torch.enable_grad():
        pair.args[0].requires_grad_(True)
        pair.module(*pair.args, **pair.kwargs).sample.sum().backward()
        assert pair.args[0].grad is not None and pair.module.served_by == "original: gradients are wanted (use torch.no_grad())"
    pair.args[0].requires_grad_(False)
    pair.both(lambda module: module.train())
    pair.check(served="original: the module is in training mode")
    pair.both(lambda module: module.eval())
    pair.check()
    pair.both(lambda module: module.mid_block.register_forward_hook(lambda *_: None))
    pair.check(served="original: an inner module has hooks")


def test_a_merge_that_fails_leaves_the_right_answer(pair, monkeypatch):
    pair.add("a", use_dora=True)
    pair.check()
    import refit_sidecar.weights as weights

    real, calls = weights.merged_values, []

    def once(*given):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("planted")
        return real(*given)

    monkeypatch.setattr(weights, "merged_values", once)
    pair.both(lambda module: module.set_adapters(["a"], [0.5]))
    pair.check()
    assert pair.module.counts["builds"] == 2


def test_what_cannot_be_served_stays_itself(caplog):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
            self.lock = __import__("threading").Lock()

        def forward(self, x):
            return self.inner(x)

    module = RefitModule(Counting().eval())
    with torch.no_grad():
        assert module(torch.ones(1, 2)).shape == (1, 2)
        module(torch.ones(1, 2))
    assert module.served_by.startswith("original: the module cannot be copied")
    assert sum("the original module runs" in record.message for record in caplog.records) == 1


def test_other_number_formats():
    for precision, limit in (("bf16", 0.1), ("fp16", 0.02)):
        pair = Pair(sd15, sd15_call, precision=precision)
        pair.add("a")
        got = pair.check(limit)
        assert got.dtype == torch.float32
        pair.both(lambda module: module.set_adapters(["a"], [0.5]))
        pair.check(limit)


@pytest.mark.parametrize("precision", sorted(FORMATS))
def test_matrices_held_as_codes(precision):
    pair = Pair(*FAMILIES["flux"], precision=precision)
    limit = 0.4 if precision == "nvfp4" else 0.2
    base = pair.check(limit)
    pair.add("a")
    with_a = pair.check(limit)
    assert not torch.equal(base, with_a)
    coded = pair.module._refit._weights.coded
    for name in coded.names:
        layer = pair.plain.get_submodule(name.removesuffix(".weight"))
        merged = layer.base_layer.weight + layer.get_delta_weight("a") if hasattr(layer, "base_layer") else layer.weight
        value = coded.stored.value(coded.layout.by_name[name], coded.live).float()
        # Half a step of the format over the largest value of a row or block, as a root mean square.
        assert float((value - merged).norm() / merged.norm()) < {"fp8": 0.04, "int8": 0.02, "nvfp4": 0.15}[precision], name
    pair.add("b", seed=1, use_dora=True)
    pair.both(lambda module: module.set_adapters(["b"], [0.5]))
    pair.check(limit)
    pair.both(lambda module: module.set_adapters(["a"], [1.0]))
    assert torch.equal(pair.check(limit), with_a)
    pair.both(lambda module: module.disable_adapters())
    assert torch.equal(pair.check(limit), base)


def test_options_are_checked():
    module = seeded(sd15)
    with pytest.raises(TypeError, match="no option colour"):
        RefitModule(module, colour="red")
    with pytest.raises(ValueError, match="precision: expected one of"):
        RefitModule(module, precision="fp3")
    with pytest.raises(TypeError, match="expected a torch.nn.Module"):
        RefitModule("unet")
    wrapped = RefitModule(module)
    with pytest.raises(TypeError, match="is one already"):
        RefitModule(wrapped)


def test_saved_with_torch_it_is_the_plain_module(pair):
    pair.check()
    out = io.BytesIO()
    torch.save(pair.module, out)
    out.seek(0)
    assert type(torch.load(out, weights_only=False)) is type(pair.plain)
