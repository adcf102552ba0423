"""How an error reaches the sidecar, and how Ray's own listener for errors is kept from a head that is gone."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
from refit_host.failure import HostFailure
from refit_ray.cluster import ERRORS_SECONDS, admit, pace_errors, reason


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


def test_a_head_that_is_gone_is_asked_for_errors_once_a_second():
    class Listener:
        answers = [(None, None), (b"id", {"error_message": "a node died"}), (None, None), (None, None)]

        def poll(self, timeout=None):
            return self.answers.pop(0)

        def close(self):
            return "closed"

    pauses: list[float] = []
    worker = SimpleNamespace(gcs_error_subscriber=Listener())
    pace_errors(worker, pauses.append)
    # As Ray's thread does: it looks the listener up each time.
    heard = [worker.gcs_error_subscriber.poll()[1] for _ in range(4)]
    assert heard == [None, {"error_message": "a node died"}, None, None]
    assert pauses == [ERRORS_SECONDS] * 3
    assert worker.gcs_error_subscriber.close() == "closed"


def test_a_version_of_ray_without_that_listener_is_left_alone():
    worker = SimpleNamespace()
    pace_errors(worker)
    assert vars(worker) == {}


@pytest.mark.parametrize(
    ("is_found", "has_token", "token_is_right", "lets_in"),
    [(True, True, True, True), (True, True, False, False), (True, False, True, False), (False, True, True, False)],
)
def test_a_token_of_this_computer_goes_only_to_a_cluster_that_was_found_on_it(is_found, has_token, token_is_right, lets_in):
    sent: list[bool] = []

    def use_own_token() -> bool:
        sent.append(True)
        return has_token

    def refusal() -> str | None:
        return None if sent and has_token and token_is_right else "the token is missing or incorrect"

    if lets_in:
        admit("head:1", is_found, refusal, use_own_token)
    else:
        with pytest.raises(HostFailure, match="head:1 asks for a token.*missing or incorrect; .*RAY_AUTH_TOKEN") as refused:
            admit("head:1", is_found, refusal, use_own_token)
        assert refused.value.code == "HOST_RAY_UNREACHABLE"
    assert bool(sent) == is_found


def test_a_cluster_that_asks_for_no_token_gets_none():
    admit("head:1", True, lambda: None, lambda: pytest.fail("a token was sent"))
