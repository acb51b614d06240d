"""A scan that reports where a file has secrets, without their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from sessiond.redact import Masked, Redactor, digest
from sessiond.redact.text import blank

BLOCK = 1 << 20


class SecretFinding(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a secret, the rule that found it, and the hash that allows it."""

    file: str
    """If the file has several streams, with `::` and the name of session and stream."""
    line: int
    """The line of a file; of a document or a database, the number of the record."""
    rule: str
    length: int
    hash: str
    """For `redaction.allow_hashes`. Values can be guessed with it, so it is printed only on request."""


def scan_file(redactor: Redactor, path: str) -> Iterator[SecretFinding]:
    """Iterate the secrets in a file. Raises: OSError."""
    with open(path, "rb") as file:
        line = 1
        for data in _runs(file):
            yield from find_secrets(data, redactor.mask(data, path), path, line)
            line += data.count(b"\n")


def scan_records(redactor: Redactor, path: str, name: str, records: Iterable[bytes]) -> Iterator[SecretFinding]:
    """Iterate the secrets in the records of a stream of a file; `line` counts its records."""
    label, held, size, line = f"{path}::{name}" if name else path, list[bytes](), 0, 1

    def settle() -> list[SecretFinding]:
        data = b"".join(held)
        return find_secrets(data, redactor.mask_any(data, path), label, line)

    for record in records:
        held.append(record + b"\n")
        size += len(record)
        if size >= BLOCK:
            yield from settle()
            line, size = line + len(held), 0
            held.clear()
    yield from settle()


def find_secrets(data: bytes, masked: Masked, file: str, line: int) -> list[SecretFinding]:
    """Return the secrets in `data`, which begins at the start of a line."""
    found: list[SecretFinding] = []
    counted = 0
    for finding in masked.findings:
        line += data.count(b"\n", counted, finding.start)
        counted = finding.start
        secret = data[finding.start : finding.start + finding.length]
        name = digest(blank(secret))
        found.append(SecretFinding(file=file, line=line, rule=finding.rule, length=finding.length, hash=name))
    return found


def _runs(file: BinaryIO) -> Iterator[bytes]:
    """Iterate blocks of whole lines; a long line is one block, so that no secret in it is divided."""
    held = bytearray()
    while block := file.read(BLOCK):
        cut = block.rfind(b"\n") + 1
        held += block[:cut] if cut else block
        if cut:
            yield bytes(held)
            held = bytearray(block[cut:])
    if held:
        yield bytes(held)
