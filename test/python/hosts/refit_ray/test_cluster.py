"""How an error reaches the sidecar."""

from __future__ import annotations

import pickle

from refit_host.failure import HostFailure
from refit_ray.cluster import reason


def test_an_error_is_told_in_one_short_line_by_its_cause():
    wrapped = RuntimeError("a traceback\nof the other side")
    wrapped.cause = FileNotFoundError("this node\n  has no such program")  # type: ignore[attr-defined]
    assert reason(wrapped) == "FileNotFoundError: this node has no such program"
    assert reason(TimeoutError()) == "TimeoutError"
    assert len(reason(ValueError("x" * 5000))) == 600


def test_a_failure_of_an_actor_arrives_whole():
    failure = HostFailure("HOST_FILE_CHANGED", "the file changed", {"name": "a"})
    arrived = pickle.loads(pickle.dumps(failure))
    assert (arrived.code, arrived.message, arrived.evidence) == (failure.code, failure.message, failure.evidence)
