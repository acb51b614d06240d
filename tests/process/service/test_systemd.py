"""The service under a real systemd user manager: what `sessiond install` promises."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from private_manager import Manager, manager, until

from sessiond.endpoint.server import running
from support.harness import CLAUDE, SESSION, claude, encode
from support.rules_cache import put_rules

QUICK = "[Service]\nRestartSec=100ms\nWatchdogSec=2s\n"
"""What a test can't wait for, in a drop-in as a user would write one."""


@pytest.fixture(scope="module")
def shared(base: Path, program: Path) -> Iterator[Manager]:
    """Start one manager for all tests here."""
    starting = manager(base, [str(program.parent)])
    try:
        made = starting.__enter__()
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    try:
        yield made
    finally:
        starting.__exit__(None, None, None)


@pytest.fixture
def inside(shared: Manager) -> Iterator[Manager]:
    """Yield the manager with an empty home."""
    yield shared
    shared.clean()


def files(home: Path) -> list[str]:
    """List the files of the home, without those of the manager."""
    found = [str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()]
    return sorted(name for name in found if name != "manager.log")


def override(inside: Manager, text: str) -> None:
    folder = inside.home / ".config/systemd/user/sessiond.service.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "override.conf").write_text(text)


def install(inside: Manager) -> None:
    """Install the service. Without an endpoint, each start would start the built-in archive as well."""
    put_rules(str(inside.home / ".local/state/sessiond"))
    config = inside.home / ".config/sessiond/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    if not config.exists():
        config.write_text('[endpoint]\nurl = "http://127.0.0.1:9"\n')
    done = inside("sessiond", "install")
    assert (done.code, done.err) == (
        0,
        "`sessiond status` shows its state, `sessiond uninstall` removes it.\n",
    )


def test_install_runs_it_and_uninstall_leaves_nothing_but_the_state(inside: Manager, program: Path) -> None:
    """`install` returns when the daemon is ready; a second one changes nothing and restarts it."""
    done = inside("sessiond", "install", CODEX_HOME="/srv/my codex%", SESSIOND_TOKEN="SENTINEL")
    assert done.code == 0, done
    unit = inside.home / ".config/systemd/user/sessiond.service"
    assert f"wrote {unit}\n" in done.out
    assert done.out.endswith("started it\n")
    assert f"ExecStart={program} run\n" in unit.read_text()
    assert [inside.show(name) for name in ("ActiveState", "Type", "Result")] == ["active", "notify", "success"]
    assert inside.show("StatusText").startswith("pushing to http://127.0.0.1:")
    pid = inside.show("MainPID")
    environ = inside("cat", f"/proc/{pid}/environ").out.split("\0")
    assert "CODEX_HOME=/srv/my codex%" in environ
    assert "SESSIOND_TOKEN may contain a secret" in done.err
    assert not any("SENTINEL" in path.read_text(errors="replace") for path in unit.parent.rglob("*.conf"))
    again = inside("sessiond", "install", CODEX_HOME="/srv/my codex%")
    assert f"kept {unit}\n" in again.out
    assert inside.show("MainPID") != pid

    gone = inside("sessiond", "uninstall")
    assert gone.code == 0, gone
    assert inside.show("ActiveState") == "inactive"
    assert inside.show("LoadState") == "not-found"
    assert {name.split("/")[:3][-1] for name in files(inside.home)} == {"sessiond"}
    assert (inside.home / ".local/state/sessiond/spool.db").exists()
    assert inside("sessiond", "uninstall").out == "the service is not installed\n"


def test_a_sandbox_lets_links_pass_from_a_tools_directory_to_ours(inside: Manager) -> None:
    """Hard links keep files that wait, and can't cross a mount: the home stays one mount."""
    install(inside)
    drop_in = inside.home / ".config/systemd/user/sessiond.service.d/10-sandbox.conf"
    if not drop_in.exists():
        pytest.skip("this system allows a user's service no mount namespace")
    assert inside.show("ProtectSystem") == "strict"
    settings = [f"--property={line}" for line in drop_in.read_text().splitlines() if line[:1] not in "#["]
    (inside.home / ".codex").mkdir()
    (inside.home / ".codex/x").touch()
    words = ["systemd-run", "--user", "--wait", "--quiet", "--collect", *settings, "--"]
    target = inside.home / ".local/state/sessiond/x"
    assert inside(*words, "ln", str(inside.home / ".codex/x"), str(target)).code == 0
    assert inside(*words, "touch", "/usr/x").code != 0


def test_a_daemon_that_is_killed_comes_back(inside: Manager) -> None:
    override(inside, QUICK)
    install(inside)
    before = inside.show("MainPID")
    inside("kill", "-KILL", before)
    until(lambda: inside.show("NRestarts") == "1" and inside.show("ActiveState") == "active")
    assert inside.show("MainPID") != before


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_comes_back(inside: Manager) -> None:
    """L6, L11: a daemon that works runs for longer than the watchdog's timeout."""
    override(inside, QUICK)
    install(inside)
    before = inside.show("MainPID")
    inside("sleep", "5")
    assert (inside.show("NRestarts"), inside.show("MainPID")) == ("0", before)
    inside("kill", f"-{signal.SIGSTOP.value}", before)
    until(lambda: inside.show("NRestarts") == "1" and inside.show("ActiveState") == "active")
    assert inside.show("MainPID") != before


def test_an_error_in_the_config_is_not_tried_again(inside: Manager) -> None:
    """After exit code 78 the service is not restarted, as only the user can help. The message names the line."""
    override(inside, QUICK)
    install(inside)
    config = inside.home / ".config/sessiond/config.toml"
    config.write_text("rescn = 5\n")
    done = inside("sessiond", "restart")
    assert (done.code, done.out) == (1, "")
    reason = (
        f"the service ended: {config}:1: rescn: unknown key" if inside.journals else "the configuration or the state"
    )
    assert done.err.startswith(f"sessiond: {reason}")
    assert "`sessiond config check`" in done.err
    inside("sleep", "1")
    assert (inside.show("NRestarts"), inside.show("ExecMainStatus")) == ("0", "78")
    config.write_text('[endpoint]\nurl = "http://127.0.0.1:9"\n')
    assert inside("sessiond", "start").out == "the service is running\n"


def test_stop_start_and_reload_do_what_they_say(inside: Manager) -> None:
    assert inside("sessiond", "stop").code == 3
    assert inside("sessiond", "start").err.startswith("sessiond: the service is not installed\n")
    install(inside)
    pid = inside.show("MainPID")
    assert inside("sessiond", "reload").code == 0
    assert inside.systemctl("reload", "sessiond").code == 0
    assert inside.show("MainPID") == pid
    assert inside("sessiond", "stop").out == "stopped\n"
    assert inside.show("ActiveState") == "inactive"
    assert inside("sessiond", "reload").code == 3
    assert inside("sessiond", "start").code == 0
    assert inside.show("ActiveState") == "active"


def test_the_token_may_be_a_credential_of_systemd(inside: Manager, tmp_path: Path) -> None:
    """The daemon finds it with `LoadCredential=token:...`, and it is in no environment."""
    with running(str(tmp_path / "endpoint"), token="token-as-a-credential") as endpoint:
        config = inside.home / ".config/sessiond/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'machine_id = "box"\n[endpoint]\nurl = "{endpoint.url}"\n')
        (inside.home / "secret").write_text(f"{endpoint.token}\n")
        (inside.home / "secret").chmod(0o600)
        override(inside, f"[Service]\nLoadCredential=token:{inside.home}/secret\n")
        install(inside)
        harness = inside.home / CLAUDE
        harness.parent.mkdir(parents=True)
        harness.write_bytes(encode(claude(SESSION, 1)))

        def held() -> bool:
            headers = {"Authorization": f"Bearer {endpoint.token}"}
            address = f"{endpoint.url}/v1/sessions/box/{SESSION}/streams/main"
            return httpx.get(address, headers=headers, timeout=60).content == harness.read_bytes()

        until(held)
        environ = inside("cat", f"/proc/{inside.show('MainPID')}/environ").out
        assert endpoint.token not in environ


def test_logs_come_from_the_journal(inside: Manager) -> None:
    """They are filtered by level, tool and time, printed as JSON, and followed. The level changes while it runs."""
    if not inside.journals:
        pytest.skip("no private journal here")
    began = datetime.now(UTC).isoformat()  # the tests before have logged too
    install(inside)
    pid = inside.show("MainPID")

    def logged(*words: str) -> list[dict[str, Any]]:
        done = inside("sessiond", "logs", "--json", "--since", began, *words)
        assert (done.code, done.err) == (0, "")
        return [json.loads(line) for line in done.out.splitlines()]

    until(lambda: [event for event in logged() if event["event"] == "daemon.started"])
    started = next(event for event in logged() if event["event"] == "daemon.started")
    assert (started["level"], started["pid"]) == ("info", pid)
    assert inside("sessiond", "logs").out.splitlines()[0][20:29] == "[info   ]"
    inside("sh", "-c", "sessiond logs -f --level debug --tool claude-code >$HOME/followed 2>&1 & echo $! >$HOME/pid")
    assert inside("sessiond", "config", "set", "log.level", "debug").code == 0
    until(lambda: [event for event in logged() if event["event"] == "config.reloaded"])
    harness = inside.home / CLAUDE
    harness.parent.mkdir(parents=True)
    harness.write_bytes(encode(claude(SESSION, 1)))
    until(lambda: [event for event in logged("--tool", "claude-code") if event["event"] == "ingest.captured"])
    until(lambda: "ingest.captured" in (inside.home / "followed").read_text())
    inside("sh", "-c", "kill $(cat $HOME/pid)")
    assert "claude-code" in (inside.home / "followed").read_text().splitlines()[-1]
    captured = logged("--tool", "claude-code")[-1]
    assert (captured["level"], captured["tool"]) == ("debug", "claude-code")
    assert not [event for event in logged("--level", "info") if event["level"] == "debug"]
    assert logged("--tool", "zed") == []
    done = inside("sessiond", "logs", "--since", "2099-01-01", "--json")
    assert (done.code, done.out) == (0, "")
    assert inside.show("MainPID") == pid


def test_install_writes_nothing_where_no_manager_answers(inside: Manager) -> None:
    done = inside("sessiond", "install", XDG_RUNTIME_DIR="", DBUS_SESSION_BUS_ADDRESS="")
    assert done.code == 1
    assert done.err.startswith("sessiond: systemd's user manager does not answer")
    assert files(inside.home) == []


def test_install_refuses_beside_a_daemon_in_a_terminal(inside: Manager) -> None:
    put_rules(str(inside.home / ".local/state/sessiond"))
    inside("sh", "-c", "sessiond run >/dev/null 2>&1 & echo $! > $HOME/pid")
    until(lambda: os.path.exists(inside.home / ".local/state/sessiond/spool.db"))
    done = inside("sessiond", "install")
    assert done.code == 75
    assert not (inside.home / ".config/systemd").exists()
    assert inside("sessiond", "stop").out == "stopped\n"
