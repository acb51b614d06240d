"""What the endpoint reports about itself: its health, its metrics, and an access log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
from endpoint_lines import SESSION, Pusher, append, record
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send

from sessiond.endpoint.server import Running, tokens
from sessiond.endpoint.server.metrics import Observed, Requests, metric
from support.program import SOURCE


def samples(endpoint: Running) -> dict[str, float]:
    """Return the metrics by name and labels."""
    secret = tokens.add(endpoint.store, "prometheus", scopes=["admin"])
    with Pusher(endpoint.url, secret) as admin:
        answer = admin.get("/metrics")
    tokens.revoke(endpoint.store, "prometheus")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation and family.type != "unknown" and family.samples for family in families)
    assert len({family.name for family in families}) == len(families)
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert len(lines) == sum(len(family.samples) for family in families)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_pushes_and_requests_are_counted(endpoint: Running, pusher: Pusher) -> None:
    """The figures are those of this process: lines by result, bytes, transactions, requests by status."""
    assert pusher.said(record(), append(0, b"x"), append(5, b"y")) == ["stored", "stored", "offset-mismatch"]
    assert pusher.get("/v1/sessions", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert pusher.get("/v1/nothing").status_code == 404
    found = samples(endpoint)
    assert found['sessiond_push_lines_total{result="stored"}'] == 2
    assert found['sessiond_push_lines_total{result="offset-mismatch"}'] == 1
    assert found["sessiond_push_transactions_total"] == 1
    assert found["sessiond_push_bytes_total"] > 100
    assert found['sessiond_requests_total{request="push",status="200"}'] == 1
    assert found['sessiond_requests_total{request="sessions",status="401"}'] == 1
    assert found['sessiond_requests_total{request="unknown",status="404"}'] == 1
    assert found['sessiond_request_seconds_bucket{request="push",le="+Inf"}'] == 1
    assert found['sessiond_request_seconds_count{request="push"}'] == 1
    assert found['sessiond_pushes_waiting{class="live"}'] == 0
    assert found["sessiond_store_bytes"] > 4096
    assert samples(endpoint)['sessiond_requests_total{request="metrics",status="200"}'] == 1


def test_metrics_need_the_scope_admin(pusher: Pusher) -> None:
    """They reveal how much all users push."""
    answer = pusher.get("/metrics")
    assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")


def test_labels_are_escaped() -> None:
    """A quote, a backslash or a line break in a label must not end it."""
    lines = list(metric("name", "gauge", "About.", [({"a": 'x"y\\z\n'}, 1)]))
    (family,) = text_string_to_metric_families("\n".join(lines))
    assert family.samples[0].labels == {"a": 'x"y\\z\n'}
    (_, _, line) = lines
    assert line == 'name{a="x\\"y\\\\z\\n"} 1'


def test_health_needs_no_token(endpoint: Running) -> None:
    """A load balancer asks for it. It reveals nothing but that the store can be read."""
    answer = httpx.get(f"{endpoint.url}/healthz", verify=False, timeout=60)
    assert (answer.status_code, answer.text) == (200, "ok\n")
    with endpoint.store.write() as db:
        db.execute("ALTER TABLE users RENAME TO lost")
    assert httpx.get(f"{endpoint.url}/healthz", verify=False, timeout=60).status_code == 500
    with endpoint.store.write() as db:
        db.execute("ALTER TABLE lost RENAME TO users")


def test_the_access_log_has_each_request_and_no_secret(tmp_path: Path) -> None:
    """One JSON line for each request on stderr, with the name of the token."""
    script = (
        "import os, sys\n"
        "from sessiond.cli import main\n"
        "sys.exit(main(['serve', '--data', sys.argv[1], '--port', '0', '--announce', '-', '--access-log'], os.environ))"
    )
    environ = {"HOME": str(tmp_path), "PYTHONPATH": SOURCE, "PATH": os.defpath}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = json.loads(process.stdout.readline())["url"]
        asked = {"code": "sdi_secret", "device_id": SESSION, "machine_id": "ada"}
        assert httpx.post(f"{url}/v1/enrol", json=asked, verify=False, timeout=60).status_code == 403
        assert (
            httpx.get(f"{url}/v1", headers={"Authorization": "Bearer secret"}, verify=False, timeout=60).status_code
            == 401
        )
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
        assert process.wait(60) == 0
    logged = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    found = [(each["method"], each["path"], each["status"]) for each in logged if each["event"] == "endpoint.answered"]
    assert found == [("POST", "/v1/enrol", 403), ("GET", "/v1", 401)]
    assert "secret" not in errors


def test_a_request_is_counted_with_the_last_part_of_its_answer() -> None:
    """Until then it is under way: the seconds of a long answer would be those of its first part."""
    requests = Requests()
    counted: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(_: Message) -> None:
        counted.append("status=" in "".join(requests.lines()))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    anyio.run(Observed(app, requests), {"type": "http"}, receive, send)
    assert counted == [False, False, True]
