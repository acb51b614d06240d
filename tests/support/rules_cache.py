"""The rules, compiled once for all daemons that the tests start: compiling costs each new state directory a second."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile

from sessiond.redact.policy import Policy
from sessiond.redact.redactor import Redactor


@functools.cache
def _compiled() -> str:
    directory = tempfile.mkdtemp(prefix="sessiond-rules-")
    atexit.register(shutil.rmtree, directory)
    Redactor(Policy(), cache_dir=directory)
    return directory


def put_rules(state: str) -> None:
    """Make a state directory that has them, as after an earlier life of the daemon."""
    os.makedirs(state, mode=0o700, exist_ok=True)
    shutil.copytree(_compiled(), os.path.join(state, "rules"), dirs_exist_ok=True)
