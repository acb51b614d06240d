"""`sessiond forget` beside a running daemon, with the endpoint away for a while."""

from __future__ import annotations

import subprocess
from http.server import BaseHTTPRequestHandler

import httpx
from process_lab import TOKEN, Proxy, World, session, until


def test_a_running_daemon_erases_at_once_or_when_the_endpoint_is_back(world: World) -> None:
    """The command waits for it. The tool's file, which grows, brings nothing back."""
    for number in (1, 2, 3):
        world.write(number, 1, 2)
    world.start()
    world.arrives(1, 2, 3)

    def forget(number: int) -> subprocess.CompletedProcess[str]:
        return world.run("forget", session(number), "--yes")

    def held(number: int) -> bool:
        address = f"{world.endpoint.url}/v1/sessions/testbox/{session(number)}"
        return (
            httpx.get(address, headers={"Authorization": f"Bearer {TOKEN}"}, verify=False, timeout=60).status_code
            == 200
        )

    assert forget(1).returncode == 0
    assert not held(1)
    world.proxy.fate = _cut
    away = forget(2)
    assert away.returncode == 4, away.stdout + away.stderr
    assert "still to be erased" in away.stdout
    assert held(2)
    world.proxy.fate = None
    world.write(1, 3)
    world.write(2, 3)
    world.write(3, 3)
    assert world.run("sync").returncode == 0
    until(lambda: not held(2), "the second erasure")
    world.arrives(3)
    assert not held(1)
    assert not world.captured(1)
    assert not world.captured(2)


def _cut(handler: BaseHTTPRequestHandler) -> None:
    assert isinstance(handler.server, Proxy)
    handler.cut()  # type: ignore[attr-defined]
