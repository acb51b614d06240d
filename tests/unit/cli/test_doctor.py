"""What doctor finds. Each finding has a hint that says how to repair it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond.cli import main
from sessiond.endpoint import wire
from sessiond.endpoint.client import Client
from sessiond.endpoint.server import Running, running
from support.processes import start_listed

TOKEN = "token-of-a-test"
Finding = dict[str, Any]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "endpoint"), token=TOKEN) as made:
        yield made


class Home:
    """A home with a configuration, and doctor in it."""

    def __init__(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.base, self._capsys = base, capsys
        self.config = base / "config.toml"
        self.state = base / "state"
        self.token = base / "token"
        self.token.write_text(TOKEN)
        self.token.chmod(0o600)
        self.environ = {"HOME": str(base), "SESSIOND_CONFIG": str(self.config), "PATH": ""}

    def configure(self, url: str, more: str = "") -> None:
        lines = f'state_dir = "{self.state}"\n[endpoint]\nurl = "{url}"\ntoken_file = "{self.token}"\n{more}'
        self.config.write_text(lines)

    def doctor(self, *words: str) -> tuple[int, dict[str, Finding]]:
        """Return the exit code and the worst finding of each check."""
        code = main(["doctor", "--json", *words], self.environ)
        answer = json.loads(self._capsys.readouterr().out)
        rank = ("ok", "info", "error").index
        return code, {
            each["check"]: each for each in sorted(answer["findings"], key=lambda each: rank(each["severity"]))
        }


def push_as(endpoint: Running, machine: str) -> None:
    """Push a byte as another device of the user, under this machine id."""
    device = uuid.UUID(int=7)
    data = wire.PushAppend(
        machine_id=machine,
        session=device,
        stream="main",
        generation=0,
        offset=0,
        length=1,
        sha256=hashlib.sha256(b"x").hexdigest(),
        data="x",
    )
    client = Client(endpoint.url, TOKEN, device_id=device)
    assert [result.status for result in client.push([data], "1").results] == ["stored"]
    client.close()


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path, capsys)


def test_a_healthy_installation_has_nothing_wrong(home: Home, endpoint: Running) -> None:
    home.configure(endpoint.url)
    code, found = home.doctor()
    assert code == 0, found
    assert {check for check, each in found.items() if each["severity"] == "ok"} >= {"endpoint", "disk"}
    assert found["spool"]["what"] == "nothing has been captured yet"


def test_permissions_are_found_and_mended(home: Home, endpoint: Running) -> None:
    home.configure(endpoint.url)
    home.state.mkdir()
    home.state.chmod(0o755)
    home.token.chmod(0o644)
    code, found = home.doctor()
    assert code == 4
    assert found["token"]["fix"] == f"chmod 600 {home.token}"
    assert found["state"]["fix"] == f"chmod 700 {home.state}"
    code, _ = home.doctor("--fix")
    assert (home.token.stat().st_mode & 0o777, home.state.stat().st_mode & 0o777) == (0o600, 0o700)
    assert code == 0


def test_a_damaged_spool_is_found(home: Home, endpoint: Running) -> None:
    home.configure(endpoint.url)
    home.state.mkdir(mode=0o700)
    (home.state / "spool.db").write_bytes(b"SQLite format 3\0" + os.urandom(8000))
    code, found = home.doctor()
    assert (code, found["spool"]["severity"]) == (4, "error")


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"token": "a-wrong-one"}, "token", "the endpoint refuses"),
        ({"url": "http://127.0.0.1:1"}, "endpoint", "http://127.0.0.1:1 can't be reached: connection refused"),
        ({"url": "https://nowhere.invalid"}, "name", "nowhere.invalid is not found"),
        ({"more": 'ca_file = "/dev/null"\n'}, "certificate", "/dev/null can't be used"),
    ],
)
def test_the_step_on_the_way_to_the_endpoint_is_named(
    home: Home, endpoint: Running, change: dict[str, str], check: str, says: str
) -> None:
    home.configure(change.get("url", endpoint.url), change.get("more", ""))
    if "token" in change:
        home.token.write_text(change["token"])
    code, found = home.doctor()
    assert (code, found[check]["severity"]) == (4, "error"), found
    assert says in found[check]["what"] or check == "token"
    assert found[check]["fix"]


def test_a_name_that_another_device_has_is_an_error(home: Home, endpoint: Running) -> None:
    """It is found before anything is pushed, and nothing is written for that. Another name mends it."""
    push_as(endpoint, "laptop")
    home.configure(endpoint.url)
    home.environ["SESSIOND_MACHINE_ID"] = "laptop"
    code, found = home.doctor()
    assert code == 4
    assert (found["machine"]["severity"], found["endpoint"]["severity"]) == ("error", "ok")
    assert "another device already pushes as laptop" in found["machine"]["what"]
    assert "sessiond config set machine_id NAME" in found["machine"]["fix"]
    assert "sessiond serve adopt laptop" in found["machine"]["fix"]
    assert not (home.state / "device.toml").exists()
    home.environ["SESSIOND_MACHINE_ID"] = "desk"
    assert "machine" not in home.doctor()[1]


def test_an_endpoint_without_tls_is_found(home: Home, endpoint: Running) -> None:
    """No message of OpenSSL is shown."""
    home.configure(endpoint.url.replace("http:", "https:"))
    code, found = home.doctor()
    assert (code, found["endpoint"]["severity"]) == (4, "error"), found
    assert found["endpoint"]["what"].endswith("does not speak TLS")
    assert "http://" in str(found["endpoint"]["fix"])


def test_a_missing_token_is_a_problem_where_the_endpoint_needs_one(home: Home, endpoint: Running) -> None:
    """`GET /v1` answers without a token, but each push is refused."""
    home.configure(endpoint.url)
    settings = home.config.read_text()
    home.config.write_text(settings.replace(f'token_file = "{home.token}"\n', ""))
    code, found = home.doctor()
    assert (code, found["token"]["severity"]) == (4, "error"), found
    assert "a bearer token is needed" in found["token"]["what"]


def test_sessions_that_claude_code_will_delete_are_reported(home: Home, endpoint: Running) -> None:
    home.configure(endpoint.url)
    folder = home.base / ".claude/projects/-x"
    folder.mkdir(parents=True)
    (folder / "00000111-0000-4000-8000-000000000111.jsonl").write_text("{}\n")
    _, found = home.doctor()
    assert found["clean-up"]["what"].startswith("claude-code deletes sessions after 30 days")
    assert "cleanupPeriodDays" in found["clean-up"]["fix"]


@pytest.mark.skipif(sys.platform != "linux", reason="the process is found in /proc")
def test_a_running_tool_that_saves_nothing_is_an_error(home: Home, endpoint: Running) -> None:
    """A real process has the tool's name, the marker in its environment and a terminal as its input."""
    home.configure(endpoint.url)
    program = home.base / "claude"
    program.symlink_to(str(shutil.which("sleep")))
    _, found = home.doctor()
    assert found["saving"]["severity"] == "ok"
    outer, inner = os.openpty()
    marked = {"HOME": str(home.base), "CLAUDE_CODE_CHILD_SESSION": "1"}
    process = start_listed([str(program), "60"], marked, stdin=inner)
    try:
        code, found = home.doctor()
        assert (code, found["saving"]["severity"]) == (4, "error")
        assert f"process {process.pid}" in found["saving"]["what"]
        assert "CLAUDE_CODE_FORCE_SESSION_PERSISTENCE=1" in found["saving"]["fix"]
    finally:
        process.kill()
        process.wait()
        os.close(outer)
        os.close(inner)


def test_it_fits_80_columns_and_never_shows_a_proxys_password(
    home: Home, endpoint: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.configure("https://nowhere.invalid")
    set_proxy(monkeypatch, HTTPS_PROXY="http://ada:SENTINEL@127.0.0.1:1")
    assert main(["doctor"], home.environ) == 4
    out = capsys.readouterr().out
    assert "requests go through http://127.0.0.1:1 (HTTPS_PROXY)" in out.replace("\n       ", " ")
    assert "SENTINEL" not in out
    assert max(len(line) for line in out.splitlines() if "/" not in line) <= 80


def test_it_names_no_proxy_for_an_excluded_host(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client connects directly to a host in NO_PROXY, and doctor reports the same."""
    home.configure("https://endpoint.invalid")
    set_proxy(monkeypatch, HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY="endpoint.invalid")
    _, found = home.doctor()
    assert "proxy" not in found
    assert found["name"]["what"].startswith("endpoint.invalid is not found")


def test_a_proxy_that_can_not_be_used_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy with an unknown scheme is reported with the variable that names it."""
    home.configure("https://endpoint.invalid")
    set_proxy(monkeypatch, ALL_PROXY="socks9://127.0.0.1:1")
    code, found = home.doctor()
    assert (code, found["endpoint"]["severity"]) == (4, "error")
    assert "socks9://127.0.0.1:1 (ALL_PROXY) can't be used" in found["endpoint"]["what"]


def set_proxy(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set the proxy variables of this process; the client reads these."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_second_directory_of_a_tool_comes_with_the_command_that_adds_it(
    home: Home, endpoint: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    home.configure(endpoint.url)
    other = home.base / ".claude-work"
    (other / "projects").mkdir(parents=True)
    _, found = home.doctor()
    assert found["homes"]["fix"] == f"sessiond config set sources.claude-code.roots '[\"{other}\"]'"
    assert main(["config", "set", "sources.claude-code.roots", f'["{other}"]'], home.environ) == 0
    capsys.readouterr()
    assert "homes" not in home.doctor()[1]
