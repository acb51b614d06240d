"""Reload the configuration. The daemon notices most edits by itself."""

from __future__ import annotations

import argparse
import os
import signal

from sessiond.cli.output import load_config
from sessiond.config import read_token, state_dir
from sessiond.errors import NotRunning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Check the configuration and make the running daemon reload it. The daemon reloads it by itself within a second"
        " of an edit; use this on a file system without change events, or to see errors."
    )


def run(args: argparse.Namespace) -> int:
    """Check the configuration, then notify the daemon. Raises: ConfigError, NotRunning."""
    from sessiond import state
    from sessiond.sources import find_sources

    loaded = load_config(args, tools=[source.tool for source in find_sources()])
    read_token(loaded.config, args.environ)
    holder = state.running(state_dir(loaded.config))
    if holder is None or not holder.pid:
        raise NotRunning(
            "sessiond is not running", hint="start it: sessiond run, or sessiond start if the service is installed"
        )
    os.kill(holder.pid, signal.SIGHUP)
    print("the daemon is reloading its configuration")
    return 0
