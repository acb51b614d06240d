"""Takes the place of watchdog where each root is scanned once and nothing is watched."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.watch.targets import WatchTarget


class NoEvents:
    """Has the methods of WatchdogAdapter. It watches nothing, refuses nothing, and has no threads."""

    def watch(self, _targets: Iterable[WatchTarget]) -> tuple[frozenset[WatchTarget], dict[WatchTarget, OSError]]:
        """Return that no target is newly watched, and none is refused."""
        return frozenset(), {}

    def holds(self, _target: WatchTarget) -> bool:
        """Return that no target is watched."""
        return False

    def forget(self, target: WatchTarget) -> None:
        """Do nothing."""

    def dead(self) -> str | None:
        """Return that no thread died."""
        return None

    def close(self) -> None:
        """Do nothing."""
