"""The wheel in a fresh environment of every supported Python: the first five minutes of a user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.harness import CLAUDE, SESSION, claude, encode

ROOT = Path(__file__).parents[2]
VERSIONS = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))

TOOLS = ("pytest", "pytest-timeout", "hypothesis")
CORE = (
    "unit/config/test_config.py",
    "unit/daemon/test_loop_failures.py",
    "integration/test_databases.py",
    "integration/test_endpoint_answers.py",
    "integration/test_odd_files.py",
    "integration/test_outbox_delivery.py",
    "integration/test_packed.py",
    "integration/test_pipeline.py",
)
"""Files of tests that each Python runs; the rest runs on one."""

pytestmark = pytest.mark.slow


def interpreter(version: str) -> str | None:
    """Find a Python of this version: on the PATH, or where pyenv keeps its own."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    names = [shutil.which(f"python{version}"), *(root / "versions").glob(f"{version}.*/bin/python{version}")]
    for name in (str(each) for each in names if each is not None):
        asked = subprocess.run(
            [name, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], check=False, capture_output=True
        )
        if asked.stdout.decode().strip() == version:  # a program that pyenv puts on the PATH may not work
            return name
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", str(made), str(ROOT)]
    subprocess.run(command, check=True)
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module", params=VERSIONS)
def venv(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a fresh environment of one Python."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"Python {request.param} is not on this machine")
    made = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(made)], check=True)
    install(made, wheel)
    return made


def install(venv: Path, *packages: str | Path) -> None:
    """Install packages with this environment's pip, which is faster than a pip in each."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", venv / "bin/python"]
    subprocess.run([*pip, "install", *packages], check=True)


def test_the_first_five_minutes(venv: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environ = {"HOME": str(home), "PATH": f"{venv}/bin:{os.defpath}", "LANG": "C.UTF-8"}

    def call(*words: str, code: int = 0) -> str:
        done = subprocess.run([venv / "bin/sessiond", *words], check=False, env=environ, capture_output=True, text=True)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
        return done.stdout

    assert call("--version").startswith("sessiond ")
    assert "never started" in call("status", code=3)
    session = home / CLAUDE
    session.parent.mkdir(parents=True)
    session.write_bytes(encode(claude(SESSION, 1)))
    assert "claude-code" in call("init", "--yes", "--no-service")
    assert call("sync") == "1 session, all acknowledged\n"
    assert "ExecStart=" in call("install", "--print") or sys.platform == "darwin"
    assert "complete" in call("completions", "bash")
    assert (venv / "share/man/man1/sessiond.1").exists()
    with open(tmp_path / "log", "w+b") as log:
        daemon = subprocess.Popen([venv / "bin/sessiond", "run"], env=environ, stderr=log)
        try:
            end = time.monotonic() + 60
            while "all read" not in (
                text := subprocess.run(
                    [venv / "bin/sessiond", "status"], check=False, env=environ, capture_output=True, text=True
                ).stdout
            ):
                assert time.monotonic() < end and daemon.poll() is None, text
                time.sleep(0.1)
            assert "captured      1 session" in text
            assert SESSION[:8] in call("ls")
            assert call("stop") == "stopped\n"
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            daemon.wait()
        log.seek(0)
        assert b"Traceback" not in log.read()


def test_the_core_holds(venv: Path) -> None:
    """These tests cover what differs most between Pythons: SQLite, compression, TOML, threads, warnings."""
    if (venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").exists():
        pytest.skip("all tests run on this one")
    install(venv, *TOOLS)
    files = [ROOT / "tests" / name for name in CORE]
    command = [venv / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
