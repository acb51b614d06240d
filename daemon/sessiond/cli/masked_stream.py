"""The stream that commands print through: it masks secrets, whatever the command and the format.

A secret can't be recognised any more once a table has cut it, so `output.shorten` and `output.wrapped` mask their text
first, with the same function. Everything else is masked here. JSON stays valid, because the length does not change
and quotes are never masked.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock  # `threading` would add a twentieth to the time of `status`
from contextlib import suppress

from sessiond.cli import output
from sessiond.directories import PREFIX, config_file, part_files
from sessiond.redact.masked_text import TextMask

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`, without the import: `status` has a budget of 100 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import IO, Any

UNMASKED = frozenset({"completions", "install", "serve"})
"""Commands that print nothing from sessions: shell code, a unit to copy, and tokens of the user's own endpoint."""


class MaskedStream:
    """A text stream that masks secrets in whole lines; `flush` writes the rest of a line too."""

    def __init__(self, stream: IO[str], mask: Callable[[str], str]) -> None:
        self.unmasked, self._mask = stream, mask
        self._rest = ""
        self._lock = RLock()  # masking may warn, which prints

    def write(self, text: str) -> int:
        """Write text as soon as its line is complete."""
        with self._lock:
            self._rest += text
            end = self._rest.rfind("\n") + 1
            if end:
                whole, self._rest = self._rest[:end], self._rest[end:]
                self.unmasked.write(self._mask(whole))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts. Without this method they would go to the stream below, unmasked."""
        for text in lines:
            self.write(text)

    def flush(self) -> None:
        """Write everything."""
        with self._lock:
            rest, self._rest = self._rest, ""
            if rest:
                self.unmasked.write(self._mask(rest))
        self.unmasked.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unmasked, name)  # isatty, fileno, encoding, buffer


class MaskedOutput:
    """Masks what is printed to stdout and stderr while it is open."""

    def __init__(self, file: str | None, environ: Mapping[str, str]) -> None:
        """`file` and `environ` locate the configuration, as for `config.load`."""
        self.file = file
        self._environ = environ
        self._mask = TextMask(self._load, self._has_only_built_in_rules)
        self._streams: tuple[Any, Any] | None = None

    def open(self) -> None:
        """Replace stdout and stderr."""
        self._streams = sys.stdout, sys.stderr
        for name, stream in zip(("stdout", "stderr"), self._streams, strict=True):
            if stream is not None:  # None without a file descriptor, as under pythonw
                setattr(sys, name, MaskedStream(stream, self._mask))
        output.use_mask(self._mask)

    def close(self) -> None:
        """Write what is left, and restore the streams."""
        if self._streams is None:
            return
        output.use_mask(None)
        masked = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._streams
        self._streams = None
        for stream in masked:
            if isinstance(stream, MaskedStream):
                with suppress(OSError, ValueError):  # closed, or an error that was reported already
                    stream.flush()

    def _has_only_built_in_rules(self) -> bool:
        """Return whether the configuration has no section `redaction`, without parsing it."""
        if any(name.startswith(f"{PREFIX}REDACTION") for name in self._environ):
            return False
        user_file = os.path.abspath(self.file or self._environ.get("SESSIOND_CONFIG") or config_file())
        try:
            files = [user_file, *part_files(user_file)]
            return not any(_names_redaction(file) for file in files if os.path.isfile(file))
        except OSError:
            return False

    def _load(self) -> Callable[[str], str]:
        from sessiond.cli.masked import open_masking
        from sessiond.config import load_valid
        from sessiond.errors import SessiondError
        from sessiond.privacy import Masking, Terms
        from sessiond.redact import Policy

        try:
            masking = open_masking(load_valid(self.file, self._environ).config, self._environ)
            masking.load()
        except (SessiondError, OSError):  # the command reports it; the built-in rules apply all the same
            masking = Masking(Terms(policy=Policy()))
        return masking.mask_text


def _names_redaction(file: str) -> bool:
    with open(file, "rb") as stream:
        return any(b"redaction" in line and not line.lstrip().startswith(b"#") for line in stream)
