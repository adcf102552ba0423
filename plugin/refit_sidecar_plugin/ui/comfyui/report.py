"""Tells the user where a run was done: one log line when that is not an engine, the status node, and the pages."""

from __future__ import annotations

import logging
from typing import Any

from ...client import SidecarError
from ...engine import RunReport
from ...service import LastRun
from ...service.spoken import told
from .plugin import plugin
from .source import Source

# An adapter that keeps less than this of its change is told; above it nobody sees a difference.
KEPT_ENOUGH = 0.95

# ComfyUI owns the logging configuration; this logger only speaks.
log = logging.getLogger("refit_sidecar")


def served(source: Source, report: RunReport) -> None:
    plugin().facts.ran(LastRun("engine", source.name, "", report))
    for text in report.other_family:
        log.warning("Refit: a LoRA is for another model: %s.", text)
    if report.queue_ms > 100:
        log.info("Refit: this run waited %.0f ms for the engine (an interrupted or another run was still on it).", report.queue_ms)


def stayed_local(source: Source, error: Exception) -> str:
    """Returns the reason as the page tells it; the log has what to do about the error, too."""
    reason = told(error)
    plugin().facts.ran(LastRun("local", source.name, reason))
    log.warning("Refit: %s runs in ComfyUI itself, not on an engine: %s", source.name, reason)
    if isinstance(error, SidecarError):
        log.info("Refit: %s", error)
    return reason


def status_text() -> str:
    facts = plugin().facts.snapshot()
    lines = [facts["connection"]["text"], _last_run_line(facts["lastRun"])]
    try:
        lines += [_engine_line(engine) for engine in plugin().relay.read("engine.list", {})["engines"]]
    except SidecarError as error:
        lines.append(f"Engines: {error}")
    return "\n".join(lines)


def _last_run_line(run: dict[str, Any] | None) -> str:
    if run is None:
        return "No run yet."
    if run["served_by"] == "local":
        return f"Last run: {run['checkpoint']} in ComfyUI itself, because: {run['reason']}"
    report = run["report"]
    steps = max(report["steps"], 1)
    line = (
        f"Last run: {run['checkpoint']} on engine {report['engine']} ({report['host']}, {report['precision']}): refit {report['refit_ms']:.0f} ms "
        f"({report['refit_writes']} weights), {report['steps']} steps of {report['step_ms'] / steps:.1f} ms (engine {report['engine_ms'] / steps:.1f} ms)."
    )
    if report["not_on_device"]:
        line += f"\n  Tensors of its steps went through the processor's memory: {report['not_on_device']}."
    line += "".join(f"\n  For another model: {text}." for text in report["other_family"])
    if report["ignored"]:
        line += f"\n  {len(report['ignored'])} adapter keys had no effect, as in ComfyUI: {'; '.join(report['ignored'][:5])}"
    return line


def _engine_line(engine: dict[str, Any]) -> str:
    reason = f" ({engine['reason']})" if engine["reason"] else ""
    refit = f", last refit {engine['lastRefit']['ms']:.0f} ms" if engine["lastRefit"] else ""
    what = f"{engine['family'] or 'unknown family'} {engine['precision']} on {engine['host']}, {engine['memoryBytes'] / 2**20:.0f} MiB"
    return f"Engine {engine['id']}: {engine['state']}{reason}, {what}{refit}" + "".join(
        f"\n  {text}" for text in [*_serving_lines(engine.get("serving")), *_loss_lines(engine.get("losses") or [])]
    )


def _serving_lines(serving: dict[str, Any] | None) -> list[str]:
    """How it steps, where its pristine weights lie, what quantising costs, and what was tried and is not used."""
    if serving is None:
        return []
    streamed = f", {serving['streamedBytes'] / 2**20:.0f} MiB of weights copied for each step" if serving["streamedBytes"] else ""
    lines = [f"Steps: {serving['tier']}; base: {serving['base']}{streamed}."]
    quantised = serving["quantised"]
    if quantised is not None:
        output = "" if quantised["outputError"] is None else f", of a step {quantised['outputError']:.1%}"
        lines.append(f"{quantised['format']} ({quantised['way']}): error of the weights {quantised['weightError']:.1%}{output}.")
    return lines + [f"Not used: {refused['steps']}: {refused['reason']}" for refused in serving["refused"]]


def _loss_lines(losses: list[dict[str, Any]]) -> list[str]:
    return [
        f"LoRA {number} of the stack ({loss['adapter'][:8]}): its number format keeps {max(0.0, loss['projection']):.0%} of the change."
        for number, loss in enumerate(losses, 1)
        if loss["projection"] < KEPT_ENOUGH
    ]
