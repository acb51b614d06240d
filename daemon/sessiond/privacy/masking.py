"""Masking: the redactor as the daemon uses it, made when the first byte is to be masked.

The rules take ten megabytes and a fifth of a second, which a daemon that has nothing to read does not spend.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from sessiond.privacy.terms import Terms
from sessiond.redact.policy import Masked
from sessiond.session import Fold, Session

if TYPE_CHECKING:
    from sessiond.redact.pieces import Pieces
    from sessiond.redact.redactor import Redactor

_HASHED = "hashed:"
_REMEMBERED = 1000


class Masking:
    """Covers secrets in what is read, and paths in records where that is asked for."""

    def __init__(self, terms: Terms | None = None, cache_dir: str | None = None) -> None:
        """Take the terms; without them nothing is masked."""
        self._terms = terms or Terms()
        self._cache_dir = cache_dir
        self._redactor: Redactor | None = None
        self._lock = threading.Lock()
        self._clean: set[str] = set()
        self.version = self._terms.version
        """Changes with whatever could make it find something else."""

    def twin(self) -> Masking:
        """Return one with the same terms for another thread: a scanner serves one thread at a time."""
        return Masking(self._terms, self._cache_dir)

    def mask(self, data: bytes, path: str = "") -> Masked:
        """Cover the secrets in a run of whole records; `path` is the file that they come from."""
        redactor = self._ready()
        return Masked(data) if redactor is None else redactor.mask(data, path)

    def mask_piece(self, before: bytes, piece: bytes, after: bytes, path: str = "") -> Masked:
        """Cover the secrets in a piece of a record, given the bytes before and after it in the record."""
        redactor = self._ready()
        if redactor is None:
            return Masked(piece)
        from sessiond.redact.pieces import mask_piece

        return mask_piece(redactor, before, piece, after, path)

    def run(self, path: str = "") -> Run:
        """Begin to mask the bytes of a stream in their order."""
        return Run(self, path)

    def text(self, text: str | None) -> str | None:
        """Cover the secrets in a name: a title, a branch, a path."""
        if not text or text in self._clean:
            return text
        data = text.encode("utf-8", "surrogateescape" if _escaped(text) else "surrogatepass")
        masked = self.mask(data)
        if masked.findings:
            return masked.data.decode("utf-8", "surrogateescape")
        if len(self._clean) >= _REMEMBERED:
            self._clean.clear()
        self._clean.add(text)
        return text

    def load(self) -> None:
        """Load the rules now instead of with the first text. Raises: ConfigError for a rule that is not valid."""
        self._ready()

    def mask_text(self, text: str) -> str:
        """Return a text with its secrets masked."""
        return self.text(text) or ""

    def fold(self, fold: Fold) -> None:
        """Cover what a fold remembers as text, before it is stored."""
        fold.title, fold.cwd, fold.branch = self.text(fold.title), self.text(fold.cwd), self.text(fold.branch)

    def record(self, record: Session) -> Session:
        """Cover what a record has as text; with `hash_paths` its paths become keyed hashes."""
        directory, source = record.working_directory, record.source_path
        if self._terms.hash_paths:
            directory, source = self._hashed(directory) or "", self._hashed(source)
        else:
            directory, source = self.text(directory) or "", self.text(source)
        branch = self.text(record.git_branch)
        if (directory, source, branch) == (record.working_directory, record.source_path, record.git_branch):
            return record
        return msgspec.structs.replace(record, working_directory=directory, source_path=source, git_branch=branch)

    def pieces(self, path: str) -> Pieces | None:
        """Begin a record that comes in pieces; None where nothing is masked."""
        redactor = self._ready()
        return None if redactor is None else redactor.pieces(path)

    def _hashed(self, path: str | None) -> str | None:
        if not path or path.startswith(_HASHED):
            return path
        name = blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16, key=self._terms.key[:64])
        return f"{_HASHED}{name.hexdigest()}"

    def _ready(self) -> Redactor | None:
        if self._terms.policy.mode == "off":
            return None
        if self._redactor is None:
            from sessiond.redact.redactor import Redactor

            with self._lock:
                if self._redactor is None:
                    self._redactor = Redactor(self._terms.complete(), cache_dir=self._cache_dir)
        return self._redactor


class Run:
    """The bytes of a stream, masked in their order. A record in pieces comes out a little later than it went in."""

    def __init__(self, masking: Masking, path: str) -> None:
        self._masking = masking
        self._path = path
        self._pieces: Pieces | None = None
        self._begin = 0

    @property
    def inside(self) -> bool:
        """Return whether a record has begun and not ended."""
        return self._pieces is not None

    def feed(self, offset: int, data: bytes) -> Iterator[tuple[int, Masked]]:
        """Take the next bytes, and give what is known by now: where it begins, and the bytes.

        A record ends with a newline and holds none; so what does not end with one goes on in the next bytes.
        """
        ends = data.endswith(b"\n")
        if self._pieces is None and not ends:
            self._pieces, self._begin = self._masking.pieces(self._path), offset
        if self._pieces is None:
            yield offset, self._masking.mask(data, self._path)
            return
        for masked in (self._pieces.add(data), self._pieces.end() if ends else Masked(b"")):
            if masked.data:
                yield self._begin, masked
                self._begin += len(masked.data)
        if ends:
            self._pieces = None


def _escaped(text: str) -> bool:
    """Return whether lone surrogates in a text represent bytes of a path that is not UTF-8."""
    return any("\udc80" <= letter <= "\udcff" for letter in text) if not text.isascii() else False
