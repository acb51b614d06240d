"""Pause pushing, or capturing one tool, for a while or until `unpause`."""

from __future__ import annotations

import argparse
import os
import signal

from sessiond import pause, state
from sessiond.cli.lookup import check_tool
from sessiond.cli.output import load_config
from sessiond.clock import now_ms
from sessiond.config import state_dir
from sessiond.config.units import parse_duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Pause pushing for a while, or until `sessiond unpause`. Capturing continues, so nothing is lost. With"
        " --tool, pause capturing that tool instead: sessions that the tool deletes in the meantime are lost. A"
        " pause survives a restart."
    )
    parser.add_argument("for_", metavar="DURATION", nargs="?", type=_duration, help='how long: "30m", "2h", "1d"')
    parser.add_argument("--tool", metavar="TOOL", help="pause capturing this tool instead")


def run(args: argparse.Namespace) -> int:
    """Start the pause. Raises: SessiondError."""
    directory = state_dir(load_config(args).config)
    started_ms = now_ms()
    end = pause.INDEFINITELY if args.for_ is None else started_ms + int(args.for_ * 1000)
    paused = pause.read(directory, started_ms)
    if args.tool is None:
        paused = paused.replace(pushing=end)
    else:
        check_tool(args.tool)
        paused = paused.replace(sources={**paused.sources, args.tool: end})
    save_pause(directory, paused)
    print(f"{args.tool or 'pushing'} is paused {pause.until(end)}")
    return 0


def save_pause(directory: str, paused: pause.Paused) -> None:
    """Store what is paused and notify a running daemon; the next one reads it at start. Raises: StateError."""
    state.prepare(directory)
    pause.write(directory, paused)
    holder = state.running(directory)
    if holder is not None and holder.pid:
        os.kill(holder.pid, signal.SIGHUP)


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'{text!a} is not a duration like "30m" or "2h"; a tool is named with --tool'
        ) from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError("a pause must be longer than 0 s")
    return seconds
