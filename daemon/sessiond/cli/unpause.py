"""End a pause: all pauses, or that of one tool."""

from __future__ import annotations

import argparse

from sessiond import pause
from sessiond.cli.lookup import check_tool
from sessiond.cli.output import load_config
from sessiond.cli.pause import save_pause
from sessiond.clock import now_ms
from sessiond.config import state_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "End all pauses, or with --tool the pause of one tool. Waiting sessions are captured and pushed."
    )
    parser.add_argument("--tool", metavar="TOOL", help="end only the pause of this tool")


def run(args: argparse.Namespace) -> int:
    """End the pause; return 0 even if nothing was paused. Raises: SessiondError."""
    directory = state_dir(load_config(args).config)
    paused = pause.read(directory, now_ms())
    left = pause.Paused()
    if args.tool is not None:
        check_tool(args.tool)
        sources = {tool: end for tool, end in paused.sources.items() if tool != args.tool}
        left = paused.replace(sources=sources)
    if left == paused:
        print("nothing was paused")
        return 0
    save_pause(directory, left)
    print("the pause has ended")
    return 0
