"""Messages for a machine id that belongs to another device of the user: the endpoint refuses pushes under it."""

from __future__ import annotations

import shlex


def describe_taken(machine: str) -> str:
    """Return the error message."""
    return f"another device already pushes as {machine}: the endpoint refuses all sessions of this one"


def taken_fix(machine: str) -> str:
    """Return the hint: how to choose another machine id, or how to take this one over."""
    return (
        "choose another name: `sessiond config set machine_id NAME`. If this is the same machine after a"
        f" reinstallation, run on the endpoint: sessiond serve adopt {shlex.quote(machine)}"
    )
