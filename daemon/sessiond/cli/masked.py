"""Masking of transcripts that a command prints, by the rules that apply before sending."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from sessiond.config import Config, state_dir

if TYPE_CHECKING:
    from sessiond.privacy import Masking, Terms
    from sessiond.redact import Redactor


def open_redactor(config: Config, environ: Mapping[str, str]) -> Redactor:
    """Return the redactor that the daemon would use; if `redact` is "off", one that masks all the same.

    Raises: ConfigError.
    """
    from sessiond.redact import Redactor

    terms, cache_dir = _terms(config, environ)
    terms.check(cache_dir)
    return Redactor(terms.complete(cache_dir), cache_dir=cache_dir)


def open_masking(config: Config, environ: Mapping[str, str]) -> Masking:
    """Return what masks text for display, also if `redact` is "off". Raises: ConfigError."""
    from sessiond.privacy import Masking

    return Masking(*_terms(config, environ))


def _terms(config: Config, environ: Mapping[str, str]) -> tuple[Terms, str | None]:
    """Return what to mask, and where compiled rules are cached: nowhere if there is no state directory yet."""
    from sessiond import device
    from sessiond.privacy import read_terms

    directory = state_dir(config)
    known = os.path.exists(os.path.join(directory, device.FILE))
    key = bytes.fromhex(device.identify(directory).key) if known else os.urandom(32)
    if config.redact == "off":
        config = msgspec.structs.replace(config, redact="mask")
    return read_terms(config, environ, key), os.path.join(directory, "rules") if known else None


def mask_pieces(redactor: Redactor | None, pieces: Iterator[bytes], path: str = "") -> Iterator[bytes]:
    """Iterate the bytes with their secrets masked, or unchanged if there is no redactor.

    `path` is the file they come from, for rules and exceptions about paths.
    """
    if redactor is None:
        yield from pieces
        return
    for masked in redactor.mask_pieces(pieces, path):
        yield masked.data
