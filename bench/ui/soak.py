"""Many prompts in a row: random stacks, sizes and interrupts, the engine host and the sidecar killed in the middle of a picture."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from refit_sidecar_plugin.client import SidecarError

from .workflows import Prompt, graph

if TYPE_CHECKING:
    from .__main__ import Bench

#: Share by which memory may differ between the first and the last third; bytes that are always allowed (caches that fill).
GROWTH, CACHES = 0.05, 1_500_000_000


def soak(bench: Bench, prompts: int, near: float) -> None:
    """Every latent is held against ComfyUI's own of the same prompt (`near`: relative distance), and bit for bit against the engine's earlier one of the
    same prompt on the same tier. A prompt that was not served has to say why. Memory of the device and of the three processes stays as it is."""
    dice = random.Random(7)
    choices = _choices(bench.pixels, dice)
    for prompt in choices:
        if prompt not in bench.own:
            bench.own[prompt] = bench.prompt("own", prompt)[1]
    seen: dict[tuple[Prompt, str], torch.Tensor] = {}
    served = fallback = interrupted = again = 0
    worst, memory, reasons = 0.0, [], {}
    kills = {prompts // 3: "engine host", 2 * prompts // 3: "sidecar"}
    for index in range(prompts):
        prompt = dice.choice(choices)
        if index in kills:
            bench.log(
                what="soak: killed",
                at=index,
                who=kills[index],
                pids=_kill_in_picture(bench, kills[index], replace(prompt, seed=2000 + index)),
            )
        elif dice.random() < 0.1:
            _interrupted(bench, replace(prompt, seed=1000 + index), dice.random() * (0.8 if bench.real else 0.2))
            interrupted += 1
        row, latent = bench.prompt("engine", prompt)
        if "not_run" in row:
            # ComfyUI had the latent of the prompt before: nothing ran.
            again += 1
            continue
        error = float((bench.own[prompt] - latent).double().norm() / bench.own[prompt].double().norm())
        worst = max(worst, error)
        bench.hold("soak: no wrong latent", error <= near, at=index, error=error)
        if row.get("served_by") == "engine":
            served += 1
            known = seen.setdefault((prompt, bench.tier()), latent)
            bench.hold("soak: the same prompt on one tier gives the same bits", torch.equal(known, latent), at=index)
        else:
            fallback += 1
            reasons[row.get("reason") or "none named"] = reasons.get(row.get("reason") or "none named", 0) + 1
            bench.hold("soak: every fallback is named", bool(row.get("reason")), at=index)
        memory.append({"device": row["device_bytes"], "ui": 0, "sidecar": 0, "engine host": 0, **_resident(bench)})
    third = max(1, len(memory) // 3)
    first, last = (
        {name: statistics.median(row.get(name, 0) for row in rows) for name in memory[0]} for rows in (memory[:third], memory[-third:])
    )
    bench.log(what=f"{prompts} prompts in a row", served=served, fallback=fallback, not_run=again, interrupted=interrupted, reasons=reasons, worst_error=worst,
              bytes_first_third=first, bytes_last_third=last)  # fmt: skip
    for name in first:
        flat = last[name] <= first[name] * (1 + GROWTH) + CACHES
        bench.hold(f"soak: memory is flat ({name})", flat, first=first[name], last=last[name])


def _choices(pixels: int, dice: random.Random) -> list[Prompt]:
    sizes = (pixels, pixels, pixels * 3 // 4)
    choices = [Prompt(size=pixels, seed=1)]
    while len(choices) < 10:
        names = dice.sample("abcdefgh", dice.randint(0, 4))
        stack = tuple((name, dice.choice((0.4, 0.8, -0.5))) for name in names)
        choices.append(Prompt(stack, size=dice.choice(sizes), seed=dice.randint(1, 5)))
    return choices


def _pids(bench: Bench) -> dict[str, list[int]]:
    with contextlib.closing(bench.sidecar()) as client:
        hosts = [host["pid"] for host in client.call("status", {}).result["hosts"] if host["pid"]]
    return {"engine host": hosts, "sidecar": [json.loads((bench.folder / "data" / "sidecar.json").read_text("utf-8"))["pid"]]}


def _kill_in_picture(bench: Bench, who: str, prompt: Prompt) -> list[int]:
    """Kills in the middle of a prompt and waits for its end; its picture counts as any other's failure would: the prompt may not fail."""
    assert bench.server is not None
    pids = _pids(bench)[who]
    queued = bench.server.queue(graph("engine", prompt, bench.setting, bench.folder / "latents" / "killed.pt"))
    time.sleep(0.5 if bench.real else 0.1)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    entry = bench.server.wait(queued, 600.0)
    bench.hold(f"soak: the prompt ends well when the {who} is killed", entry["status"]["status_str"] == "success", status=entry["status"])
    return pids


def _interrupted(bench: Bench, prompt: Prompt, after_s: float) -> None:
    assert bench.server is not None
    queued = bench.server.queue(graph("engine", prompt, bench.setting, bench.folder / "latents" / "cut.pt"))
    time.sleep(after_s)
    bench.server.call("/interrupt", {})
    bench.server.wait(queued, 600.0)


def _resident(bench: Bench) -> dict[str, int]:
    """Resident bytes of the UI, the sidecar and the hosts; on Linux."""
    assert bench.server is not None
    pids: dict[str, list[int]] = {"ui": [bench.server.process.pid]}
    # None while a sidecar starts again.
    with contextlib.suppress(SidecarError, OSError, ValueError):
        pids |= _pids(bench)
    return {name: sum(map(_resident_of, numbers)) for name, numbers in pids.items()}


def _resident_of(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
