"""Warns of what the endpoint keeps of projects that are being excluded."""

from __future__ import annotations

import argparse
import os
import sys

from sessiond.cli.output import load_config
from sessiond.config import state_dir
from sessiond.errors import StateError
from sessiond.text import count


def warn_of_copies(args: argparse.Namespace) -> None:
    """Print how many sessions of excluded projects the endpoint has, and how to erase them. `exclude` was changed."""
    from sessiond.privacy import Exclusion
    from sessiond.spool import NAME, Spool

    config = load_config(args, valid=True).config
    directory = state_dir(config)
    if not os.path.exists(os.path.join(directory, NAME)):
        return
    exclusion = Exclusion(config.exclude, args.environ.get("HOME") or os.path.expanduser("~"))
    try:
        spool = Spool(directory, readonly=True)
    except StateError:
        return  # `status` reports it
    try:
        with spool.snapshot():
            held = [
                session
                for session in spool.catalog.sessions()
                if session.pushed and session.record and exclusion.excludes(session.record.working_directory)
            ]
            left = len(held) + len(spool.forgotten.left_at_endpoint())
    finally:
        spool.close()
    if left:
        where = "the endpoint" if config.endpoint.url else "the built-in archive"
        print(f"{where} keeps {count(left, 'session')} of excluded projects", file=sys.stderr)
        print("  erase them: sessiond sync, then sessiond forget --excluded", file=sys.stderr)
