"""Read the configuration again; an edit is noticed without this too."""

from __future__ import annotations

import argparse
import os
import signal

from sessiond.cli.output import load_config
from sessiond.config import read_token, state_dir
from sessiond.errors import NotRunning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Check the configuration and let the running daemon read it again. It does so by itself within a second of an"
        " edit; this is for a file system that does not tell of edits, and to see what is wrong."
    )


def run(args: argparse.Namespace) -> int:
    """Check it first, then tell the daemon. Raises: ConfigError, NotRunning."""
    from sessiond import state
    from sessiond.sources import find_sources

    loaded = load_config(args, tools=[source.tool for source in find_sources()])
    read_token(loaded.config, args.environ)
    holder = state.running(state_dir(loaded.config))
    if holder is None or not holder.pid:
        raise NotRunning("no sessiond runs", hint="`sessiond start` or `sessiond run`")
    os.kill(holder.pid, signal.SIGHUP)
    print("the daemon reads its configuration again")
    return 0
