"""`sessiond serve` as a real process: its start, its end, and the failures that it survives."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, Pusher, append, record
from stores import new_store

from sessiond import zstd
from sessiond.config.url import is_loopback
from sessiond.endpoint.client import Client
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.errors import EndpointError, StateError, WrongEndpoint
from support.program import SOURCE, Program, run

ENVIRONMENT = {"PATH": os.defpath, "HOME": os.devnull}


def serve(*arguments: str, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL) -> Program:
    """Start `sessiond serve` with these arguments."""
    return Program(["serve", *arguments], ENVIRONMENT, stdin=stdin, stdout=stdout)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sessiond serve` to its end; without input, as `--until-eof` sees it."""
    return run(["serve", *arguments], ENVIRONMENT)


@contextlib.contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[tuple[Program, str, str]]:
    """Serve over a pipe as a daemon does; yield the process, its URL and the token."""
    token_file = directory / "token"
    options = ["--data", str(directory), "--port", "0", "--announce", "-", "--token-file", str(token_file)]
    process = serve(*options, "--until-eof", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        yield process, url, token_file.read_text().strip()
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def test_two_endpoints_run_beside_each_other(tmp_path: Path) -> None:
    """Each takes a free port of its own."""
    with contextlib.ExitStack() as closing:
        stores = [closing.enter_context(new_store("sqlite", tmp_path / name)) for name in ("one", "two")]
        one, two = (closing.enter_context(running_store(store)) for store in stores)
        assert one.url != two.url


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """However the parent ends, its end of the pipe closes. The endpoint then exits with 0 and a closed store."""
    with serving(tmp_path) as (process, url, token), Pusher(url, token) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
    assert process.returncode == 0
    assert not (tmp_path / "endpoint.db-wal").exists()
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """The service manager sees exit code 0."""
    with serving(tmp_path) as (process, url, _):
        assert httpx.get(f"{url}/v1", verify=False, timeout=60).status_code == 200
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not (tmp_path / "endpoint.db-wal").exists()


def test_it_announces_to_a_file_or_a_descriptor(tmp_path: Path) -> None:
    """A parent learns the port without parsing text for people. The file exists only when it is complete."""
    reading, writing = os.pipe()
    data = ["--data", str(tmp_path), "--port", "0", "--until-eof", "--token-file", str(tmp_path / "token")]
    for to in (str(writing), str(tmp_path / "where")):
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiond", "serve", *data, "--announce", to],
            env={**ENVIRONMENT, "PYTHONPATH": SOURCE},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writing],
        )
        if to.isdigit():
            os.close(writing)
            with os.fdopen(reading) as file:
                said = json.loads(file.read())
        else:
            while not (tmp_path / "where").exists():
                assert process.poll() is None
            said = json.loads((tmp_path / "where").read_text())
        assert said["pid"] == process.pid
        assert httpx.get(f"{said['url']}/v1", verify=False, timeout=60).json()["endpoint_id"] == said["endpoint_id"]
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, b"")
        writing = 0


def test_tokens_are_made_listed_and_revoked_by_command(tmp_path: Path) -> None:
    """The secret is printed once on stdout, and nothing else is."""
    data = ("--data", str(tmp_path))
    made = command("token", "add", "laptop", *data)
    assert made.returncode == 0
    assert made.stdout.startswith("sd_")
    assert made.stdout.count("\n") == 1
    assert command("token", "add", "laptop", *data).returncode == 1
    table = command(*data, "token", "list").stdout.splitlines()
    assert table[0].split() == ["name", "user", "scope", "device", "created", "last", "used", "expires"]
    assert table[1].split()[:3] == ["laptop", "default", "push,read"]
    assert json.loads(command("token", "list", "--json", *data).stdout)[0]["name"] == "laptop"
    assert command("token", "revoke", "laptop", *data).returncode == 0
    assert command("token", "list", *data).stdout == ""
    assert command("adopt", "ada", *data).returncode == 1
    assert command("token").returncode == 2


def test_it_asks_devices_for_an_interval_between_pushes(tmp_path: Path) -> None:
    """`--push-interval` is part of what it says about itself."""
    with serving(tmp_path, "--push-interval", "1.5s") as (_, url, _):
        assert httpx.get(f"{url}/v1", verify=False, timeout=60).json()["pace"] == {"push_interval_ms": 1500}
    assert command("--data", str(tmp_path), "--push-interval", "1h").returncode == 2


def test_it_says_what_is_dangerous_or_missing(tmp_path: Path) -> None:
    """It refuses to serve other machines without TLS, and to start without a valid token."""
    data = ["--data", str(tmp_path), "--port", "0", "--until-eof"]
    errors = command(*data, "--host", "0.0.0.0").stderr
    assert "warning: 0.0.0.0 without TLS" in errors
    assert "sessiond serve invite" in errors
    assert command(*data, "--tls-cert", "nowhere.pem").returncode == 78
    with serving(tmp_path) as (_, url, _):
        taken = command("--data", str(tmp_path / "other"), "--port", url.rsplit(":", 1)[1])
        assert taken.returncode == 1
        assert "can't listen on" in taken.stderr


def certify(directory: Path) -> tuple[str, str]:
    """Make a self-signed certificate of 127.0.0.1; return its path and its key's."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, *subject]
    subprocess.run(make, check=True, capture_output=True)
    return cert, key


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    """The client reports it and stops; with `ca_file` it trusts the certificate."""
    cert, key = certify(tmp_path)
    with serving(tmp_path, "--tls-cert", cert, "--tls-key", key) as (_, url, token):
        client = Client(url, token, device_id=uuid.UUID(int=1))
        with pytest.raises(WrongEndpoint, match="is not trusted"):
            client.about()
        client.close()
        client = Client(url, token, device_id=uuid.UUID(int=1), ca_file=cert)
        assert client.about().protocol == 1
        client.close()


def test_an_outdated_tls_version_is_refused(tmp_path: Path) -> None:
    """A client sends no token to an endpoint that supports only TLS 1.1."""
    cert, key = certify(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    heard: list[bytes | str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    heard.append(context.wrap_socket(connection, server_side=True).recv(1000))
                except ssl.SSLError as error:
                    heard.append(error.reason or "")

        thread = threading.Thread(target=answer)
        thread.start()
        client = Client(
            f"https://127.0.0.1:{listener.getsockname()[1]}", "secret", device_id=uuid.UUID(int=1), ca_file=cert
        )
        with pytest.raises(EndpointError):
            client.about()
        client.close()
        thread.join()
    assert heard == ["UNSUPPORTED_PROTOCOL"]


def test_it_serves_https(tmp_path: Path) -> None:
    """The address is https if a certificate is given."""
    cert, key = certify(tmp_path)
    with serving(tmp_path, "--tls-cert", cert, "--tls-key", key) as (_, url, _):
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=_trusting(cert), timeout=60) as client:
            assert client.get(f"{url}/v1").status_code == 200


def test_a_key_or_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The error says what to do. The client refuses such a token file in the same way."""
    cert, key = certify(tmp_path)
    os.chmod(key, 0o640)
    refused = command("--data", str(tmp_path), "--tls-cert", cert, "--tls-key", key)
    assert refused.returncode == 78
    assert f"{key}: other users may read the key (mode 0640)" in refused.stderr
    (tmp_path / "token").write_text("t" * 32)
    (tmp_path / "token").chmod(0o604)
    refused = command("--data", str(tmp_path), "--token-file", str(tmp_path / "token"))
    assert refused.returncode == 78
    assert "other users may read the token (mode 0604)" in refused.stderr


def test_a_token_is_bound_listed_and_released_by_command(tmp_path: Path) -> None:
    """`token list` shows the token with its times to the minute, in UTC."""
    data = ("--data", str(tmp_path))
    words = ["token", "add", "phone", "--user", "ada", "--scope", "push,read", "--expires", "90d", *data]
    secret = command(*words).stdout.strip()
    with serving(tmp_path) as (_, url, _), Pusher(url, secret) as pusher:
        assert command("token", "list", *data).stdout.splitlines()[1].split()[:5] == [
            "phone", "ada", "push,read", "none", "yet",
        ]  # fmt: skip
        assert pusher.said(append(0, b"x")) == ["stored"]
        shown = command("token", "list", *data).stdout.splitlines()[1]
        assert DEVICE in shown
        assert "never" not in shown
        (token,) = json.loads(command("token", "list", "--json", *data).stdout)
        assert (token["user"], token["scopes"], token["device"]) == ("ada", ["push", "read"], DEVICE)
        assert token["used_ms"] >= token["made_ms"]
        assert token["expires_ms"] == token["made_ms"] + 90 * 86_400_000
        assert command("adopt", "ada", *data).returncode == 1, "that is a machine of user default"
        assert command("adopt", "ada", "--user", "ada", *data).returncode == 0
        with Pusher(url, secret, OTHER_DEVICE) as other:
            body = json.dumps(append(1, b"y"))
            assert other.post("/v1/push", content=body).json()["type"] == "wrong-device"
            assert command("token", "rebind", "phone", *data).returncode == 0
            assert other.said(append(1, b"y")) == ["stored"]
    assert command("token", "rebind", "nobody", *data).returncode == 1
    for wrong in (["--scope", "write"], ["--scope", ""], ["--user", "a b"]):
        assert command("token", "add", "x", *wrong, *data).returncode == 1
    for wrong in (["--expires", "soon"], ["--expires", "0d"], ["--expires", "9999999999d"]):
        assert command("token", "add", "x", *wrong, *data).returncode == 2


def _trusting(cert: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=cert)


@pytest.mark.parametrize("how", [("SIGKILL",), ("SIGTERM",), ("SIGTERM", "--drain", "1m")])
def test_an_end_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path, how: tuple[str, ...]) -> None:
    """It comes in the middle of pushes: every acknowledged byte and revision is there, and nothing half."""
    acknowledged: dict[str, list[bytes]] = {name: [] for name in "abc"}
    revisions = dict.fromkeys("abc", 0)
    refused: list[str] = []
    started = threading.Barrier(4)

    def push(url: str, token: str, name: str) -> None:
        offset = sum(map(len, acknowledged[name]))
        with Pusher(url, token) as pusher, contextlib.suppress(httpx.HTTPError):
            for count in range(100_000):
                if count == 3:
                    started.wait()
                mine = f"{name}{count}:{'x' * (count * 37 % 900)}\n".encode()
                record_id = f"00000000-0000-4000-8000-00000000000{name}"
                lines = (
                    append(offset, mine, stream=name),
                    record(revisions[name] + 1, id=record_id, message_count=count),
                )
                answer = pusher.post("/v1/push", content="\n".join(map(json.dumps, lines)))
                if answer.status_code == 503:
                    assert (count > 2, answer.headers["connection"]) == (True, "close")
                    refused.append(name)
                    return
                assert [each["status"] for each in answer.json()["results"]] == ["stored", "stored"]
                acknowledged[name].append(mine)
                revisions[name] += 1
                offset += len(mine)

    with serving(tmp_path, *how[1:]) as (process, url, token):
        threads = [threading.Thread(target=push, args=(url, token, name)) for name in acknowledged]
        for thread in threads:
            thread.start()
        started.wait()
        process.send_signal(signal.Signals[how[0]])
        for thread in threads:
            thread.join()
        if how[1:]:
            assert sorted(refused) == ["a", "b", "c"]
            process.send_signal(signal.SIGTERM)  # the second one cuts the drain short
        assert process.wait(20) == (-signal.SIGKILL if how[0] == "SIGKILL" else 0)
    with serving(tmp_path) as (_, url, token), Pusher(url, token) as pusher:
        for name, parts in acknowledged.items():
            assert len(parts) >= 3
            held = pusher.bytes_of(name)
            assert held.startswith(b"".join(parts))
            # The push whose answer was lost is there as a whole or not at all; sent again, it changes nothing.
            rest = held[len(b"".join(parts)) :]
            assert rest == b"" or rest.count(b"\n") == 1
            shown = pusher.get(f"/v1/sessions/ada/00000000-0000-4000-8000-00000000000{name}").json()
            assert shown["revision"] == revisions[name] + bool(rest)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory from /proc")
def test_memory_stays_flat_under_bombs(tmp_path: Path) -> None:
    """A few kilobytes that decode to a gigabyte cost the process no more than the limit."""
    frame = zstd.compress(bytes(16 << 20))
    with serving(tmp_path) as (process, url, token), Pusher(url, token) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        before = _peak(process.pid)
        for _ in range(3):
            answer = pusher.post("/v1/push", content=frame * 64, headers={"Content-Encoding": "zstd"})
            assert answer.status_code == 413
        assert _peak(process.pid) - before < 64 << 20


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def test_a_full_disk_turns_a_push_away_whole(tmp_path: Path) -> None:
    """The answer is 507 with Retry-After, and nothing of the push is stored. Once there is room, all of it is."""
    from sessiond.endpoint.server import running

    text = os.urandom(150_000).hex().encode()
    lines = [append(0, b"first\n"), append(6, text)]
    with running(str(tmp_path)) as it, Pusher(it.url, it.token) as pusher:
        with it.store.write() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
        with it.store.write() as db:
            db.execute(f"PRAGMA max_page_count = {pages + 20}")
        body = "\n".join(map(json.dumps, lines))
        answer = pusher.post("/v1/push", content=body)
        assert (answer.status_code, answer.json()["type"]) == (507, "full")
        assert int(answer.headers["retry-after"]) > 0
        assert pusher.said(append(6, text)) == ["offset-mismatch"]
        with it.store.write() as db:
            db.execute("PRAGMA max_page_count = 4294967294")
        assert pusher.said(*lines) == ["stored", "stored"]


def test_the_same_store_is_the_same_endpoint(tmp_path: Path) -> None:
    """The id is made once; a client notices when it talks to another store."""
    first, second = SqliteStore(str(tmp_path / "a")), SqliteStore(str(tmp_path / "b"))
    again = SqliteStore(str(tmp_path / "a"))
    assert first.endpoint_id == again.endpoint_id != second.endpoint_id
    for store in (first, second, again):
        store.close()


def test_a_store_that_cannot_be_used_is_left_alone(tmp_path: Path) -> None:
    """A newer store, a damaged one or an impossible path gives an error with a hint, and no byte changes."""
    SqliteStore(str(tmp_path / "newer")).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "newer" / "endpoint.db")) as db:
        db.execute("PRAGMA user_version = 99")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "endpoint.db").write_bytes(b"not a database at all" * 1000)
    (tmp_path / "file").write_text("")
    for name in ("newer", "damaged", "file"):
        with pytest.raises(StateError) as failed:
            SqliteStore(str(tmp_path / name))
        assert failed.value.hint
    assert (tmp_path / "damaged" / "endpoint.db").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("a.localhost", True),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_only_an_address_of_this_machine_needs_no_tls(host: str, here: bool) -> None:
    """An address may be a number or a name."""
    assert is_loopback(host) is here
