"""A Ray cluster of several nodes on this machine, in a process of its own, whose nodes may be killed.

    python -m tests.support.ray_cluster 2,1

starts a head without CPUs and a node for each number of CPUs, prints the address, and reads from stdin the numbers of
nodes to kill, one a line; its end ends the cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tests.support.archives import ROOT

#: Bytes of each node's store of objects.
STORE = 80 << 20
#: Ray gives way to everything else on a machine, so that on a busy one a worker would take minutes to start.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


class RayCluster:
    """The cluster, seen from a test."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ray_cluster", ",".join(map(str, cpus))],
            cwd=ROOT,
            env={**os.environ, **SETTINGS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        self.address = self._line()

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def kill(self, node: int) -> None:
        """Kill a node and all processes on it."""
        assert self._process.stdin
        print(node, file=self._process.stdin, flush=True)
        assert self._line() == f"killed {node}"

    def _line(self) -> str:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(("killed ", "at ")):
                return line.strip().removeprefix("at ")
        raise RuntimeError("the cluster did not start")


def main() -> None:
    """Start the cluster and kill what stdin says."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    nodes = [
        cluster.add_node(num_cpus=int(cpus), object_store_memory=STORE, wait=False) for cpus in sys.argv[1].split(",")
    ]
    cluster.wait_for_nodes()
    print("at", cluster.address, flush=True)
    try:
        for line in sys.stdin:
            cluster.remove_node(nodes[int(line)], allow_graceful=False)
            print("killed", int(line), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
