"""Pause pushing, or the reading of one tool, for a while or until `resume`."""

from __future__ import annotations

import argparse
import os
import signal
import time

from sessiond import pause, state
from sessiond.cli.output import load_config
from sessiond.config import state_dir
from sessiond.config.units import parse_duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Push nothing for a while, or until `sessiond resume`. Capturing goes on, so nothing is lost. With --source the"
        " sessions of that tool are not read either; what its own clean-up deletes in the meantime is gone. A pause"
        " survives a restart."
    )
    parser.add_argument("for_", metavar="DURATION", nargs="?", type=_duration, help='how long: "30m", "2h", "1d"')
    parser.add_argument("--source", metavar="TOOL", help="do not read this tool's sessions")


def run(args: argparse.Namespace) -> int:
    """Pause it. Raises: SessiondError."""
    from sessiond.sources import find_sources

    directory = state_dir(load_config(args).config)
    now_ms = time.time_ns() // 1_000_000
    end = pause.INDEFINITELY if args.for_ is None else now_ms + int(args.for_ * 1000)
    known = [source.tool for source in find_sources()]
    paused = pause.read(directory, now_ms)
    if args.source is None:
        paused = paused.replace(pushing=end)
    else:
        check_tool(args.source, known)
        paused = paused.replace(sources={**paused.sources, args.source: end})
    save_pause(directory, paused)
    print(f"{args.source or 'pushing'} is paused {pause.until(end)}")
    return 0


def check_tool(name: str, known: list[str]) -> None:
    """Accept the name of a source. Raises: NotFound that names the nearest one."""
    if name not in known:
        from sessiond.config.check import did_you_mean
        from sessiond.errors import NotFound

        raise NotFound(f"no source is called {name!a}", hint=did_you_mean(name, known) or "see `sessiond sources`")


def save_pause(directory: str, paused: pause.Paused) -> None:
    """Keep what is paused and tell the daemon, if one runs; else the next one reads it. Raises: StateError."""
    state.prepare(directory)
    pause.write(directory, paused)
    holder = state.running(directory)
    if holder is not None and holder.pid:
        os.kill(holder.pid, signal.SIGHUP)


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text} is not a duration such as "30m" or "2h"') from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError("a pause has to last")
    return seconds
