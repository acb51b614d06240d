"""What is said if another device of the user owns the machine id under which this one would push."""

from __future__ import annotations

import shlex

TAKEN = "machine-taken"
"""The type of the problem with which the endpoint answers each line of such a push."""


def describe_taken(machine: str) -> str:
    """Return what is wrong."""
    return f"another device already pushes as {machine}: the endpoint refuses all sessions of this one"


def taken_fix(machine: str) -> str:
    """Return what the user can do."""
    return (
        "choose another name: sessiond config set machine_id NAME; or, if this is the same machine, set up anew, run"
        f" on the endpoint: sessiond serve adopt {shlex.quote(machine)}"
    )
