"""End a pause: of pushing, of one tool, or of everything."""

from __future__ import annotations

import argparse
import time

from sessiond import pause
from sessiond.cli.output import load_config
from sessiond.cli.pause import check_tool, save_pause
from sessiond.config import state_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = "End every pause, or with --source that of one tool. What waited is captured and pushed."
    parser.add_argument("--source", metavar="TOOL", help="end the pause of this tool alone")


def run(args: argparse.Namespace) -> int:
    """Resume it; 0 too where nothing was paused. Raises: SessiondError."""
    from sessiond.sources import find_sources

    directory = state_dir(load_config(args).config)
    paused = pause.read(directory, time.time_ns() // 1_000_000)
    left = pause.Paused()
    if args.source is not None:
        check_tool(args.source, [source.tool for source in find_sources()])
        sources = {tool: end for tool, end in paused.sources.items() if tool != args.source}
        left = paused.replace(sources=sources)
    if left == paused:
        print("nothing was paused")
        return 0
    save_pause(directory, left)
    print("resumed")
    return 0
