"""The bundled Redis, started as rendered."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.helm import containers

if TYPE_CHECKING:
    from support.helm import Helm, Rendered

pytestmark = pytest.mark.e2e


def test_persistence_is_switched_by_an_upgrade(helm: Helm) -> None:
    """Of a StatefulSet the template may change and hardly more; the claim is an object that Helm keeps."""

    def rendered(**persistence: object) -> Rendered:
        return helm.render({"redis": {"bundled": {"enabled": True, "persistence": persistence}}})

    off = rendered(enabled=False)
    on = rendered(enabled=True, size="2Gi", storageClass="fast")
    old, new = (one.one("StatefulSet")["spec"] for one in (off, on))
    assert {"template"} == {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}

    claim = on.one("PersistentVolumeClaim")
    (volume,) = (one for one in new["template"]["spec"]["volumes"] if one["name"] == "data")
    assert claim["metadata"]["name"] == volume["persistentVolumeClaim"]["claimName"]
    assert "keep" == claim["metadata"]["annotations"]["helm.sh/resource-policy"]
    assert ("fast", "2Gi") == (
        claim["spec"]["storageClassName"],
        claim["spec"]["resources"]["requests"]["storage"],
    )
    assert "PersistentVolumeClaim" not in {one["kind"] for one in off.objects}


def test_the_bundled_redis_takes_the_password_from_its_file_and_a_new_one_by_its_probe(
    helm: Helm, short_folder: Path
) -> None:
    """The rendered commands, with their paths below a folder and a socket instead of the port."""
    values = {"redis": {"bundled": {"enabled": True}, "auth": {"password": "unused here"}}}
    (container,) = containers(helm.render(values).one("StatefulSet")).values()
    socket, password = short_folder / "redis.sock", short_folder / "password"
    moved = {"/etc/redis-auth": str(short_folder), "redis-cli": f"redis-cli -s {socket}"}

    def command(words: list[str]) -> list[str]:
        for old, new in moved.items():
            words = [word.replace(old, new) for word in words]
        return [str(short_folder) if word == "/data" else word for word in words]

    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = command([*container["command"], *container["args"], "--port", "0", "--unixsocket", str(socket)])
    probe = command(container["livenessProbe"]["exec"]["command"])

    def alive() -> bool:
        return subprocess.run(probe, env=path, check=False).returncode == 0

    def started() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(start, env=path, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (socket.exists() and alive()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    password.write_text("s3cret 'one'")
    process = started()
    try:
        never = Retry(NoBackoff(), 0)
        with (
            redis.Redis(unix_socket_path=str(socket), retry=never) as nobody,
            pytest.raises(redis.AuthenticationError),
        ):
            nobody.ping()
        with redis.Redis(unix_socket_path=str(socket), password="s3cret 'one'") as client:
            given = client.config_get("dir") | client.config_get("save") | client.config_get("appendonly")
            assert {"dir": str(short_folder), "save": "", "appendonly": "no"} == given
        password.write_text("two")
        assert not alive()
        # What the kubelet does then.
        process.terminate()
        process.wait(10)
        assert not socket.exists()
        process = started()
        with redis.Redis(unix_socket_path=str(socket), password="two") as client:
            assert client.ping()
    finally:
        process.terminate()
        process.wait(10)
