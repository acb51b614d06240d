"""The command line: find the command, import only that one, and turn its errors into exit codes.

A command is a module of this package with `add_arguments(parser)` and `run(args) -> int`, and a line in
GROUPS. The parsed `args` also have `config` (the argument of `--config`, or None) and `environ`. A command prints
its answer to stdout and everything else to stderr. It raises SessiondError when it fails.

This module imports only what `sessiond --version` needs: a shell prompt may run `status` every second.
"""

from __future__ import annotations

import os
import sys

from sessiond import __version__, exit_codes
from sessiond.errors import SessiondError, shortage

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`; importing typing would double the time of `--version`
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sessiond.cli.masked_stream import MaskedOutput

GROUPS: dict[str, dict[str, str]] = {
    "Keep sessions": {
        "run": "run the daemon in the foreground",
        "sync": "capture and push everything once",
        "serve": "run your own sync endpoint",
    },
    "Inspect": {
        "status": "show the state of the daemon, sessions and endpoint",
        "ls": "list the sessions of all your machines",
        "show": "show one session and its transcript",
        "export": "write sessions as Markdown, HTML or JSON",
        "sources": "show the supported tools and their directories",
        "restore": "bring a session of any machine back into its tool",
        "resume": "choose a session of this project and start its tool with it",
        "queue": "show, retry or drop waiting, parked or lost items",
        "verify": "compare tools' files, captured data and the endpoint",
        "forget": "erase sessions here and at the endpoint",
    },
    "Try it": {
        "demo": "follow a sample session to an endpoint; installs nothing",
    },
    "Set up": {
        "init": "choose the endpoint, write a configuration, install the service",
        "install": "install and start the service",
        "uninstall": "remove the service; captured sessions stay",
        "config": "check, show and change the configuration",
        "completions": "print completions for bash, zsh or fish",
        "redact": "show what is masked, and test it",
    },
    "Run the service": {
        "start": "start the service",
        "stop": "stop the daemon after a last push",
        "restart": "restart the service",
        "reload": "reload the configuration",
        "logs": "show the log of the daemon",
        "doctor": "find problems and show how to fix them",
        "pause": "pause pushing, or pause capturing one tool",
        "unpause": "end a pause",
    },
}
COMMANDS = {name: line for group in GROUPS.values() for name, line in group.items()}
"""Each command with its one-line description."""

LEAN = frozenset({"status"})
"""Commands that do not need msgspec, or import it themselves where they do."""


HELP_WIDTH = 78
"""Columns of a help text that is not printed to a terminal."""


class Request:
    """The global options and the name of the command.

    `rest` holds the arguments of the command; `answer` is printed instead of running anything (version, help).
    """

    __slots__ = ("answer", "command", "config", "rest")

    def __init__(
        self, command: str | None, rest: list[str], config: str | None = None, answer: str | None = None
    ) -> None:
        self.command, self.rest, self.config, self.answer = command, rest, config, answer


class UsageError(SessiondError):
    """The command line is not valid."""

    exit_code = exit_codes.USAGE


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code; see exit_codes.py."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # print characters that the encoding lacks as escapes; no traceback
            stream.reconfigure(errors="backslashreplace")
    opened: list[MaskedOutput] = []
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        # Without `argv` the process ends after the command; a caller's objects would never be collected again.
        code = _dispatch(words, os.environ if environ is None else environ, opened, freeze=argv is None)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except (SessiondError, RuntimeError, MemoryError) as error:
        reported = error if isinstance(error, SessiondError) else shortage(error)
        if reported is None:
            raise
        print_error(reported)
        return reported.exit_code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has closed the pipe
        _drop_output()
        return exit_codes.BROKEN_PIPE
    except OSError as error:  # a full disk behind a redirection, a directory that was removed
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        print_error(SessiondError(f"{where}{(error.strerror or str(error)).lower()}"))
        return SessiondError.exit_code
    except SystemExit as end:  # argparse has printed an error, or the help
        return end.code if isinstance(end.code, int) else exit_codes.USAGE
    finally:
        for output in opened:
            output.close()


def _dispatch(argv: list[str], environ: Mapping[str, str], opened: list[MaskedOutput], *, freeze: bool) -> int:
    """Run one command. Its masked output is added to `opened`; the caller closes it after printing an error.

    With `freeze`, what was imported is never searched for garbage, and the rest of it rarely.
    """
    request = read(argv)
    if request.answer is not None:
        print(request.answer)
        return 0
    if request.command is None:
        print(help_text(), file=sys.stderr)
        return exit_codes.USAGE

    import gc

    collecting = gc.isenabled()
    gc.disable()  # imports create many objects and little garbage, and collections take long for `status`
    try:
        command, args = _prepare(request, request.command, environ, opened)
    finally:
        if collecting:
            gc.enable()
    if freeze:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)  # with Python's own, it takes a tenth of an endpoint's time
    code: int = command.run(args)
    return code


def _prepare(request: Request, name: str, environ: Mapping[str, str], opened: list[MaskedOutput]) -> tuple[Any, Any]:
    """Import a command, parse its arguments and mask its output. Return its module and the arguments."""
    import importlib

    if name not in LEAN:
        _import_msgspec()
    from sessiond.cli.masked_stream import UNMASKED, MaskedOutput

    masked = MaskedOutput(request.config, environ)
    if name not in UNMASKED:
        masked.open()
        opened.append(masked)
    command = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    args = _flags(request, getattr(command, "FLAGS", None)) or _arguments(request, command)
    args.environ, masked.file = environ, args.config
    if getattr(args, "unmasked", False):
        masked.close()
    return command, args


def _flags(request: Request, flags: Mapping[str, str] | None) -> Any:
    """Parse arguments that are all flags, without argparse, whose import takes long for `status`.

    `flags` maps each flag of the command to its attribute. Return None if it is None or if there are other arguments.
    """
    if flags is None or not flags.keys() >= set(request.rest):
        return None
    from types import SimpleNamespace

    given = {flags[word] for word in request.rest}
    return SimpleNamespace(config=request.config, **{name: name in given for name in flags.values()})


def _arguments(request: Request, command: Any) -> Any:
    """Parse the arguments of the command with argparse."""
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"sessiond {request.command}",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_width()),
        description=(command.__doc__ or "").partition("\n")[0],
        allow_abbrev=False,  # an abbreviated option in a script would break when a new option makes it ambiguous
    )
    parser.add_argument("--config", metavar="FILE", default=request.config, help="read this configuration file")
    command.add_arguments(parser)
    return parser.parse_args(request.rest)


def read(argv: Sequence[str]) -> Request:
    """Parse the arguments before the command's own.

    Raises: UsageError for an unknown option or command.
    """
    config: str | None = None
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            return Request(None, rest, answer=help_text())
        if word in ("-V", "--version"):
            return Request(None, rest, answer=f"sessiond {__version__}")
        if word == "help":
            return Request(_known(rest[0]), ["--help"]) if rest else Request(None, rest, answer=help_text())
        if word == "--config" and rest:
            config = rest.pop(0)
        elif word.startswith("--config="):
            config = word.partition("=")[2]
        elif word == "--config":
            raise UsageError("--config needs a file")
        elif word.startswith("-"):
            raise UsageError(f"unknown option {word!a}", hint="see `sessiond --help`")
        else:
            return Request(_known(word), rest, config)
    return Request(None, rest, config)


def help_text() -> str:
    """Return the help that lists the commands by group, as wide as the terminal."""
    import textwrap

    options = {
        "--config FILE": "read this configuration file",
        "--version": "print the version",
        "-h, --help": "print this help; `sessiond COMMAND --help` explains a command",
    }
    width = max(_width() + 2, 40)
    usage = textwrap.wrap("Usage: sessiond [--config FILE] COMMAND [ARGUMENTS]", width, subsequent_indent=" " * 7)
    lines = ["Keep every session of your AI coding tools.", "", *usage]
    for group, entries in {**GROUPS, "Options": options}.items():
        lines += ["", f"{group}:"]
        label = max(map(len, options if group == "Options" else COMMANDS)) + 2
        for name, line in entries.items():
            start, indent = f"  {name:<{label}}", " " * (label + 2)
            lines += textwrap.wrap(line, width, initial_indent=start, subsequent_indent=indent)
    return "\n".join(lines)


def _width() -> int:
    """Return the width of the help text. argparse would import shutil for this, once for each option."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) - 2
    except (OSError, ValueError):
        return HELP_WIDTH


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions: the three names that it uses are in `typing` too.

    Importing typing_extensions (and `inspect` with it) would take a tenth of the time of `status`.
    """
    from sessiond.memory import hide_modules

    with hide_modules("typing_extensions"):
        import msgspec  # noqa: F401


def _known(word: str) -> str:
    if word in COMMANDS:
        return word
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean `sessiond {near[0]}`?" if near else "see `sessiond --help`"
    raise UsageError(f"unknown command {word!a}", hint=hint)


def _drop_output() -> None:
    """Discard buffered output; Python would print an error about it at exit."""
    if getattr(sys.stdout, "unmasked", sys.stdout) is sys.__stdout__:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_error(error: SessiondError) -> None:
    """Print an error and its hint to stderr, wrapped to its terminal."""
    lines = [*f"sessiond: {error}".splitlines(), *(f"  {line}" for line in (error.hint or "").splitlines())]
    if sys.stderr.isatty():
        from sessiond.cli.output import columns, hanging

        lines = [part for line in lines for part in hanging(line, columns(sys.stderr))]
    print("\n".join(lines), file=sys.stderr)
