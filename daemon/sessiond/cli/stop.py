"""Stop the daemon after a last push."""

from __future__ import annotations

import argparse
import os
import signal
import time

from sessiond.cli.output import load_config
from sessiond.config import state_dir
from sessiond.errors import NotRunning, SessiondError

PATIENCE = 30.0
"""Seconds to wait for the last commit and the last push."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Stop the daemon and wait for its last push. A service starts again at the next login or with `sessiond start`;"
        " a daemon in a terminal stays stopped."
    )


def run(args: argparse.Namespace) -> int:
    """Stop the daemon. Raises: NotRunning, ServiceError."""
    from sessiond import service, state

    directory = state_dir(load_config(args, valid=True).config)
    holder = state.running(directory)
    if holder is None:
        raise NotRunning("sessiond is not running")
    if holder.service:
        manager = service.find(args.environ)
        manager.check()
        manager.stop()
    elif holder.pid:
        os.kill(holder.pid, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while state.running(directory) is not None:
        if time.monotonic() > until:
            raise SessiondError(
                f"sessiond (pid {holder.pid}) is still running", hint=f"end it at once: kill {holder.pid}"
            )
        time.sleep(0.05)
    print("stopped")
    return 0
