"""Which files a model's patches came from: exact, ordered, and never a guess."""

import hashlib
import itertools
import random

import pytest
from refit_sidecar_plugin.stack import Candidate, ContentItem, FileItem, NotExpressible, Patch, Target, TensorRef, content_tensors, identify


def tensor(text: str, shape=(4, 2), dtype="F16") -> TensorRef:
    data = text.encode().ljust(16, b".")
    return TensorRef(dtype, shape, lambda: hashlib.sha256(data).hexdigest(), lambda: data)


def patch(parameter: str, value: str, strength: float = 1.0, **target) -> Patch:
    parts = (("lora_up.weight", tensor(value + "up")), ("lora_down.weight", tensor(value + "down")), ("alpha", 2.0))
    return Patch(Target(parameter, **target), "lora", parts, strength)


def file(name: str, *parameters: str) -> list[Patch]:
    return [patch(parameter, f"{name}/{parameter}") for parameter in parameters]


def candidate(name: str, patches: list[Patch] | None, sha256: str | None = "") -> Candidate:
    return Candidate(name, lambda: patches, lambda: f"sha of {name}" if sha256 == "" else sha256)


def apply(*layers: tuple[list[Patch], float]) -> dict[str, list[Patch]]:
    """What a model holds after these layers were added in order."""
    live: dict[str, list[Patch]] = {}
    for patches, strength in layers:
        for one in patches:
            live.setdefault(one.target.parameter, []).append(Patch(one.target, one.kind, one.parts, strength))
    return live


def named(items):
    return [(item.name, item.strength) if isinstance(item, FileItem) else (len(item.patches), item.strength) for item in items]


A, B = file("a", "x.weight", "y.weight", "z.weight"), file("b", "y.weight", "w.weight")


def test_identify_names_whole_files_in_order_of_application():
    candidates = [candidate("b", B), candidate("a", A)]
    assert named(identify(apply((A, 0.8), (B, -0.3)), candidates)) == [("a", 0.8), ("b", -0.3)]
    assert named(identify(apply((B, -0.3), (A, 0.8)), candidates)) == [("b", -0.3), ("a", 0.8)]


def test_identify_of_no_patches_asks_for_no_candidate():
    def never():
        raise AssertionError("a candidate was read")

    assert identify({}, [Candidate("a", never, never)]) == []


def test_identify_tells_files_apart_that_differ_in_one_tensor():
    twin = [*A[:-1], patch("z.weight", "other value")]
    assert named(identify(apply((twin, 1.0)), [candidate("a", A), candidate("twin", twin)])) == [("twin", 1.0)]
    assert named(identify(apply((twin, 1.0)), [candidate("a", A)])) == [(3, 1.0)]


@pytest.mark.parametrize("change", ["dtype", "shape", "alpha"])
def test_identify_needs_dtype_shape_and_scalars_to_be_equal(change):
    parts = dict(A[0].parts)
    if change == "dtype":
        parts["lora_up.weight"] = TensorRef("BF16", (4, 2), parts["lora_up.weight"].digest, parts["lora_up.weight"].read)
    elif change == "shape":
        parts["lora_up.weight"] = TensorRef("F16", (2, 4), parts["lora_up.weight"].digest, parts["lora_up.weight"].read)
    else:
        parts["alpha"] = 3.0
    other = [Patch(A[0].target, "lora", tuple(parts.items())), *A[1:]]
    assert all(isinstance(item, ContentItem) for item in identify(apply((A, 1.0)), [candidate("a", other)]))


def test_identify_does_not_name_a_file_of_which_a_layer_was_left_out_or_weighted_differently():
    left_out = apply((A[1:], 1.0))
    weighted = apply((A[:1], 0.5), (A[1:], 1.0))
    assert named(identify(left_out, [candidate("a", A)])) == [(2, 1.0)]
    assert sorted(named(identify(weighted, [candidate("a", A)]))) == [(1, 0.5), (2, 1.0)]


def test_identify_finds_one_file_applied_twice():
    assert named(identify(apply((A, 0.5), (A, 0.25)), [candidate("a", A)])) == [("a", 0.5), ("a", 0.25)]
    assert named(identify(apply((A, 0.5), (A, 0.5)), [candidate("a", A)])) == [("a", 0.5), ("a", 0.5)]


def test_identify_keeps_leftovers_in_their_place_between_files():
    odd = [patch("y.weight", "from nowhere")]
    assert named(identify(apply((A, 1.0), (odd, 0.7), (B, 2.0)), [candidate("a", A), candidate("b", B)])) == [
        ("a", 1.0),
        (1, 0.7),
        ("b", 2.0),
    ]


def test_identify_gives_one_file_by_content_when_two_cannot_both_be_whole():
    one, two = file("one", "x.weight", "y.weight"), file("two", "x.weight", "y.weight")
    live = {"x.weight": [one[0], two[0]], "y.weight": [two[1], one[1]]}
    items = identify(live, [candidate("one", one), candidate("two", two)])
    assert sum(isinstance(item, FileItem) for item in items) == 1
    assert replay(items) == live


def test_identify_does_not_name_a_file_that_changed_while_it_was_read():
    assert named(identify(apply((A, 1.0)), [candidate("a", A, sha256=None)])) == [(3, 1.0)]
    assert named(identify(apply((A, 1.0)), [candidate("a", None)])) == [(3, 1.0)]


def test_identify_searches_by_tensor_only_for_what_the_candidates_leave():
    asked = []

    def find(wanted: Patch):
        asked.append(wanted.target.parameter)
        return candidate("b", B)

    assert named(identify(apply((A, 1.0), (B, 1.0)), [candidate("a", A)], find)) == [("a", 1.0), ("b", 1.0)]
    assert len(asked) == 1


def test_identify_stops_searching_after_a_few_empty_answers():
    asked = []
    live = apply((file("c", *(f"p{index}.weight" for index in range(50))), 1.0))
    identify(live, [], lambda wanted: asked.append(wanted) or None)
    assert len(asked) == 3


def fused(name: str, *rows: tuple[int, int]) -> list[Patch]:
    """A file with one patch for each of these rows of one fused weight, and one on another weight."""
    return [*(patch("qkv.weight", f"{name}/{start}", rows=(start, length)) for start, length in rows), patch("out.weight", f"{name}/out")]


QKV = ((0, 4), (4, 4), (8, 4))


def test_identify_names_a_file_with_several_patches_on_one_weight():
    one, two = fused("one", *QKV), fused("two", *QKV)
    candidates = [candidate("two", two), candidate("one", one)]
    assert named(identify(apply((one, 0.5)), candidates)) == [("one", 0.5)]
    assert named(identify(apply((one, 0.5), (two, 1.0)), candidates)) == [("one", 0.5), ("two", 1.0)]
    assert named(identify(apply((two, 1.0), (one, 0.5), (two, 0.25)), candidates)) == [("two", 1.0), ("one", 0.5), ("two", 0.25)]


def test_identify_orders_a_file_on_the_whole_weight_between_files_on_its_rows():
    whole, rows = file("whole", "qkv.weight"), fused("rows", *QKV)
    candidates = [candidate("whole", whole), candidate("rows", rows)]
    assert named(identify(apply((rows, 1.0), (whole, 0.5)), candidates)) == [("rows", 1.0), ("whole", 0.5)]
    assert named(identify(apply((whole, 0.5), (rows, 1.0)), candidates)) == [("whole", 0.5), ("rows", 1.0)]


def test_identify_lets_rows_pass_each_other_that_do_not_overlap():
    """One parameter holds the files interleaved; no order of theirs has a meaning there."""
    one, two = [patch("qkv.weight", "one", rows=(0, 4))], [patch("qkv.weight", "two", rows=(4, 4))]
    live = {"qkv.weight": [two[0], one[0]]}
    assert sorted(named(identify(live, [candidate("one", one), candidate("two", two)]))) == [("one", 1.0), ("two", 1.0)]


def test_a_file_that_is_not_next_on_one_of_its_rows_waits():
    one, two = fused("one", *QKV), fused("two", (4, 4))
    live = apply((one, 1.0), (two, 1.0))
    live["qkv.weight"] = [live["qkv.weight"][3], *live["qkv.weight"][:3]]
    items = identify(live, [candidate("one", one), candidate("two", two)])
    assert sum(isinstance(item, FileItem) for item in items) == 1, items


def replay(items) -> dict[str, list[Patch]]:
    """Applies a stack: what an engine computes from it, in order."""
    live: dict[str, list[Patch]] = {}
    for item in items:
        for one in item.patches:
            assert one.strength == item.strength
            live.setdefault(one.target.parameter, []).append(one)
    return live


def test_identify_always_replays_to_the_same_patches():
    """Random stacks of overlapping files, some unknown, some with layers taken out: whatever is named, the order per parameter is kept."""
    rng = random.Random(7)
    names = [f"p{index}.weight" for index in range(8)]
    files = [file(f"f{index}", *rng.sample(names, rng.randint(1, 6))) for index in range(6)]
    for _ in range(200):
        layers = [(rng.choice(files), rng.choice([0.5, 1.0, -1.0])) for _ in range(rng.randint(1, 5))]
        live = apply(*layers)
        for parameter in rng.sample(sorted(live), min(2, len(live))):
            if rng.random() < 0.3:
                live[parameter].pop(rng.randrange(len(live[parameter])))
        known = [candidate(f"f{index}", patches) for index, patches in enumerate(files) if rng.random() < 0.8]
        rng.shuffle(known)
        assert replay(identify(live, known)) == {parameter: patches for parameter, patches in live.items() if patches}


def test_content_tensors_names_layers_by_their_own_parameter():
    item = ContentItem((patch("b.weight", "v"), Patch(Target("a.bias"), "diff", (("diff", tensor("bias")),))), 1.0)
    assert [name for name, *_ in content_tensors(item)] == [
        "diffusion_model.a.bias.diff", "diffusion_model.b.lora_up.weight", "diffusion_model.b.lora_down.weight", "diffusion_model.b.alpha",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [patch("a.weight", "v", rows=(0, 2)), patch("a.weight", "v", swapped=True), Patch(Target("a.weight"), "model_as_lora", ())]
)
def test_content_tensors_refuses_what_no_file_can_say(wrong):
    with pytest.raises(NotExpressible, match="a"):
        content_tensors(ContentItem((wrong,), 1.0))


def test_frozen_patch_compares_like_the_original_and_holds_no_values():
    frozen = A[0].frozen()
    assert frozen.outline() == A[0].outline() and frozen.same_values(A[0])
    with pytest.raises(RuntimeError, match="no tensor values"):
        dict(frozen.parts)["lora_up.weight"].read()


def test_all_permutations_of_disjoint_files_are_whole():
    files = {name: file(name, f"{name}.weight") for name in "abc"}
    for order in itertools.permutations("abc"):
        items = identify(apply(*((files[name], 1.0) for name in order)), [candidate(name, patches) for name, patches in files.items()])
        assert sorted(named(items)) == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


def test_tensors_that_differ_in_their_samples_are_told_apart_without_a_digest():
    def never() -> str:
        raise AssertionError("a digest was asked for")

    def ref(sample: bytes | None, digest=never) -> TensorRef:
        return TensorRef("F16", (4, 2), digest, lambda: b"", sample=lambda: sample)

    assert not ref(b"one").same(ref(b"two"))
    assert ref(b"one", lambda: "same").same(ref(b"one", lambda: "same"))
    assert not ref(b"one", lambda: "x").same(ref(None, lambda: "y"))
    patch = Patch(Target("w"), "diff", (("diff", ref(b"one", lambda: "same")),))
    assert not patch.frozen().same_values(Patch(Target("w"), "diff", (("diff", ref(b"two")),)))
