"""The service on a machine that boots, is logged in to and out of, loses its power, and boots again.

systemd is PID 1 there, logind opens the sessions, and the program is the installed wheel.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from booted_machine import UID, USER, Machine, machine
from private_manager import until

from support.harness import CLAUDE, SESSION, claude, encode

ROOT = Path(__file__).parents[3]
QUICK = "[Service]\nRestartSec=100ms\nWatchdogSec=2s\n"
URL = "http://127.0.0.1:8377"
NETWORK = """
[Service]
ExecStart={python} {script} /srv/metered
"""
POLICY = """<busconfig><policy user="root"><allow own="org.freedesktop.NetworkManager"/></policy>
<policy context="default"><allow send_destination="org.freedesktop.NetworkManager"/></policy></busconfig>"""
ENDPOINT = """
[Service]
ExecStart={program} serve --data /srv/endpoint --token-file /srv/token
ExecStartPost=/bin/sh -c 'until [ -s /srv/token ]; do sleep 0.1; done'
[Install]
WantedBy=multi-user.target
"""
STREAM = f"""
import sys, urllib.request
address = "{URL}/v1/sessions/box/{SESSION}/streams/main"
asked = urllib.request.Request(address, headers={{"Authorization": "Bearer " + sys.argv[1]}})
print(urllib.request.urlopen(asked).read().hex())
"""


@pytest.fixture(scope="module")
def wheel(base: Path) -> Path:
    """Install the wheel into its own environment, with the dependencies of these tests."""
    if any(importlib.util.find_spec(name) is None for name in ("hatchling", "hatch_vcs")):
        pytest.skip("hatchling or hatch-vcs is not installed")
    made = base / "venv"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(base / "wheel"), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    (found,) = (base / "wheel").glob("*.whl")
    into = ["--python", str(made / "bin/python"), "install", "--no-deps", "--no-index", str(found)]
    subprocess.run([*pip, *into], check=True)
    (packages,) = made.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    return made


@pytest.fixture(scope="module")
def switched_on(base: Path, wheel: Path) -> Iterator[Machine]:
    """Boot one machine for all tests here."""
    prefixes = [Path(sys.prefix), Path(sys.base_prefix), *map(Path, filter(os.path.isdir, sys.path))]
    programs = [path.resolve() for path in prefixes if path.resolve().parts[1] != "usr" and path != ROOT]
    starting = machine(base, [wheel, *programs])
    try:
        made = starting.__enter__()
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    try:
        yield made
    finally:
        starting.__exit__(None, None, None)


class Box:
    """The machine with the files of its user."""

    def __init__(self, machine: Machine, program: Path) -> None:
        self.machine, self.program = machine, program
        self.home = machine.home
        self.token = (machine.root / "srv/token").read_text().strip()

    def sessiond(self, *words: str, code: int = 0, **environ: str) -> str:
        done = self.machine(str(self.program), *words, **environ)
        if done.code != code:
            pytest.fail(f"{words}: {done}\n{self.machine.as_root('journalctl', '-b', '-n30', '--no-pager').out}")
        assert "Traceback" not in done.err
        return done.out

    def write(self, name: str, text: bytes | str, mode: int = 0o600) -> Path:
        """Write a file into the user's home, owned by the user."""
        path = self.home / name
        for folder in reversed(path.relative_to(self.home).parents):
            if not (self.home / folder).exists():
                (self.home / folder).mkdir()
                os.chown(self.home / folder, UID, UID)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        os.chown(path, UID, UID)
        return path

    def say(self, *numbers: int) -> None:
        """Write lines as Claude Code does while the user works with it."""
        path = self.home / CLAUDE
        before = path.read_bytes() if path.exists() else b""
        self.write(CLAUDE, before + b"".join(encode(claude(SESSION, number)) for number in numbers))

    def status(self) -> dict[str, Any]:
        out = self.machine(str(self.program), "status", "--json").out
        return json.loads(out) if out else {}

    def arrived(self) -> bool:
        """Return whether the endpoint has all bytes of the file."""
        done = self.machine(str(self.program.parent / "python"), "-c", STREAM, self.token)
        assert "Error" not in done.err or "404" in done.err, done
        return done.code == 0 and bytes.fromhex(done.out.strip()) == (self.home / CLAUDE).read_bytes()

    def pushes(self) -> list[tuple[int, int]]:
        """Return how many records and segments each acknowledged push held."""
        events = [json.loads(line) for line in self.sessiond("logs", "--json").splitlines()]
        return [
            (int(event["sessions"]), int(event["segments"])) for event in events if event["event"] == "upload.acked"
        ]

    def runs(self) -> bool:
        return self.machine.show("ActiveState") == "active"

    def sessions(self) -> list[str]:
        """List the sessions of logged-in users."""
        return self.machine.as_root("loginctl", "list-sessions", "--no-legend").out.split()


@pytest.fixture
def box(switched_on: Machine, wheel: Path) -> Iterator[Box]:
    """Yield the machine, just booted, with an endpoint on it and a home without any settings."""
    switched_on.shut_down()
    for path in (*switched_on.home.iterdir(), *(switched_on.root / "srv").iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (switched_on.root / "var/lib/systemd/linger").iterdir():
        path.unlink()
    shutil.rmtree(switched_on.root / "var/log/journal")
    (switched_on.root / "var/log/journal").mkdir()
    program = wheel / "bin/sessiond"
    units = switched_on.root / "etc/systemd/system"
    (units / "endpoint.service").write_text(ENDPOINT.format(program=program))
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    wanted = units / "multi-user.target.wants/endpoint.service"
    if not wanted.is_symlink():
        wanted.symlink_to("../endpoint.service")
    switched_on.boot()
    made = Box(switched_on, program)
    made.write(".config/sessiond/config.toml", f'[endpoint]\nurl = "{URL}"\ntoken_file = "~/.config/sessiond/token"\n')
    made.write(".config/sessiond/token", made.token)
    yield made


def test_with_lingering_it_runs_from_boot_and_goes_on_where_it_was(box: Box) -> None:
    """The daemon runs again without a login, after a shutdown and after a crash, and sends nothing twice."""
    box.machine.log_in()
    box.say(1, 2)
    assert "\nenabled lingering: it starts at boot" in box.sessiond("install", "--linger")
    until(box.arrived)
    box.machine.log_out()
    until(lambda: box.sessions() == [])
    assert "\nenabled it: it starts at boot\n" in box.sessiond("install")
    device = (box.home / ".local/state/sessiond/device.toml").read_text()
    pushed = box.pushes()
    assert sum(segments for _, segments in pushed) == 1
    for number, end in ((3, box.machine.shut_down), (4, box.machine.cut_power)):
        end()
        box.machine.boot()
        until(box.runs)
        assert box.sessions() == []
        until(lambda: (box.status().get("progress") or {}).get("done"))
        assert box.pushes() == pushed
        box.say(number)
        until(box.arrived)
        pushed.append((1, 1))
        until(lambda: len(box.pushes()) >= len(pushed))
        assert box.pushes() == pushed
    assert (box.home / ".local/state/sessiond/device.toml").read_text() == device
    assert box.status()["daemon"]["service"] == "systemd"


def test_without_lingering_it_lives_from_login_to_logout(box: Box) -> None:
    """L15: it ends with a last push. What a tool writes meanwhile (from cron, say) is captured after the next login."""
    box.machine.log_in()
    assert box.sessiond("install").endswith("enabled it: it starts with your first login\nstarted it\n")
    box.say(1)
    until(box.arrived)
    box.machine.log_out()
    until(lambda: box.machine("pgrep", "--uid", str(UID)).code == 1)
    box.say(2)
    box.machine.log_in()
    until(box.runs)
    until(box.arrived)
    box.machine.log_out()


def test_it_comes_back_from_a_kill_and_from_a_hang_and_not_from_a_wrong_config(box: Box) -> None:
    """The service stays stopped after exit code 78, even over a boot, and one command starts it again."""
    box.machine.as_root("loginctl", "enable-linger", USER)
    until(lambda: box.machine.up)
    box.write(".config/systemd/user/sessiond.service.d/override.conf", QUICK)
    box.sessiond("install")
    for restarts, sent in (("1", "-KILL"), ("2", "-STOP")):
        before = box.machine.show("MainPID")
        box.machine("kill", sent, before)
        until(lambda restarts=restarts: box.machine.show("NRestarts") == restarts and box.runs())
        assert box.machine.show("MainPID") != before
    config = box.home / ".config/sessiond/config.toml"
    text = config.read_text()
    box.write(".config/sessiond/config.toml", "rescn = 5\n" + text)
    box.machine.shut_down()
    box.machine.boot()
    until(lambda: box.machine.show("ActiveState") == "failed")
    assert (box.machine.show("NRestarts"), box.machine.show("ExecMainStatus")) == ("0", "78")
    assert "config.toml:1: " in box.sessiond("status", code=3)
    refused = box.machine(str(box.program), "start")
    assert (refused.code, "config.toml:1: rescn: unknown key" in refused.err) == (1, True)
    box.write(".config/sessiond/config.toml", text)
    assert box.sessiond("start") == "the service is running\n"


def test_init_with_yes_asks_nothing_on_a_terminal(box: Box) -> None:
    """`--yes` accepts every proposal, even lingering. Without it, a question without an answer counts as no."""
    box.machine.log_in()
    words = ["script", "--quiet", "--return", "/dev/null", "--command"]
    done = box.machine(*words, f"{box.program} install")
    assert "Keep it running after you log out, and start it at boot? [Y/n]" in done.out
    assert (done.code, "lingering" in done.out) == (0, False)
    done = box.machine(*words, f"{box.program} init --yes")
    assert done.code == 0, done
    assert "[Y/n]" not in done.out
    assert "enabled lingering" in done.out


def test_the_sandbox_closes_the_system_and_not_the_tools(box: Box) -> None:
    """Files can be linked from a tool's directory into ours, and writes outside the home fail."""
    box.machine.as_root("loginctl", "enable-linger", USER)
    until(lambda: box.machine.up)
    box.sessiond("install")
    drop_in = box.home / ".config/systemd/user/sessiond.service.d/10-sandbox.conf"
    if not drop_in.exists():
        pytest.skip("this kernel allows a user no mount namespace")
    assert box.machine.show("ProtectSystem") == "strict"
    settings = [f"--property={line}" for line in drop_in.read_text().splitlines() if line[:1] not in "#["]
    words = ["systemd-run", "--user", "--wait", "--quiet", "--collect", *settings, "--"]
    box.write(".codex/x", "x")
    home = f"/home/{USER}"
    assert box.machine(*words, "ln", f"{home}/.codex/x", f"{home}/.local/state/sessiond/x").code == 0
    box.machine.as_root("chmod", "1777", "/srv")
    assert box.machine("touch", "/srv/x").code == 0
    assert box.machine(*words, "touch", "/srv/x").code != 0


def test_a_token_that_is_encrypted_on_disk_reaches_the_daemon(box: Box) -> None:
    """The steps are those of docs/operations.md: the system's manager decrypts it for the user's, and that for the
    service.
    """
    if box.machine.as_root("systemd-creds", "--version").code:
        pytest.skip("systemd before 250 has no systemd-creds")
    credentials = box.machine.root / "etc/credstore.encrypted"
    credentials.mkdir(exist_ok=True)
    encrypt = "systemd-creds encrypt --name=sessiond.token - /etc/credstore.encrypted/sessiond.token"
    box.machine.as_root("sh", "-c", f"printf %s {box.token} | {encrypt}")
    assert box.token.encode() not in (credentials / "sessiond.token").read_bytes()
    folder = box.machine.root / f"etc/systemd/system/user@{UID}.service.d"
    folder.mkdir(exist_ok=True)
    (folder / "sessiond.conf").write_text(
        "[Service]\nLoadCredentialEncrypted=sessiond.token:/etc/credstore.encrypted/sessiond.token\n"
    )
    box.machine.as_root("systemctl", "daemon-reload")
    box.machine.as_root("loginctl", "enable-linger", USER)
    until(lambda: box.machine.up)
    (box.home / ".config/sessiond/token").unlink()
    box.write(".config/sessiond/config.toml", f'[endpoint]\nurl = "{URL}"\n')
    drop_in = "[Service]\nLoadCredential=token:sessiond.token\n"
    box.write(".config/systemd/user/sessiond.service.d/token.conf", drop_in)
    box.sessiond("install")
    box.say(1)
    until(box.arrived)


def test_a_metered_network_is_asked_for_from_within_the_sandbox(box: Box) -> None:
    """Only the backlog waits for it. An answer is awaited for two seconds; without one, the network is not metered."""
    pytest.importorskip("jeepney")
    root, python = box.machine.root, box.program.parent / "python"
    (root / "srv/metered").write_text("1")
    shutil.copy(Path(__file__).with_name("network_manager.py"), root / "srv")
    (root / "etc/dbus-1/system.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/dbus-1/system.d/network.conf").write_text(POLICY)
    unit = root / "etc/systemd/system/network.service"
    unit.write_text(NETWORK.format(python=python, script="/srv/network_manager.py"))
    box.machine.as_root("systemctl", "daemon-reload")
    box.machine.as_root("systemctl", "reload", "dbus")
    assert box.machine.as_root("systemctl", "start", "network").code == 0
    box.machine.as_root("loginctl", "enable-linger", USER)
    until(lambda: box.machine.up)
    box.say(1)
    os.utime(box.home / CLAUDE, (0, 0))
    box.sessiond("install")
    until(lambda: (box.status().get("progress") or {}).get("waits") == "on a metered network")
    assert not box.arrived()
    box.machine.as_root("systemctl", "kill", "--signal=STOP", "network")
    box.sessiond("restart")
    until(box.arrived)


def test_uninstall_leaves_nothing_that_a_boot_would_start(box: Box) -> None:
    box.machine.as_root("loginctl", "enable-linger", USER)
    until(lambda: box.machine.up)
    box.sessiond("install")
    gone = box.machine(str(box.program), "uninstall")
    assert "Lingering stays enabled" in gone.err
    box.machine.shut_down()
    box.machine.boot()
    until(lambda: box.machine("systemctl", "--user", "is-system-running", "--wait").out == "running\n")
    assert box.machine.show("LoadState") == "not-found"
    assert box.machine("pgrep", "--uid", str(UID), "sessiond").code == 1
    left = {path.relative_to(box.home).parts[:3] for path in box.home.rglob("*") if path.is_file()}
    assert {parts[-1] if parts[0] == ".local" else parts[1] for parts in left} == {"sessiond"}
