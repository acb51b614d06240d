"""The command line: finds the command, imports that one alone, and turns its errors into exit codes.

A command is a module of this package with `add_arguments(parser)` and `run(args) -> int`, and a line in
GROUPS. The parsed `args` also hold `config` (what `--config` names, or None) and `environ`. A command prints
its answer to stdout and all else to stderr, and raises SessiondError for what went wrong.

Nothing is imported here that `sessiond --version` does not need: a prompt may ask for `status` every second.
"""

from __future__ import annotations

import os
import sys

from sessiond import __version__
from sessiond.errors import SessiondError, shortage

TYPE_CHECKING = False  # as in `typing`, whose import is half of the time that `--version` takes
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

GROUPS: dict[str, dict[str, str]] = {
    "Keep sessions": {
        "run": "run the daemon in the foreground",
        "sync": "capture all and push all, once",
        "serve": "run a sync endpoint of your own",
    },
    "Look": {
        "status": "show how it goes, what is wrong and what to do",
        "ls": "list the captured sessions",
        "show": "show one session and what was said in it",
        "sources": "show the tools that are read and where",
        "queue": "show what waits and what is parked; retry or drop it",
    },
    "Try": {
        "demo": "watch a pretend session travel, with nothing installed",
    },
    "Set up": {
        "init": "choose the endpoint, write a configuration, install the service",
        "install": "install it as a service of yours and start it",
        "uninstall": "take the service away; what was captured stays",
        "config": "check, show and change the configuration",
        "completions": "print completions for bash, zsh or fish",
        "redact": "show what is masked, and try it",
    },
    "Run the service": {
        "start": "start the service",
        "stop": "stop the daemon after a last push",
        "restart": "stop the service and start it anew",
        "reload": "read the configuration again",
        "logs": "show what it logged",
        "doctor": "look for what could go wrong, and say how to mend it",
        "pause": "push nothing, or do not read one tool, for a while",
        "resume": "end a pause",
    },
}
COMMANDS = {name: line for group in GROUPS.values() for name, line in group.items()}
"""Each command and what it does, in one line."""

LEAN = frozenset({"status"})
"""Commands that do without msgspec, or import it themselves where they need it."""

USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


class Request:
    """What stands before the command and which command it is.

    `rest` is left for the command; `answer` is to be printed instead of running anything (version, help).
    """

    __slots__ = ("answer", "command", "config", "rest")

    def __init__(
        self, command: str | None, rest: list[str], config: str | None = None, answer: str | None = None
    ) -> None:
        self.command, self.rest, self.config, self.answer = command, rest, config, answer


class UsageError(SessiondError):
    """The command line can't be understood."""

    exit_code = USAGE


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 1 failed, 2 usage; docs/operations.md lists the others."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names in another encoding are printed escaped, not a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv), os.environ if environ is None else environ)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except (SessiondError, RuntimeError, MemoryError) as error:
        reported = error if isinstance(error, SessiondError) else shortage(error)
        if reported is None:
            raise
        _say(reported)
        return reported.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has what it wants
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:  # a full disk under a redirection, a directory that vanished
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        _say(SessiondError(f"{where}{(error.strerror or str(error)).lower()}"))
        return SessiondError.exit_code
    except SystemExit as end:  # argparse has said what is wrong, or printed the help
        return end.code if isinstance(end.code, int) else USAGE


def _dispatch(argv: list[str], environ: Mapping[str, str]) -> int:
    request = read(argv)
    if request.answer is not None:
        print(request.answer)
        return 0
    if request.command is None:
        print(help_text(), file=sys.stderr)
        return USAGE

    import gc
    import importlib

    gc.disable()  # an import makes many objects and no garbage: the collector takes a fifth of the time of `status`
    if request.command not in LEAN:
        _import_msgspec()
    command = importlib.import_module(f"{__name__}.{request.command.replace('-', '_')}")
    args = _flags(request, getattr(command, "FLAGS", None)) or _arguments(request, command)
    args.environ = environ
    gc.enable()
    gc.freeze()
    code: int = command.run(args)
    return code


def _flags(request: Request, flags: Mapping[str, str] | None) -> Any:
    """Read a command line of flags alone, as argparse would: its import takes a tenth of the time of `status`.

    None where it holds anything else, or the command does not say that its options are flags.
    """
    if flags is None or not flags.keys() >= set(request.rest):
        return None
    from types import SimpleNamespace

    given = {flags[word] for word in request.rest}
    return SimpleNamespace(config=request.config, **{name: name in given for name in flags.values()})


def _arguments(request: Request, command: Any) -> Any:
    """Read the rest of the command line as the command describes it."""
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"sessiond {request.command}",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_width()),
        description=(command.__doc__ or "").partition("\n")[0],
        allow_abbrev=False,  # an abbreviation in a script would break with the next option
    )
    parser.add_argument("--config", metavar="FILE", default=request.config, help="read this file for the configuration")
    command.add_arguments(parser)
    return parser.parse_args(request.rest)


def read(argv: Sequence[str]) -> Request:
    """Read what stands before the command's own arguments.

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
            raise UsageError("--config wants a file")
        elif word.startswith("-"):
            raise UsageError(f"unknown option {word!a}", hint="see `sessiond --help`")
        else:
            return Request(_known(word), rest, config)
    return Request(None, rest, config)


def help_text() -> str:
    """Make the help that lists the commands in their groups, within 80 columns."""
    width = max(map(len, COMMANDS)) + 2
    lines = [
        "Keeps every session of your AI coding tools.",
        "",
        "Usage: sessiond [--config FILE] COMMAND [ARGUMENTS]",
    ]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}{line}" for name, line in commands.items())]
    lines += [
        "",
        "Options:",
        "  --config FILE  read this file for the configuration",
        "  --version      print the version",
        "  -h, --help     print this, or a command's help: sessiond COMMAND --help",
    ]
    return "\n".join(lines)


def _width() -> int:
    """Tell how wide help may be; argparse alone imports shutil for that with every option that it is given."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) - 2
    except (OSError, ValueError):
        return 78


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions, of which it wants three names that `typing` has too.

    Where another package has brought it, its import (and that of `inspect`) would be a tenth of the time of `status`.
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
    """Let what is still buffered go nowhere: Python would complain about it when it exits."""
    if sys.stdout is sys.__stdout__:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(error: SessiondError) -> None:
    print(f"sessiond: {error}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
