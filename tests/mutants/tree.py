"""A private copy of the tree, in which the tests run against a mutant.

The checkout itself is never changed, so that an interrupted run leaves nothing behind in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NICENESS = 10


class Tree:
    """A copy of the files that git tracks or would add, below `base`/tree."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "tree"
        self.files: list[str] = []
        """The test files that the process of `run` collects; set it before the first call."""
        self._worker: subprocess.Popen[str] | None = None
        self._collected: subprocess.Popen[str] | None = None
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)

    @contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """Replace the text of daemon/sessiond/`file` for the duration of the block."""
        path = self.root / "daemon" / "sessiond" / file
        original, at = path.read_bytes(), path.stat()
        path.write_text(text)
        # Compiled files are recognised by size and by the second of the change, both of which a mutant may share
        # with the original. Without another time a stale one would run, and the mutant would survive.
        os.utime(path, (at.st_atime, at.st_mtime - 1000))
        try:
            yield
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))

    def pytest(self, *arguments: str, timeout: float, **environ: str) -> tuple[int | None, str]:
        """Run pytest in the copy; return its exit code, or None after `timeout` seconds, and what it printed."""
        if self._worker is None:
            self._worker = self._start("mutants.worker")
        output = self.base / "output"
        arguments = (*self._options("tmp"), *arguments)
        task = {"arguments": arguments, "environ": environ, "output": str(output), "timeout": timeout}
        return _answer(self._worker, task), output.read_text("utf-8", "replace")

    def run(self, task: dict[str, Any]) -> int:
        """Run a task of `mutants.collected` in the copy; return the outcome."""
        if self._collected is None:
            arguments = [*self._options("tmp-collected"), *self.files]
            self._collected = self._start("mutants.collected", str(self.base), *arguments)
        try:
            outcome: int = _answer(self._collected, task)
        except EOFError:
            raise RuntimeError((self.base / "printed").read_text("utf-8", "replace")[-3000:]) from None
        return outcome

    def _options(self, temporary: str) -> list[str]:
        options = ["-q", "-p", "no:cacheprovider", "-p", "mutants.plugin", "-n0", "--tb=line"]
        # The worker has imported plugins before pytest could rewrite their assertions.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        return [*options, f"--basetemp={self.base / temporary}", "--hypothesis-seed=7"]

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        temporary = self.base / "temporary"  # what a killed test leaves there is removed with the copy
        temporary.mkdir(exist_ok=True)
        environ = {
            "TMPDIR": str(temporary),
            "PYTHONPATH": f"{self.root / 'daemon'}{os.pathsep}{self.root / 'tests'}",
            "SESSIOND_MACHINE_EXAMPLES": "30",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.base / "hypothesis"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the processes that run the tests."""
        for process in filter(None, (self._worker, self._collected)):
            process.communicate()


def _answer(process: subprocess.Popen[str], task: dict[str, Any]) -> Any:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise EOFError("the process that runs the tests has ended")
    return json.loads(line)


@contextmanager
def private_tree() -> Iterator[Tree]:
    """Make a copy of the tree that is removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="sessiond-mutants-", ignore_cleanup_errors=True) as base:
        tree = Tree(Path(base))
        try:
            yield tree
        finally:
            tree.close()
