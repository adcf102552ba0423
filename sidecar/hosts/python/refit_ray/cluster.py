"""The Ray side of the gateway: joining a cluster, its actors, what it has."""

from __future__ import annotations

import logging
import os
import re
import socket
from typing import Any

log = logging.getLogger("refit_ray")

CONNECT_SECONDS = 5.0
# Of the gateway and its actors. Answers of a few megabytes go straight from process to process; through the object store they take many times as long.
ENV = {"RAY_max_direct_call_object_size": "4194304"}


class Refusal(Exception):
    """`code` is one of the sidecar's (protocol/src/failures)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def join(address: str) -> str:
    """Joins the cluster; Ray's version. Raises Refusal."""
    try:
        import ray
    except ImportError as error:
        raise Refusal(
            "HOST_RAY_MISSING", f"the gateway's Python has no Ray ({error}); run pip install ray there, or name another with --python"
        ) from error
    if address != "auto":
        _try(address)
    try:
        ray.init(
            address=address,
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
        raise Refusal("HOST_RAY_UNREACHABLE", f"the Ray cluster at {address} could not be joined: {_short(error)}; {hint}") from error
    return str(ray.__version__)


def _try(address: str) -> None:
    """Ray itself tries an address that nobody listens at for minutes."""
    found = re.fullmatch(r"\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None:
        raise Refusal("OPTIONS_INVALID", f"--ray-address expects auto, or HOST:PORT of the cluster's head, got {address[:100]!r}")
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise Refusal(
            "HOST_RAY_UNREACHABLE", f"nothing answers at {address} ({_short(error)}); is the cluster's head running, and is this its port?"
        ) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:600] or type(error).__name__


def own_node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


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


def gpus_there() -> float:
    """GPUs of all nodes that are alive. Raises what Ray raises while the head is away."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))
