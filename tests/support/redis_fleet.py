"""Several real redis-servers as users run them: a cluster, a master with a replica and Sentinels."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

import redis
from support.envoy import free_port
from support.redis_server import redis_binary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READY_S = 20.0


def cluster_port() -> int:
    """Return a free port whose cluster bus, 10,000 higher, is free too, below what the system gives away."""
    while True:
        port = random.randrange(15_000, 22_000)
        try:
            for each in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port


class Node:
    """One redis-server (or Sentinel) on a loopback port; ends only the process it started."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0, config: str = "") -> None:
        self.port = port or free_port()
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir()
        self._config = self.folder / "redis.conf"
        self._config.write_text(config)
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        command = [redis_binary(), str(self._config), "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        # From 7.0 on a replica waits 5 s for others that might want the same copy.
        command += ["--repl-diskless-sync-delay", "0", *self._arguments]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        return self

    def client(self, **options: object) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, **options)

    def wait(self, is_ready: Callable[[redis.Redis], object], **options: object) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with self.client(**options) as client:
                    if is_ready(client):
                        return
            except redis.RedisError:
                pass
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "redis.log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def has_caught_up(replica: Node, master: Node) -> bool:
    """Say whether the replica has everything that the master has acknowledged."""
    with replica.client() as behind, master.client() as ahead:
        there = ahead.info("replication")["master_repl_offset"]
        return behind.info("replication").get("slave_repl_offset") == there


class Nodes:
    """A scope of nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Node] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        """Nothing runs yet."""

    def __exit__(self, *_error: object) -> None:
        for node in self.all:
            node.kill()

    def add(self, *arguments: str, config: str = "", port: int = 0) -> Node:
        node = Node(self.folder, *arguments, config=config, port=port)
        self.all.append(node)
        return node.start()


class Cluster(Nodes):
    """Three masters with a third of the slots each, and `replicas` of every one."""

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        super().__init__(folder)
        self._replicas = replicas

    def _start(self) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "800")
        self.masters = [self.add(*options, port=cluster_port()) for _ in range(3)]
        self.replicas = [self.add(*options, port=cluster_port()) for _ in range(3 * self._replicas)]
        for node in self.all:
            node.wait(lambda client: client.ping())
        self._introduce()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.masters)

    def _introduce(self) -> None:
        first = self.masters[0]
        # Epochs of their own, so that nodes do not have to find out who is right.
        for number, node in enumerate(self.all, start=1):
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
        bounds = [0, 5461, 10923, 16384]
        for node, start, end in zip(self.masters, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(start, end))
        for node in self.all[1:]:
            with node.client() as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        for node in self.all:
            node.wait(lambda client: len(client.execute_command("CLUSTER NODES")) == len(self.all))
        for number, replica in enumerate(self.replicas):
            with self.masters[number % 3].client() as client:
                master_id = client.execute_command("CLUSTER", "MYID")
            replica.wait(lambda client, it=master_id: client.execute_command("CLUSTER", "REPLICATE", it))
        for node in self.all:
            node.wait(lambda client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        for replica in self.replicas:
            replica.wait(lambda client: client.info("replication")["master_link_status"] == "up")


class SentinelTrio(Nodes):
    """A master, a replica, and three Sentinels that agree quickly. The master's name is `counters`."""

    NAME = "counters"

    def __init__(self, folder: Path, password: str | None = None) -> None:
        """`password` is the Sentinels' own."""
        super().__init__(folder)
        self._login = {} if password is None else {"password": password}

    def _start(self) -> None:
        self.master = self.add()
        self.master.wait(lambda client: client.ping())
        self.replica = self.add("--replicaof", "127.0.0.1", str(self.master.port))
        self.replica.wait(lambda client: client.info("replication")["master_link_status"] == "up")
        config = (
            f"sentinel monitor {self.NAME} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {self.NAME} 400\n"
            f"sentinel failover-timeout {self.NAME} 2000\n"
        )
        for password in self._login.values():
            config += f"requirepass {password}\nsentinel sentinel-pass {password}\n"
        self.sentinels = [self.add("--sentinel", config=config) for _ in range(3)]
        for sentinel in self.sentinels:
            sentinel.wait(self._knows_all, **self._login)

    def _knows_all(self, client: redis.Redis) -> bool:
        state = client.sentinel_master(self.NAME)
        return state["num-other-sentinels"] == 2 and state["num-slaves"] == 1

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(node.address for node in self.sentinels)}/{self.NAME}"
