"""Print the completions for a shell: of commands, options, ids, tools, machines and configuration keys."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

SHELLS = ("bash", "zsh", "fish")
PLACES = {
    "bash": "~/.local/share/bash-completion/completions/sessiond",
    "zsh": "_sessiond in a directory of $fpath",
    "fish": "~/.config/fish/completions/sessiond.fish",
}
VALUES = {"ID": "ids", "TOOL": "tools", "MACHINE": "machines", "KEY": "keys"}
"""What a shell completes, by the metavar of an argument."""
NEWEST = 500
"""Sessions whose ids are completed: those that were active last."""
_PLAIN = re.compile(r"[\w.-]+")
"""Values that are offered. A shell would expand the special characters of any other."""
FUNCTION = "_sessiond_{}"
PREAMBLE = {
    "bash": '{name}() {{ compgen -W "$(sessiond completions --values {values} 2>/dev/null)" -- "$1"; }}',
    "zsh": '{name}() {{ compadd -- ${{(f)"$(sessiond completions --values {values} 2>/dev/null)"}}; }}',
}
"""The function of a shell that completes a kind of value. It asks sessiond each time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    places = ", ".join(f"{place} ({shell})" for shell, place in PLACES.items())
    parser.description = (
        "Print a script that completes commands, options, ids, tools and configuration keys in your shell. Save it as"
        f" {places}."
    )
    parser.add_argument("shell", nargs="?", choices=SHELLS)
    parser.add_argument("--values", choices=tuple(VALUES.values()), help="print the values that a script completes")


def run(args: argparse.Namespace) -> int:
    """Print the script, or the values. Raises: UsageError."""
    from sessiond.cli import UsageError

    if (args.shell is None) == (args.values is None):
        raise UsageError("which shell?", hint=f"sessiond completions {'|'.join(SHELLS)}")
    if args.values is not None:
        for value in filter(_PLAIN.fullmatch, _values(args, args.values)):
            print(value)
        return 0
    if args.shell == "fish":
        print("\n".join(_fish()))
        return 0
    import shtab

    from sessiond.cli.parsers import whole

    parser = whole()
    for action in _actions(parser):
        values = _kind(action)
        if values is not None:
            # shtab reads this attribute of an action.
            action.complete = dict.fromkeys(PREAMBLE, FUNCTION.format(values))  # type: ignore[attr-defined]
    lines = [PREAMBLE[args.shell].format(name=FUNCTION.format(each), values=each) for each in VALUES.values()]
    preamble: Any = {args.shell: "\n".join(lines)}
    print(shtab.complete(parser, shell=args.shell, preamble=preamble))
    return 0


def _values(args: argparse.Namespace, kind: str) -> Iterator[str]:
    """Iterate the values that a shell offers: of the spool, and of what `ls` listed last. The endpoint is not asked."""
    from sessiond.cli.elsewhere import remembered
    from sessiond.cli.lookup import opened_if_any, short_ids
    from sessiond.config import load_valid

    config = load_valid(args.config, args.environ).config
    others = remembered(config)
    with opened_if_any(config) as spool:
        tools = [] if spool is None else spool.stats.tool_names()
        if kind == "keys":
            yield from _keys(tools)
        elif kind == "tools":
            yield from dict.fromkeys([*tools, *(each.tool for each in others)])
        elif kind == "ids":
            here = [] if spool is None else spool.stats.newest_ids(NEWEST)
            yield from short_ids(spool, list(dict.fromkeys([*here, *(each.id for each in others)]))).values()
        else:
            here = [] if spool is None else spool.stats.machine_names()
            yield from dict.fromkeys([*here, *(each.machine for each in others)])


def _keys(tools: list[str]) -> list[str]:
    """Return the keys of the configuration, those of `sources` for each of these tools."""
    from sessiond.config.check import keys

    found = [".".join(path) for path, _ in keys()]
    return sorted({key.replace("*", tool) for key in found for tool in (tools if "*" in key else [""])})


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Iterate the arguments of a parser and of all parsers below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)


def _kind(action: argparse.Action) -> str | None:
    return VALUES.get(action.metavar) if isinstance(action.metavar, str) else None


def _fish() -> Iterator[str]:
    """Iterate the lines of a script for fish, which some versions of shtab do not support."""
    from sessiond.cli.parsers import parsers

    yield "complete -c sessiond -f"
    for name, line, parser in parsers():
        yield f"complete -c sessiond -n __fish_use_subcommand -a {name} -d {_quoted(line)}"
        yield from _fish_arguments(parser, f"__fish_seen_subcommand_from {name}")


def _fish_arguments(parser: argparse.ArgumentParser, condition: str) -> Iterator[str]:
    for action in parser._actions:
        words = [f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in action.option_strings]
        kind = _kind(action)
        values = f" -a {_quoted(f'(sessiond completions --values {kind} 2>/dev/null)')}" if kind else ""
        if isinstance(action, argparse._SubParsersAction):
            yield f"complete -c sessiond -n {_quoted(condition)} -a {_quoted(' '.join(action.choices))}"
            for word, below in action.choices.items():
                yield from _fish_arguments(below, f"{condition}; and __fish_seen_subcommand_from {word}")
        elif words:
            need = "" if action.nargs == 0 else " -r"
            about = _quoted((action.help or "").replace("%%", "%"))
            yield f"complete -c sessiond -n {_quoted(condition)} {' '.join(words)}{need} -d {about}{values}"
        elif values or action.choices:
            offered = values or f" -a {_quoted(' '.join(map(str, action.choices or ())))}"
            yield f"complete -c sessiond -n {_quoted(condition)}{offered}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
