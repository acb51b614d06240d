"""Run the programs of a service manager."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from sessiond.errors import ServiceError

PATIENCE = 120.0
"""Time limit of one call in seconds; starting waits until the daemon is ready."""


class Call:
    """Runs programs with an environment and captures their output."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)

    def __call__(self, *words: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a program and wait for it. Raises: ServiceError if it can't be run or exceeds the time limit."""
        try:
            return subprocess.run(  # noqa: S603 - fixed program names and arguments
                words,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=patience,
                check=False,
            )
        except FileNotFoundError as error:
            raise ServiceError(f"{words[0]} is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"`{' '.join(words[:4])}` did not finish within {patience:.0f} s") from error

    def done(self, *words: str, hint: str | None = None) -> str:
        """Run a program that must succeed and return its output. Raises: ServiceError with its error message."""
        ended = self(*words)
        if ended.returncode:
            lines = (ended.stderr or ended.stdout).strip().splitlines()
            reason = lines[0] if lines else f"exit code {ended.returncode}"
            raise ServiceError(f"`{' '.join(words)}` failed: {reason}", hint=hint)
        return ended.stdout
