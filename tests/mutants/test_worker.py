"""What a test leaves running ends with the process that ran the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mutants are judged on Linux")

JUDGE = """
import os, subprocess, sys, time
from mutants.worker import adopt_orphans, wait_for

DAEMON = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w', 1)); time.sleep(60)"
STARTER = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], start_new_session=True)"

adopt_orphans()
ready, started = os.pipe()
child = os.fork()
if child == 0:
    subprocess.run([sys.executable, "-c", STARTER, DAEMON, sys.argv[1]], check=True)
    while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])):
        time.sleep(0.01)
    os.write(started, b".")
    if sys.argv[2] == "ends":
        os._exit(7)
    time.sleep(60)
os.read(ready, 1)
print(wait_for(child, 30 if sys.argv[2] == "ends" else 0.1))
"""


@pytest.mark.parametrize(("how", "code"), [("ends", "7"), ("hangs", "None")])
def test_a_daemon_that_a_test_started_ends_with_it(tmp_path: Path, how: str, code: str) -> None:
    """In a session of its own and without a living parent, as a database server is."""
    number = tmp_path / "number"
    tests = Path(__file__).parents[1]
    judged = subprocess.run(
        [sys.executable, "-c", JUDGE, str(number), how],
        env={**os.environ, "PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert judged.stdout.strip() == code
    assert not Path(f"/proc/{number.read_text().strip()}").exists()
