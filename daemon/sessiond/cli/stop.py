"""Stop the daemon: what was captured is pushed once more and kept."""

from __future__ import annotations

import argparse
import os
import signal
import time

from sessiond.cli.output import load_config
from sessiond.config import state_dir
from sessiond.errors import NotRunning, SessiondError

PATIENCE = 30.0
"""Seconds for the last commit and the last push."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Stop the service until the next login or `sessiond start`, or a daemon that runs in a terminal for good, and"
        " wait for its last push."
    )


def run(args: argparse.Namespace) -> int:
    """Stop it. Raises: NotRunning, ServiceError."""
    from sessiond import service, state

    directory = state_dir(load_config(args).config)
    holder = state.running(directory)
    if holder is None:
        raise NotRunning("no sessiond runs")
    if holder.service:
        manager = service.find(args.environ)
        manager.check()
        manager.stop()
    elif holder.pid:
        os.kill(holder.pid, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while state.running(directory) is not None:
        if time.monotonic() > until:
            raise SessiondError(f"sessiond (pid {holder.pid}) has not ended", hint=f"kill {holder.pid} ends it at once")
        time.sleep(0.05)
    print("stopped")
    return 0
