"""Calls of a service manager's own programs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from sessiond.errors import ServiceError

PATIENCE = 120.0
"""Seconds for one call; a start waits until the daemon is ready."""


class Call:
    """Runs programs with an environment; what they print is for us, not for the terminal."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)

    def __call__(self, *words: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. Raises: ServiceError where it can't be run or does not end."""
        try:
            return subprocess.run(  # noqa: S603 - names of managers' programs and our own arguments
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
            raise ServiceError(f"`{' '.join(words[:4])}` did not end within {patience:.0f} s") from error

    def done(self, *words: str, hint: str | None = None) -> str:
        """Run a program that has to succeed and return what it printed. Raises: ServiceError with its last words."""
        ended = self(*words)
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines()
            reason = said[0] if said else f"it ended with {ended.returncode}"
            raise ServiceError(f"`{' '.join(words)}` failed: {reason}", hint=hint)
        return ended.stdout
