"""The Ray side of the gateway: joining a cluster, its actors, what it has."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from dataclasses import dataclass
from typing import Any, Callable

from refit_host.failure import HostFailure

log = logging.getLogger("refit_ray")

CONNECT_SECONDS = 5.0
# Between two questions of Ray's own for errors to a head that does not answer.
ERRORS_SECONDS = 1.0
# Of the gateway and its actors. Answers of a few megabytes go straight from process to process; through the object store they take many times as long.
ENV = {"RAY_max_direct_call_object_size": "4194304"}


@dataclass(frozen=True)
class Seen:
    """`identity`: of the cluster, another one after a head that lost its tables; `nodes`: those that are alive, with the GPUs of each."""

    identity: str
    nodes: dict[str, float]

    @property
    def gpus(self) -> float:
        return sum(self.nodes.values())


@dataclass(frozen=True)
class Joined:
    """`head`: where its head answers; `node`: ours; `seen`: what there was when it was joined."""

    version: str
    head: str
    node: str
    seen: Seen


def join(address: str) -> Joined:
    """Joins the cluster. Raises HostFailure with a code of the sidecar's (protocol/src/failures)."""
    try:
        import ray
    except ImportError as error:
        raise HostFailure(
            "HOST_RAY_MISSING", f"the gateway's Python has no Ray ({error}); run pip install ray there, or name another with --python"
        ) from error
    head = _found() if address == "auto" else address
    _try(head)
    # RAY_ADDRESS is a name that the operator gave, too.
    admit(head, address == "auto" and not os.environ.get("RAY_ADDRESS"), *_tokens(head))
    try:
        ray.init(
            address=head,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            namespace="refit-sidecar",
            runtime_env={"env_vars": _env()},
        )
    except Exception as error:  # noqa: BLE001 - whatever Ray finds wrong with the cluster is told, and nothing is started
        hint = (
            "start one with ray start --head, or name it with --ray-address"
            if address == "auto"
            else "is a node of it running on this computer (ray start --address)?"
        )
        raise HostFailure("HOST_RAY_UNREACHABLE", f"the Ray cluster at {address} could not be joined: {reason(error)}; {hint}") from error
    pace_errors(ray._private.worker.global_worker)
    context = ray.get_runtime_context()
    seen = look(context.gcs_address)
    if isinstance(seen, str):
        raise HostFailure("HOST_RAY_UNREACHABLE", f"the Ray cluster at {address} went away while it was joined: {seen}")
    return Joined(str(ray.__version__), context.gcs_address, context.get_node_id(), seen)


def look(head: str) -> Seen | str:
    """The cluster that answers there now, whichever it is; why none does. May take a minute.

    Each look has a client of its own: Ray's functions wait for ever for a head that is gone, and end the process when another one answers.
    """
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        from ray._raylet import GcsClient

        asked = GcsClient(address=head)
        nodes = asked.get_all_node_info(timeout=CONNECT_SECONDS)
        alive = {node.hex(): float(facts.resources_total.get("GPU", 0)) for node, facts in nodes.items() if facts.state == 0}
        return Seen(asked.cluster_id.hex(), alive)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises, the head does not answer
        return f"nothing answers at {head} ({reason(error)}); is the cluster's head running?"


class PacedErrors:
    """Ray's listener for errors of the cluster. A head that is gone fails its question at once, and Ray's thread asks again without a pause: it takes a whole core."""

    def __init__(self, listener: Any, pause: Callable[[float], None]) -> None:
        self._listener = listener
        self._pause = pause

    def poll(self, *given: Any, **named: Any) -> Any:
        found = self._listener.poll(*given, **named)
        if found[1] is None:
            self._pause(ERRORS_SECONDS)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


def pace_errors(worker: Any, pause: Callable[[float], None] = time.sleep) -> None:
    """Nothing, where this version of Ray keeps its listener elsewhere."""
    listener = getattr(worker, "gcs_error_subscriber", None)
    if listener is not None:
        worker.gcs_error_subscriber = PacedErrors(listener, pause)


def _found() -> str:
    """Where `auto` leads: the head that Ray finds by its own rules, which may have gone since."""
    from ray._private import services

    try:
        return str(services.get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise HostFailure(
            "HOST_RAY_UNREACHABLE",
            "expected a node of a Ray cluster on this computer, found none; start one with ray start, or name its head with --ray-address",
        ) from error


def _try(address: str) -> None:
    """Ray itself tries an address that nobody listens at for minutes."""
    found = re.fullmatch(r"\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None:
        raise HostFailure("OPTIONS_INVALID", f"--ray-address expects auto, or HOST:PORT of the cluster's head, got {address[:100]!r}")
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise HostFailure(
            "HOST_RAY_UNREACHABLE", f"nothing answers at {address} ({reason(error)}); is the cluster's head running, and is this its port?"
        ) from error


def admit(head: str, is_found: bool, refusal: Callable[[], str | None], use_own_token: Callable[[], bool]) -> None:
    """A cluster may ask for a token (Ray 2.60 and newer). One that was found on this computer gets this computer's, as Ray's own commands do it;
    to an address that somebody named a token goes only where RAY_AUTH_MODE says so. Raises HostFailure.

    `refusal`: why the head lets us in no further, by its own words; None where it does. `use_own_token`: False where there is none, or RAY_AUTH_MODE forbids it.
    """
    told = refusal()
    if told is not None and is_found and use_own_token():
        told = refusal()
    if told is not None:
        raise HostFailure(
            "HOST_RAY_UNREACHABLE",
            f"the Ray cluster at {head} asks for a token, and did not get the right one: {told}; "
            "start the sidecar with RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
        )


def _tokens(head: str) -> tuple[Callable[[], str | None], Callable[[], bool]]:
    """Ray's side of `admit`."""
    try:
        from ray._private.authentication import authentication_token_setup as setup
        from ray.exceptions import AuthenticationError
    except ImportError:
        return lambda: None, lambda: False  # an earlier Ray, without tokens

    def refusal() -> str | None:
        from ray._raylet import GcsClient

        try:
            # Ray ends the process where it should send a token and has none.
            setup.ensure_token_if_auth_enabled(None, create_token_if_missing=False)
            GcsClient(address=head)
        except (AuthenticationError, RuntimeError) as error:
            # What to do is said once, by us.
            return reason(error).split(". ")[0]
        except Exception:  # noqa: BLE001 - not about tokens: told when the cluster is joined
            pass
        return None

    return refusal, lambda: bool(setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False))


def reason(error: BaseException) -> str:
    """In one line, without the traceback of the other side."""
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}"[:600] if text else type(cause).__name__


async def awaited(coming: Any) -> Any:
    """What a call to an actor answers, as a coroutine: asyncio makes tasks of nothing else."""
    return await coming


def file_server(node: str) -> Any:
    """Reads the sidecar's files, here."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from .files import FileServer

    here = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return (
        ray.remote(FileServer)
        .options(num_cpus=0, max_restarts=-1, max_task_retries=3, max_concurrency=8, scheduling_strategy=here)
        .remote()
    )


def new_actor(gpus: float, cpus: float, *given: Any) -> Any:
    import ray

    from .actor import EngineActor

    # Every call is made once: whether a step may be computed again is for the sidecar to say.
    options = {"num_gpus": gpus, "num_cpus": cpus, "max_restarts": -1, "max_task_retries": 0, "max_concurrency": 1000}
    return ray.remote(EngineActor).options(**options).remote(*given)


def _env() -> dict[str, str]:
    """Nodes find our code where this computer has it."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {**ENV, "PYTHONPATH": folder}


def is_loss(error: Exception) -> bool:
    """The actor, its node or the way to it is gone; not what the actor itself raised."""
    import ray

    return isinstance(error, ray.exceptions.RayActorError)
