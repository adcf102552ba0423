"""The prompts of the benchmark in ComfyUI."""

import pytest

from bench.ui.workflows import ONE_OF_EACH, SETTINGS, one_of_each, plan


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_name_stands_for_one_prompt(kind):
    named = {}
    for name, prompt in plan(64, kind):
        assert named.setdefault(name, prompt) == prompt


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_card_of_another_size_gets_prompts_of_the_table_and_each_changes_something(kind):
    table = dict(plan(64, kind))
    prompts = list(one_of_each(64, kind))
    assert all(table[name] == prompt for name, prompt in prompts)
    assert all(one != other for (_, one), (_, other) in zip(prompts, prompts[1:], strict=False))


def test_a_model_with_several_checkpoints_gets_all_of_them():
    assert tuple(name for name, _ in one_of_each(64, "real")) == ONE_OF_EACH
