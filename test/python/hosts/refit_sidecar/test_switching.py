"""The quick ways of switching adapters leave PEFT's layers as diffusers' own calls do, and what is changed behind them is noticed all the same."""

import copy
import pickle

import pytest
import torch
from pairs import Pair
from peft.tuners.tuners_utils import BaseTunerLayer
from refit_sidecar import State
from refit_sidecar.counted import CountedDict, CountedList
from refit_sidecar.switching import layers_of
from small_models import sd15, sd15_call


@pytest.fixture
def pair() -> Pair:
    found = Pair(sd15, sd15_call)
    for seed, name in enumerate("abc"):
        found.add(name, rank=2 + seed, seed=seed)
    found.both(lambda module: module.set_adapters(["a"], [1.0]))
    found.check()
    return found


def _state(module):
    """All that PEFT's layers say of their adapters."""
    rows = {}
    for name, layer in module.named_modules():
        if isinstance(layer, BaseTunerLayer):
            wants = {key: value.requires_grad for key, value in layer.named_parameters() if ".base_layer." not in f".{key}"}
            rows[name] = (list(layer.active_adapters), layer.disable_adapters, list(layer.merged_adapters), dict(layer.scaling), wants)
    return rows


CALLS = {
    "one": lambda module: module.set_adapters(["b"], [0.7]),
    "a name alone": lambda module: module.set_adapters("c"),
    "no strengths": lambda module: module.set_adapters(["a", "c"]),
    "one strength for all": lambda module: module.set_adapters(["a", "b"], 0.3),
    "some": lambda module: module.set_adapters(["c", "a"], [None, -1]),
    "off": lambda module: module.disable_lora(),
    "off, the other call": lambda module: module.disable_adapters(),
    "off and on": lambda module: (module.disable_lora(), module.set_adapters(["b"], [0.2]), module.enable_lora()),
    "off and on, the other calls": lambda module: (module.disable_adapters(), module.enable_adapters()),
    "by block": lambda module: module.set_adapters(["a", "b"], [{"mid": 0.5}, 0.2]),
    "after gradients were taken away": lambda module: (module.requires_grad_(False), module.set_adapters(["b", "a"], [1.0, 1.0])),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_layers_are_left_as_by_diffusers_own_call(pair, call):
    pair.both(CALLS[call])
    assert _state(pair.module) == _state(pair.plain)
    pair.check()
    pair.both(lambda module: (module.enable_lora(), module.set_adapters(["a"], [0.5])))
    assert _state(pair.module) == _state(pair.plain)
    pair.check()


def test_refusals_are_diffusers_own(pair):
    for module in (pair.plain, pair.module):
        with pytest.raises(ValueError, match="not equal to the length"):
            module.set_adapters(["a", "b"], [1.0])
    assert _state(pair.module) == _state(pair.plain)


def _layer(module):
    return layers_of(module)[1]


def _exchange_while_off(module):
    """A factor of an adapter that is off becomes another object, then the adapter is switched on."""
    factors = _layer(module).lora_B["b"]
    factors.weight = torch.nn.Parameter(factors.weight.detach() * 2)
    module.set_adapters(["b"], [1.0])


def _write_while_off(module):
    _layer(module).lora_A["b"].weight.data.mul_(1.5)
    module.set_adapters(["b"], [1.0])


def _in_the_dict(module):
    held = _layer(module).lora_A["a"]._parameters
    held["weight"] = torch.nn.Parameter(held["weight"].detach() * 3)


def _whole_factor(module):
    old = _layer(module).lora_A["a"]
    new = torch.nn.Linear(old.in_features, old.out_features, bias=False)
    torch.manual_seed(3)
    torch.nn.init.normal_(new.weight)
    _layer(module).lora_A["a"] = new


def _take_from_a_layer(module):
    layer = _layer(module)
    del layer.lora_A["a"], layer.lora_B["a"], layer.scaling["a"]


def _one_layer(key, value):
    def write(module):
        setattr(_layer(module), key, value)

    return write


BEHIND = {
    "a factor exchanged while it was off": _exchange_while_off,
    "a factor written while it was off": _write_while_off,
    "a factor in the module's dict": _in_the_dict,
    "a whole factor": _whole_factor,
    "an adapter gone from one layer": _take_from_a_layer,
    "a strength of one layer": lambda module: _layer(module).scaling.update(a=0.1),
    "a strength by PEFT's own call": lambda module: _layer(module).scale_layer(0.5),
    "one layer with another adapter": _one_layer("_active_adapter", ["c"]),
    "the list of active adapters itself": lambda module: _layer(module)._active_adapter.append("b"),
    "one layer off": lambda module: _layer(module).enable_adapters(False),
    "one layer merged": lambda module: _layer(module).merge(),
    "swapped with another tensor": lambda module: torch.utils.swap_tensors(
        _layer(module).lora_B["a"].weight, torch.nn.Parameter(torch.ones_like(_layer(module).lora_B["a"].weight), False)
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", BEHIND)
def test_what_is_done_behind_the_quick_ways_is_noticed(pair, way):
    before = pair.check()
    pair.both(BEHIND[way])
    assert pair.module.state is not State.LIVE
    # A merged layer computes the same as one with its adapter beside it.
    assert torch.equal(pair.check(), before) == (way == "one layer merged")


def test_a_swapped_parameter_is_still_watched(pair):
    for module in (pair.plain, pair.module):
        torch.utils.swap_tensors(module.conv_in.bias, torch.nn.Parameter(torch.ones_like(module.conv_in.bias), False))
    pair.check()
    pair.both(lambda module: module.conv_in.bias.data.mul_(3))
    assert pair.module.state is State.NEEDS_REFIT
    pair.check()


def test_copies_pickles_and_the_unwrapped_module_are_plain(pair):
    pair.both(lambda module: _layer(module).merge())
    for made in (copy.deepcopy(pair.module), pickle.loads(pickle.dumps(pair.module)), pair.module.unwrap()):
        assert not any(isinstance(value, (CountedDict, CountedList)) for each in made.modules() for value in vars(each).values())
        assert [type(each) for each in made.modules()] == [type(each) for each in pair.plain.modules()]
        with torch.no_grad():
            assert torch.allclose(made(*pair.args, **pair.kwargs).sample, pair.plain(*pair.args, **pair.kwargs).sample, atol=1e-5)
