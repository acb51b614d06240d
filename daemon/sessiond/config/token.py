"""Find and validate the token, and keep it out of output."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import NoReturn

from sessiond.config.model import Config
from sessiond.errors import ConfigError

MAX_TOKEN = 8192
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Token:
    """A bearer token. Only `reveal` returns its text, for the header of a request."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text of the token."""
        return self._text

    def __repr__(self) -> str:
        return "Token(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token can't be pickled")


def token_origin(config: Config, environ: Mapping[str, str]) -> str | None:
    """Return where the token comes from, or None where there is no token."""
    if environ.get("SESSIOND_TOKEN"):
        return "SESSIOND_TOKEN"
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials and os.path.exists(f"{credentials}/token"):
        return f"{credentials}/token"
    return config.endpoint.token_file or None


def read_token(config: Config, environ: Mapping[str, str]) -> Token | None:
    """Read the token from SESSIOND_TOKEN, systemd's credential `token`, or `endpoint.token_file`, in this order.

    Raises: ConfigError for a file that can't be read, that other users can read, or that has no token.
    """
    origin = token_origin(config, environ)
    if origin is None:
        return None
    if origin == "SESSIOND_TOKEN":
        return _token(environ["SESSIOND_TOKEN"], key="SESSIOND_TOKEN")
    # systemd protects its credentials itself; for a service user by an ACL that the mode does not show.
    ours = origin == config.endpoint.token_file
    key = "endpoint.token_file" if ours else "CREDENTIALS_DIRECTORY"
    return _token(_private_text(origin, key, private=ours), file=origin, key=key)


def _private_text(path: str, key: str, *, private: bool) -> str:
    try:
        # Without O_NONBLOCK, opening a FIFO would block forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ConfigError(f"can't be read: {reason}", file=path, key=key) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("is not a regular file", file=path, key=key)
        if private and status.st_uid != os.geteuid():
            raise ConfigError("belongs to another user", file=path, key=key, hint="use a file that you own")
        if private and status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise ConfigError(
                f"other users may read the token (mode {mode})", file=path, key=key, hint=f"run: chmod 600 {path}"
            )
        return os.read(descriptor, MAX_TOKEN + 1).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _token(text: str, *, key: str, file: str | None = None) -> Token:
    word = text.strip()
    if not word:
        raise ConfigError("contains no token", file=file, key=key)
    if len(word) > MAX_TOKEN or not _TOKEN.fullmatch(word):
        raise ConfigError("must contain a single token of printable ASCII characters", file=file, key=key)
    return Token(word)
