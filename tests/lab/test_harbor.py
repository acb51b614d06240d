"""Harbor's own validator accepts the trajectory of every sample: `make lab`.

Harbor needs Python 3.12 or newer and has many dependencies, so it gets an environment of its own, with no more than its
models and its validator import. HARBOR_PYTHON names a Python that has them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HARBOR = "harbor==0.26.0"
IMPORTED = ("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection")
VALIDATE = """\
import json, pathlib, sys
from harbor.utils.trajectory_validator import TrajectoryValidator
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    validator = TrajectoryValidator()
    if not validator.validate(json.loads(path.read_text(encoding="utf-8"))):
        print(path.name, validator.get_errors())
"""


def python_with_harbor(directory: Path) -> str:
    """Return a Python that can import the validator; install it if HARBOR_PYTHON is not set."""
    named = os.environ.get("HARBOR_PYTHON")
    if named:
        return named
    found = sys.executable if sys.version_info >= (3, 12) else shutil.which("python3.13") or shutil.which("python3.12")
    if found is None:
        pytest.skip("harbor needs Python 3.12 or newer")
    subprocess.run([found, "-m", "venv", str(directory)], check=True)
    python = str(directory / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", HARBOR, *IMPORTED], check=True)
    return python


def validate(python: str, directory: Path) -> list[str]:
    """Return a line for each file that is no valid trajectory."""
    done = subprocess.run([python, "-c", VALIDATE, str(directory)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.lab
def test_harbor_accepts_the_trajectory_of_every_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trajectory with a wrong step is refused, so the validator does look."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "conformance"))
    import shown

    from sessiond.cli.output import to_json
    from sessiond.transcript import atif
    from support.sample_tree import NAMES

    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.mkdir()
    wrong.mkdir()
    made = ""
    for name in NAMES:
        for record, threads, _ in shown.sessions(name):
            made = "\n".join(atif.lines(record, threads, to_json))
            (right / f"{name.replace('/', '-')}-{record.id}.json").write_text(made, encoding="utf-8")
    broken = json.loads(made)
    broken["steps"][0]["step_id"] = 7
    (wrong / "step.json").write_text(json.dumps(broken))
    python = python_with_harbor(tmp_path / "venv")
    assert validate(python, right) == []
    assert len(validate(python, wrong)) == 1
