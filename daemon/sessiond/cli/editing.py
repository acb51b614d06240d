"""The actions of `sessiond config` that write: `init`, `edit`, `set`, `unset`."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Collection
from typing import Any

from sessiond.cli.output import escape
from sessiond.cli.parsers import add_action
from sessiond.errors import ConfigError, SessiondError


def add_actions(actions: Any) -> None:
    """Add the actions to the subparsers of `sessiond config`."""
    lines = {
        "init": "write a commented configuration file; never overwrites one",
        "edit": "edit your file in $VISUAL or $EDITOR; saved only if valid",
        "set": "set a key in config.d/50-set.toml, which overrides your file",
        "unset": "remove a key from config.d/50-set.toml",
    }
    made = {}
    for name, line in lines.items():
        made[name] = add_action(actions, name, line)
    for name in ("set", "unset"):
        made[name].add_argument("key", metavar="KEY", help="a key as in `sessiond config show`: endpoint.url")
    made["set"].add_argument("value", metavar="VALUE", help="text, yes or no, a number, 512MiB, 30m, or a JSON list")


def run(args: argparse.Namespace, file: str, tools: Collection[str]) -> int:
    """Run the chosen action. Raises: ConfigError, SessiondError."""
    if args.action == "init":
        write_example(file)
        print(f"wrote {escape(file)}")
        return 0
    if args.action == "edit":
        return _edit(args, file, tools)
    from sessiond.config.write import set_key

    text = args.value if args.action == "set" else None
    changed, value = set_key(file, args.key, text, args.environ, tools)
    result = f"{args.key} is no longer set" if text is None else f"{args.key} = {_toml(value)}"
    print(f"{escape(result)} in {escape(changed)}")
    variable = "SESSIOND_" + args.key.upper().replace(".", "__").replace("-", "_")
    if variable in args.environ:
        print(f"sessiond: warning: the environment variable {variable} overrides it", file=sys.stderr)
    if args.key == "exclude":
        from sessiond.cli.excluded import warn_of_copies

        warn_of_copies(args)
    return 0


def write_example(file: str, **chosen: str) -> None:
    """Write the commented example as the user's file, with keys of `[endpoint]`, or `machine_id`, set.

    Raises: SessiondError if the file exists.
    """
    from sessiond.config.write import replace_file
    from sessiond.service.plan import packaged

    text = packaged("config.example.toml")
    for key, value in chosen.items():
        line = f'#{key} = ""\n'
        assert line in text, f"the example has no {key}"
        text = text.replace(line, f"{key} = {_toml(value)}\n")
    if os.path.lexists(file):
        raise SessiondError(f"{file} already exists", hint="`sessiond config edit` changes it")
    replace_file(file, text)


def _edit(args: argparse.Namespace, file: str, tools: Collection[str]) -> int:
    from sessiond.config.write import check_text, replace_file
    from sessiond.service.plan import packaged

    editor = args.environ.get("VISUAL") or args.environ.get("EDITOR") or "vi"
    before = _read(file) if os.path.exists(file) else packaged("config.example.toml")
    with tempfile.TemporaryDirectory(prefix="sessiond-") as folder:
        draft = os.path.join(folder, "config.toml")
        with open(draft, "w", encoding="utf-8") as stream:
            stream.write(before)
        while True:
            ended = subprocess.run([*shlex.split(editor), draft], check=False)  # noqa: S603 - the user's own editor
            if ended.returncode:
                raise SessiondError(f"{editor} exited with {ended.returncode}", hint="nothing was changed")
            text = _read(draft)
            if text == before:
                print("nothing was changed")
                return 0
            try:
                check_text(file, text, args.environ, tools)
            except ConfigError as error:
                if not _again(error):
                    print("nothing was saved", file=sys.stderr)
                    raise
            else:
                replace_file(file, text)
                print(f"saved {escape(file)}")
                return 0


def _again(error: ConfigError) -> bool:
    """Ask whether to edit an invalid file again; return False without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{error}\n  {error.hint or ''}".rstrip(), file=sys.stderr)
    print("Edit it again? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()


def _toml(value: object) -> str:
    """Return a value as TOML on one line; `tomli_w` alone writes each element of a list on its own line."""
    import tomli_w

    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"_": value}).removeprefix("_ = ").strip()
