"""Family descriptions in Python: the expressions that both languages read, families and places of real headers. Needs no torch."""

import gzip
import json
from pathlib import Path

import pytest
from refit_graphs.descriptions import Described, canonical_names, descriptions, family_of
from refit_graphs.errors import UnsupportedStructure
from refit_graphs.expression import ExpressionError, evaluate
from refit_host.checked.families import read_families

TESTS = Path(__file__).parents[3]
CORPUS = json.loads((TESTS / "expressions.json").read_text("utf-8"))
SHAPES = {name: tuple(shape) for name, shape in CORPUS["shapes"].items()}
EXPECTED = json.loads((TESTS / "golden2" / "detect.json").read_text("utf-8"))
# Parameters that diffusers keeps in another model, or not at all, and shapes that it has otherwise.
ELSEWHERE = ("llm_adapter.", "audio_embeddings_connector.", "video_embeddings_connector.")


@pytest.mark.parametrize(("text", "value"), CORPUS["good"])
def test_an_expression_has_the_value_that_typescript_gives_it(text, value):
    assert evaluate(text, SHAPES, CORPUS["named"].get) == value


@pytest.mark.parametrize("text", CORPUS["bad"])
def test_other_text_is_refused(text):
    with pytest.raises(ExpressionError):
        evaluate(text, SHAPES, CORPUS["named"].get)


def test_the_descriptions_are_read_as_typescript_has_them():
    text = (TESTS.parent / "protocol/src/families/table.ts").read_text("utf-8")
    rows = text.partition("export const familyTable")[2].partition("\n];")[0].splitlines()[1:]
    described = [{key: value for key, value in json.loads(row.rstrip(",")).items() if key != "ran"} for row in rows]
    assert list(descriptions().values()) == described


def test_a_package_that_was_not_copied_whole_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="described"):
        read_families(tmp_path / "refit_graphs", tmp_path)


def header(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in json.loads(gzip.decompress(path.read_bytes())).items()}


def canonical(model: str) -> dict[str, tuple[int, ...]]:
    stored = header(TESTS / "golden" / "headers" / f"{model}.json.gz")
    names = canonical_names(stored)
    return {names[name]: shape for name, shape in stored.items()}


@pytest.mark.parametrize("model", EXPECTED)
def test_a_real_model_is_of_its_family(model):
    found = family_of(canonical(model))
    assert found is not None
    assert found.family == EXPECTED[model]["family"]


@pytest.mark.parametrize(
    "model",
    [
        model
        for model in EXPECTED
        if model not in ("minimax-h3", "wan22-animate-14b", "wan22-s2v-14b", "qwen-image-edit-2511", "kandinsky5-lite-image")
    ],
)
def test_every_parameter_has_its_place_in_diffusers(model):
    shapes = canonical(model)
    described = Described(EXPECTED[model]["family"], shapes)
    theirs = header(TESTS / "golden2" / "headers-diffusers" / f"{model}.json.gz")
    for name, shape in shapes.items():
        if name.startswith(ELSEWHERE):
            continue
        for place in described.places(name):
            rows = shape[0] if place.length is None else place.length
            size = rows
            for dim in shape[1:]:
                size *= dim
            found = theirs.pop(place.name)
            total = 1
            for dim in found:
                total *= dim
            assert total == size, (name, place)
    assert theirs == {}


def test_a_name_that_the_family_lacks_is_refused():
    with pytest.raises(UnsupportedStructure, match=descriptions()["z-image"]["title"]):
        Described("z-image", canonical("z-image")).places("layers.0.attention.nonsense.weight")
