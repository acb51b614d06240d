"""Bring a session of any machine back: put it where its tool looks for it, and print the command that resumes it."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Bring a session of any of your machines back: put it where its tool looks for it, and print the command that"
        " resumes it. Files that exist are never overwritten. Secrets that were masked stay masked."
    )
    parser.add_argument("id", metavar="ID", help="the id of the session, or a unique prefix of it")
    parser.add_argument("--directory", metavar="DIR", help="the project's directory here (default: this directory)")
    parser.add_argument("--home", metavar="DIR", help="another home directory to restore into")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    parser.add_argument("--fork", action="store_true", help="continue in a copy with a new id, if the tool can")
    parser.add_argument("--launch", action="store_true", help="start the tool with the session")
    parser.set_defaults(all=False)


def run(args: argparse.Namespace) -> int:
    """Restore a session. Raises: NotFound, EndpointError, SessiondError."""
    from sessiond.cli.restoring import bring_back, launch, opened

    with opened(args) as context:
        command = bring_back(context, context.archive.find(args.id))
    if args.launch and not args.dry_run:
        launch(command, args.environ)
    return 0
