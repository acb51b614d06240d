"""The modules that a daemon does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sessiond.memory import hide_modules


def test_a_daemon_loads_nothing_that_draws_on_a_terminal() -> None:
    """httpx and structlog import rich, click and pygments if they are installed: 10 MB, and 0.1 s of each start."""
    code = (
        "import sys, sessiond.daemon.daemon_run, sessiond.endpoint.read_client; from sessiond.logs import log;"
        " log.warning('spool.filled', free=0);"
        " assert 'httpx' in sys.modules and 'structlog' in sys.modules; print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert not loaded & {"rich", "click", "pygments", "markdown_it"}


def test_a_daemon_that_starts_loads_only_what_it_needs_then() -> None:
    """Imports take half of a start. The code for retries and for the archive is imported when it is used."""
    code = (
        "import sys, sessiond.daemon.daemon_run, sessiond.daemon.pusher; from sessiond.cli import run\n"
        "with run._progress({}, ''): print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    late = {"tenacity", "argparse", "importlib.resources", "sessiond.daemon.archive", "sessiond.redact.rules"}
    late |= {"sessiond.status", "sessiond.cli.bar"}
    assert not late & set(ran.stdout.split())


def test_what_was_hidden_is_there_afterwards() -> None:
    """Only imports inside the block find it missing. Loaded modules stay available."""
    sys.modules.pop("colorsys", None)
    with hide_modules("colorsys", "json"):
        with pytest.raises(ImportError):
            import colorsys
        import json  # noqa: F401
    import colorsys

    assert colorsys.ONE_THIRD


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps it")
def test_what_a_backlog_took_is_given_back() -> None:
    """The C library keeps free blocks between blocks in use unless it is told to trim them."""
    code = (
        "from sessiond.memory import trim_memory\n"
        "def held(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "blocks = [bytes(50_000) for _ in range(400)]; last = bytes(50_000); before = held()\n"
        "del blocks; trim_memory(); print(before - held())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 8_000_000
