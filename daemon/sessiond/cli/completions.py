"""Print the completions for a shell."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
PLACES = {
    "bash": "~/.local/share/bash-completion/completions/sessiond",
    "zsh": "_sessiond in a directory of $fpath",
    "fish": "~/.config/fish/completions/sessiond.fish",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    places = ", ".join(f"{place} ({shell})" for shell, place in PLACES.items())
    parser.description = f"Print a script that completes commands and options in your shell. Save it as {places}."
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from sessiond.cli.parsers import whole

    if args.shell in shtab.SUPPORTED_SHELLS:
        print(shtab.complete(whole(), shell=args.shell))
        return 0
    print("\n".join(_fish()))
    return 0


def _fish() -> list[str]:
    """Return the lines of a script for fish, which some versions of shtab do not support."""
    from sessiond.cli.parsers import parsers

    lines = ["complete -c sessiond -f"]
    for name, line, parser in parsers():
        lines.append(f"complete -c sessiond -n __fish_use_subcommand -a {name} -d {_quoted(line)}")
        for action in parser._actions:
            words = [f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in action.option_strings]
            if words:
                need = "" if action.nargs == 0 else " -r"
                about = _quoted((action.help or "").replace("%%", "%"))
                condition = _quoted(f"__fish_seen_subcommand_from {name}")
                lines.append(f"complete -c sessiond -n {condition} {' '.join(words)}{need} -d {about}")
            elif isinstance(action.choices, dict):
                condition = _quoted(f"__fish_seen_subcommand_from {name}")
                lines.append(f"complete -c sessiond -n {condition} -a {_quoted(' '.join(action.choices))}")
    return lines


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
