"""A custom node for the benchmark only: says when a sampler was called, when its first step began and how long the steps took. Changes nothing."""

import cProfile
import json
import os
import pstats
import time

import comfy.samplers
import torch

FILE = os.environ["REFIT_BENCH_PROBE"]
# Where the time before the first step goes, by function, into a file beside it.
PROFILE = bool(os.environ.get("REFIT_BENCH_PROFILE"))


def _settled() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class _Run:
    called = began = ended = 0.0
    stamps: list = []
    profile = None


def _around_guider(original):
    def sample(self, *args, **kwargs):
        _Run.stamps, _Run.began, _Run.ended = [], 0.0, 0.0
        _Run.called = _settled()
        if PROFILE:
            _Run.profile = cProfile.Profile()
            _Run.profile.enable()
        try:
            return original(self, *args, **kwargs)
        finally:
            finished = _settled()
            steps = [later - earlier for earlier, later in zip([_Run.began, *_Run.stamps], _Run.stamps)]
            free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
            row = {
                "prep_ms": 1000 * ((_Run.began or finished) - _Run.called),
                "loop_ms": 1000 * ((_Run.ended or finished) - _Run.began) if _Run.began else None,
                "after_ms": 1000 * (finished - _Run.ended) if _Run.ended else None,
                "steps": len(steps),
                "slowest_ms": 1000 * max(steps, default=0.0),
                "first_step_ms": 1000 * steps[0] if steps else None,
                "device_bytes": total - free,
            }
            with open(FILE, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")

    return sample


def _around_sampler(original):
    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *args, **kwargs):
        def stamped(*given, **named):
            _Run.stamps.append(time.perf_counter())
            return callback(*given, **named) if callback is not None else None

        # A run that starts again in ComfyUI itself is timed from its second beginning; the first one stands in prep_ms.
        _Run.stamps = []
        _Run.began = _settled()
        if PROFILE and _Run.profile is not None:
            _Run.profile.disable()
            with open(FILE + ".profile", "a", encoding="utf-8") as out:
                out.write(f"-- {1000 * (_Run.began - _Run.called):.0f} ms\n")
                pstats.Stats(_Run.profile, stream=out).sort_stats("cumulative").print_stats(45)
            _Run.profile = None
        try:
            return original(self, model_wrap, sigmas, extra_args, stamped, noise, *args, **kwargs)
        finally:
            _Run.ended = _settled()

    return sample


comfy.samplers.CFGGuider.sample = _around_guider(comfy.samplers.CFGGuider.sample)
comfy.samplers.KSAMPLER.sample = _around_sampler(comfy.samplers.KSAMPLER.sample)

NODE_CLASS_MAPPINGS: dict = {}
