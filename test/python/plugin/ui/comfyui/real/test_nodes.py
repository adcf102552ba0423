"""ComfyUI's own nodes, one workflow each: served by the engine with ComfyUI's result, or left to ComfyUI with its own result and a reason.

`REFIT_RECORD=1` adds what was run to docs/evidence/comfyui-nodes.json and writes the table beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfy_run import Run, rms
from comfy_server import REPO, ComfyServer, kept, make_models
from family_workflows import skip_where_unknown
from graphs import OWN_LOADER, Choices, graph
from mixed_rows import MIXED
from narrow_models import comfyui_with, torch_sidecar, write_control_lora, write_ic_lora, write_narrow, write_sd3_control
from node_rows import ROWS as SINGLE
from node_rows import Row
from test_families import WORKFLOWS
from workflow_rows import WORKFLOWS as WHOLE

TABLE = REPO / "docs/evidence/comfyui-nodes.md"
RECORD = TABLE.with_suffix(".json")
ROWS = [*SINGLE, *WHOLE, *MIXED]
COLUMNS = ("node", "settings", "model", "served by", "difference", "effect", "reason")
NARROW = sorted({row.model for row in ROWS if row.model})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = kept("nodes", tmp_path_factory.mktemp)
    make_models(folder / "models", "sd15_tiny", "sd15_other", "sd15_inpaint", "sd3_tiny", "vega_tiny", "sd15_control", "sd3_stability")
    write_sd3_control(folder / "models")
    write_narrow(folder, NARROW)
    write_ic_lora(folder / "models")
    write_control_lora(folder / "models")
    return folder


@pytest.fixture(scope="module")
def server(models) -> Iterator[ComfyServer]:
    with torch_sidecar(models) as sidecar, comfyui_with(sidecar) as made:
        yield made


@pytest.fixture(scope="module")
def known(server) -> dict:
    return server.call("/object_info")


@pytest.fixture(scope="module")
def plains() -> list[tuple[Choices, torch.Tensor]]:
    """Latents of plain workflows in ComfyUI itself."""
    return []


@pytest.fixture(scope="module")
def record(server) -> Iterator[dict]:
    made: dict[str, dict] = {}
    yield made
    if os.environ.get("REFIT_RECORD"):
        version = ".".join(map(str, server.comfyui_version))
        rows = (json.loads(RECORD.read_text()) if RECORD.exists() else {}) | made
        RECORD.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
        TABLE.write_text(table(rows, version))


def choices_of(row: Row) -> Choices:
    if not row.model:
        return row.choices
    return replace(WORKFLOWS[row.model], checkpoint=f"{row.model}.safetensors", steps=3, adapters=[(f"{row.model}-1.safetensors", 0.8)])


def completed(nodes: dict, known: dict) -> dict:
    """The graph, and the default of each input that a node lacks, as the page fills them in."""
    for each in nodes.values():
        for name, (_, *settings) in known[each["class_type"]]["input"].get("required", {}).items():
            if settings and "default" in settings[0]:
                each["inputs"].setdefault(name, settings[0]["default"])
    return nodes


def skip_where_sampler_unknown(row: Row, known: dict) -> None:
    """Of a row that has one in its name."""
    sampler, _, scheduler = row.what.partition(", ")
    samplers, schedulers = (known["KSampler"]["input"]["required"][f"{kind}"][0] for kind in ("sampler_name", "scheduler"))
    if row.node == "KSampler" and scheduler in schedulers and sampler not in samplers:
        pytest.skip(f"this ComfyUI has no sampler {sampler}")


class Nodes(Run):
    """Runs a row's graph; `row` None: the plain workflow of the same model."""

    def made(self, choices: Choices, row: Row | None, loader: str, known: dict) -> torch.Tensor:
        file = self.next_file()
        nodes = graph(file, replace(choices, loader=loader))
        if row is not None:
            row.change(nodes)
            completed(nodes, known)
        self.outputs = self.server.prompt(nodes, self.PATIENCE_S)["outputs"]
        return torch.load(file)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_node_is_served_or_left_with_comfyuis_own_result(row, server, known, record, plains, tmp_path):
    if row.node not in known:
        pytest.skip(f"this ComfyUI has no {row.node}")
    skip_where_unknown(row.model or "")
    skip_where_sampler_unknown(row, known)
    run, choices = Nodes(server, tmp_path), choices_of(row)
    plain = next((known_plain for known_choices, known_plain in plains if known_choices == choices), None)
    if plain is None:
        plain = run.made(choices, None, OWN_LOADER, known)
        plains.append((choices, plain))
    own = run.made(choices, row, OWN_LOADER, known)
    lines = run.local_lines()
    got = run.made(choices, row, "RefitLoadEngine", known)
    left = run.local_lines() - lines
    last = run.last_run
    served = last["served_by"] == "engine"
    run.served["engine" if served else "ComfyUI"] += 1
    error = 0.0 if own.shape == got.shape and torch.equal(own, got) else rms(own - got) / rms(own)
    record[str(row)] = {
        "group": row.group, "node": row.node, "what": row.what, "model": row.model or choices.checkpoint.removesuffix(".safetensors"),
        "served": served, "reason": last["reason"], "difference": error,
        "effect": rms(own - plain) / rms(plain) if own.shape == plain.shape else None,
    }  # fmt: skip
    assert torch.isfinite(own).all()
    if served:
        # Nor any earlier sampler of the graph.
        assert error <= 1e-3 and bool(left) == row.beside, run.server.log[-20:]
    else:
        assert error <= (1e-3 if row.before else 0.0) and last["reason"], last
    assert served == row.engine, last


def table(rows: dict[str, dict], version: str) -> str:
    order = {str(row): index for index, row in enumerate(ROWS)}
    listed = [rows[name] for name in sorted((name for name in rows if name in order), key=lambda name: order[name])]
    served, kinds = sum(row["served"] for row in listed), len({row["node"] for row in listed})
    lines = [
        "# ComfyUI's own nodes on an engine",
        f"ComfyUI {version} on a processor, the torch host in fp32, tiny checkpoints with the names of real ones, a LoRA in most workflows, three steps.",
        "One workflow a node; its latents against those of the same workflow with ComfyUI's own loader.",
        "`difference`: RMS of what the two differ by, relative. `effect`: what the node changes in the latents of a plain workflow.",
        "Made by `REFIT_RECORD=1 npm run test:e2e -- test/python/plugin/ui/comfyui/real/test_nodes.py`.",
        f"{len(listed)} workflows with {kinds} nodes: {served} served by the engine, {len(listed) - served} left to ComfyUI.",
    ]
    group = None
    for row in listed:
        if row["group"] != group:
            group = row["group"]
            lines += [
                "",
                f"## {group[0].upper()}{group[1:]}",
                "| node | settings | model | served by | difference | effect | reason |",
                "|---|---|---|---|---|---|---|",
            ]
        effect = "other size" if row["effect"] is None else f"{row['effect']:.1e}"
        difference = "none" if row["difference"] == 0 else f"{row['difference']:.1e}"
        who = "engine" if row["served"] else "ComfyUI"
        lines.append("| " + " | ".join((row["node"], row["what"], row["model"], who, difference, effect, row["reason"])) + " |")
    return "\n".join(lines) + "\n"
