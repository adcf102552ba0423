"""A Ray cluster of several nodes on this computer, for tests and the bench: `python ray_cluster.py NODES CPUS [GPUS]`. GPUS is what each node says it
has; no card is needed.

Prints one JSON line with the head's address, then obeys lines on stdin and answers each with a JSON line: `add` (a node), `lose N` (the N-th node dies without a word),
`lose-head` (the head dies without a word; nodes find out by themselves), `lose-all` (the nodes die with it), `head` (a new one at the old address, which knows
nothing of the old one), `head-elsewhere` (a new one at another address).
Ends with its stdin; every process of the cluster ends with it, and its session folders go.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import shutil
import sys
import tempfile
from typing import Any

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    # What a node that was killed leaves behind (agents, workers) becomes our child, and is ended with the cluster.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Ray prints; the answers have a pipe of their own.
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster

    count, cpus, gpus = int(sys.argv[1]), int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0])
    of_head: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 128 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=of_head)
    port = int(cluster.address.rsplit(":", 1)[1])

    def add() -> Any:
        return cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=128 << 20)

    nodes = [add() for _ in range(count)]
    cluster.wait_for_nodes()
    print(json.dumps({"address": cluster.address, "nodes": len(nodes)}), file=output)
    for line in sys.stdin:
        what, *rest = line.split()
        if what == "add":
            nodes.append(add())
        elif what == "lose":
            cluster.remove_node(nodes.pop(int(rest[0])), allow_graceful=False)
        elif what in ("lose-head", "lose-all"):
            cluster.remove_node(cluster.head_node, allow_graceful=False)
            while what == "lose-all" and nodes:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
        elif what == "head":
            cluster.add_node(**of_head, gcs_server_port=port)
        elif what == "head-elsewhere":
            cluster.add_node(**of_head)
        print(json.dumps({"nodes": len(nodes)}), file=output)
    cluster.shutdown()
    end_rest()


def end_rest() -> None:
    """Agents of a raylet that is gone live on for half a minute, and take the cores of whoever comes next."""
    import psutil

    rest = psutil.Process().children(recursive=True)
    for process in rest:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(rest, timeout=10)
    for session in glob.glob(os.path.join(tempfile.gettempdir(), "ray", f"session_*_{os.getpid()}")):
        shutil.rmtree(session, ignore_errors=True)


if __name__ == "__main__":
    main()
