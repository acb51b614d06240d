"""A real daemon: nothing that it writes, prints or sends has a planted secret or its own token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from sessiond import zstd
from sessiond.endpoint.server import running
from sessiond.redact.examples import expand
from support.harness import TOKEN as ENDPOINT_TOKEN
from support.harness import claude, encode
from support.rules_cache import put_rules

SESSION = "5f1d7c1e-0000-4000-8000-00000000000{}"
SECRETS = {
    rule: expand(template, "daemon")
    for rule, template in {
        "github": "ghp_<A36>",
        "aws": "AKIA<S16>",
        "slack": "xoxb-<D12>-<D12>-<A24>",
        "stripe": "sk_live_<A24>",
        "google": "AIza<A35>",
        "npm": "npm_<A36>",
        "gitlab": "glpat-<A20>",
        "jwt": "eyJ<A33>.eyJ<A80>.<A43>",
    }.items()
}
OWN = "tr0ub4dor-and-three"
HUSH = "/srv/hush"


def wait(what: str, check, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, what
        time.sleep(0.1)  # the daemon is another process: there is nothing to wait on


def test_a_daemon_leaks_nothing(tmp_path: Path) -> None:
    """Its spool, its log, its output and the store of the endpoint have no secret, token or excluded session."""
    home, state = tmp_path / "home", tmp_path / "state"
    projects = home / ".claude/projects/-home-dev"
    projects.mkdir(parents=True)
    put_rules(str(state))
    lines = [claude(SESSION.format(1), n, text=f"{text}\n{OWN}") for n, text in enumerate(SECRETS.values())]
    lines += [claude(SESSION.format(1), 50, text=json.dumps({"out": text})) for text in SECRETS.values()]
    (projects / f"{SESSION.format(1)}.jsonl").write_bytes(b"".join(map(encode, lines)))
    (projects / f"{SESSION.format(2)}.jsonl").write_bytes(encode(claude(SESSION.format(2), 1, cwd=f"{HUSH}/deep")))
    token_file = tmp_path / "token"
    token_file.write_text(ENDPOINT_TOKEN)
    token_file.chmod(0o600)
    config = tmp_path / "config.toml"
    with running(str(tmp_path / "endpoint"), token=ENDPOINT_TOKEN) as endpoint:
        config.write_text(
            f'state_dir = "{state}"\nexclude = ["{HUSH}"]\n[endpoint]\nurl = "{endpoint.url}"\n'
            f'token_file = "{token_file}"\n[redaction]\nsecrets_from = ["env:MY_*"]\n[log]\nlevel = "debug"\n'
        )
        environ = {**os.environ, "HOME": str(home), "MY_PASSWORD": OWN, "XDG_CONFIG_HOME": str(home / ".config")}
        daemon = subprocess.Popen(
            [sys.executable, "-m", "sessiond", "run", "--config", str(config)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            where = f"{endpoint.url}/v1/sessions/{{}}/{SESSION.format(1)}/streams/main"
            headers = {"Authorization": f"Bearer {ENDPOINT_TOKEN}"}

            def sessions() -> list[dict]:
                return httpx.get(f"{endpoint.url}/v1/sessions", headers=headers, verify=False, timeout=60).json()[
                    "sessions"
                ]

            wait("the session is at the endpoint", lambda: sessions() and sessions()[0]["streams"])
            assert [item["record"]["id"] for item in sessions()] == [SESSION.format(1)]
            machine = sessions()[0]["record"]["machine_id"]
            held = httpx.get(where.format(machine), headers=headers, verify=False, timeout=60).content
            commands = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
            limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        finally:
            daemon.send_signal(signal.SIGTERM)
            output, _ = daemon.communicate(timeout=30)
    assert held.count(b"\n") == len(lines)
    assert next(line for line in limits.splitlines() if line.startswith("Max core")).split()[4] == "0"
    written = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file() and path.name != "device.toml")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "endpoint").rglob("*") if path.is_file())
    places = {"state": written, "output": output, "endpoint": stored, "held": held, "arguments": commands}
    places |= {f"frames of {name}": unpacked(place) for name, place in places.items()}
    for name, place in places.items():
        for secret in (*SECRETS.values(), OWN, ENDPOINT_TOKEN, HUSH, SESSION.format(2)):
            assert secret.encode() not in place, name
    assert daemon.returncode == 0


def unpacked(place: bytes) -> bytes:
    """Return all zstd frames in some bytes, as far as they can be unpacked."""
    found = []
    for part in place.split(b"\x28\xb5\x2f\xfd")[1:]:
        try:
            found.append(zstd.decompress(b"\x28\xb5\x2f\xfd" + part, 1 << 24))
        except zstd.Undecodable:
            continue
    return b"".join(found)
