"""Writes docs/sessiond.1, the manual page, from the parsers: `python docs/make_manual.py > docs/sessiond.1`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from sessiond.cli import GROUPS
from sessiond.cli.parsers import parsers

CODES = {
    0: "fine",
    1: "failed",
    2: "the command line can't be understood",
    3: "no daemon runs",
    4: "degraded: something needs attention",
    69: "the endpoint can't be reached",
    75: "another daemon uses the state",
    77: "the endpoint does not accept the token",
    78: "the configuration can't be used",
}


def manual() -> Iterator[str]:
    """Yield the lines of the page."""
    yield '.TH SESSIOND 1 "" "sessiond" "User Commands"'
    yield from (".SH NAME", "sessiond \\- keep every session of your AI coding tools")
    yield from (".SH SYNOPSIS", ".B sessiond", "[\\-\\-config FILE] COMMAND [ARGUMENTS]", ".SH DESCRIPTION")
    yield "A daemon that watches the directories of AI coding tools and brings each session, with its transcript,"
    yield "to an endpoint of yours. Without a configuration an archive on this machine is the endpoint."
    found = {name: (line, parser) for name, line, parser in parsers()}
    for group, names in GROUPS.items():
        yield f".SH {group.upper()}"
        for name in names:
            yield from _command(*found[name])
    yield ".SH EXIT STATUS"
    for code, meaning in CODES.items():
        yield from (".TP", f".B {code}", _escaped(meaning))
    yield from (".SH FILES", ".TP", ".I ~/.config/sessiond/config.toml", "the configuration; see config.example.toml")
    yield from (".TP", ".I ~/.local/state/sessiond", "the spool, the log and who this installation is")
    yield from (".SH ENVIRONMENT", ".TP", ".B SESSIOND_TOKEN", "the token of the endpoint")
    yield from (".TP", ".B SESSIOND_CONFIG", "the configuration's file")
    yield from (".TP", ".B SESSIOND_*", "any key of the configuration: SESSIOND_ENDPOINT__URL is endpoint.url")


def _command(line: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS {_escaped(parser.prog)}"
    yield _escaped(parser.description or f"{line[:1].upper()}{line[1:]}.")
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings or action.dest == "config":
            continue
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield from (".TP", f".B {_escaped(choice.dest)}", _escaped(choice.help or ""))
            continue
        value = action.metavar or "|".join(action.choices or ()) or (action.dest.upper() if action.nargs != 0 else "")
        names = ", ".join(action.option_strings)
        text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
        yield from (".TP", f".B {_escaped(f'{names} {value}'.strip())}", _escaped(text))


def _escaped(text: str) -> str:
    """Write text so that roff takes it as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain[:1] in (".", "'") else plain


if __name__ == "__main__":
    sys.stdout.write("\n".join(manual()) + "\n")
