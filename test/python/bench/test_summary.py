"""One JSON of a run: what the rows become, and that the committed files are those of the committed rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.summary import read_rows, summary, times

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = (
    ("h200-2026-11-30-module", "bench/gpu/results/h200-2026-11-30.jsonl", "second"),
    ("h200-2026-11-30-product", "bench/gpu/results/h200-2026-11-30.jsonl", "product"),
    ("h200-2026-12-01-comfyui", "bench/ui/results/h200-2026-12-01.jsonl", "one-run-0.3.64"),
)


@pytest.mark.parametrize(("name", "rows", "run"), COMMITTED)
def test_a_committed_file_is_what_its_rows_give(name, rows, run):
    file = json.loads((ROOT / f"bench/results/{name}.json").read_text("utf-8"))
    again = summary(
        read_rows(ROOT / rows, run), date=file["date"], command=file["command"], computer=file["computer"], versions=file["versions"]
    )
    assert again == file


def test_percentiles_of_few_and_of_many():
    assert times([3.0]) == {"unit": "ms", "p50": 3.0, "p95": 3.0, "n": 1}
    assert times(range(100)) == {"unit": "ms", "p50": 49.5, "p95": 95, "n": 100}


def test_a_peer_swaps_the_layers_that_ours_swaps():
    timed = {"median_ms": 10.0, "p95_ms": 11.0, "n": 12, "piece": "module", "model": "sdxl"}
    rows = [
        {**timed, "what": "RefitModule: swap between two adapters, set_adapters included", "tier": "graphs", "layers": 722, "rank": 16},
        {**timed, "what": "PEFT: unfuse and fuse"},
        {**timed, "what": "hotswap: swap"},
        {**timed, "what": "something that no page shows"},
    ]
    found = summary(rows, date="2026-01-01", command="c", computer={}, versions={})["rows"]
    assert [(row["by"], row["phase"], row["layers"], row["rank"], row["p50"], row["p95"]) for row in found] == [
        ("refit", "swap", 722, 16, 10.0, 11.0),
        ("peft", "swap", 722, 16, 10.0, 11.0),
        ("hotswap", "swap", 722, 16, 10.0, 11.0),
    ]


def test_what_a_client_waits_for_on_the_last_tier_leaves_first_readings_out():
    settled = [
        ("a", 20.0),
        ("b", 22.0),
        ("a again", 21.0),
        ("strength", 19.0),
        ("stack of 4", 300.0),
        ("stack again", 24.0),
        ("none", 12.0),
    ]
    rows = [{"what": f"settled: {what}", "prepare_ms": ms, "step_ms": 39.0} for what, ms in settled]
    found = {row["phase"]: row for row in summary(rows, date="", command="", computer={}, versions={})["rows"]}
    assert (found["swap"]["p50"], found["swap"]["n"]) == (21.0, 3)
    assert (found["stack"]["p50"], found["stack"]["stack"]) == (24.0, 4)
    assert found["back"]["p50"] == 12.0 and found["step"]["n"] == 7
