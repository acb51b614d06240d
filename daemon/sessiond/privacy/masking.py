"""Masking of transcripts and records. The rules are loaded with the first byte that has to be masked.

They take ten megabytes and a quarter of a second, which an idle daemon does not need.
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
NAME_LENGTH = 200
"""Characters of a prompt that name a session."""


class Masking:
    """Masks secrets in transcripts and records, and hashes paths in records if `hash_paths` is set."""

    def __init__(self, terms: Terms | None = None, cache_dir: str | None = None) -> None:
        """Without `terms`, nothing is masked. Compiled rules are cached in `cache_dir`."""
        self._terms = terms or Terms()
        self._cache_dir = cache_dir
        self._redactor: Redactor | None = None
        self._lock = threading.Lock()
        self._clean: set[str] = set()
        self.version = self._terms.version
        """Changes if the rules or settings change what is masked."""

    def twin(self) -> Masking:
        """Return a copy with the same terms for another thread."""
        return Masking(self._terms, self._cache_dir)

    def mask(self, data: bytes, path: str = "") -> Masked:
        """Mask the secrets in whole records; `path` is the file that they come from."""
        redactor = self._ready()
        return Masked(data) if redactor is None else redactor.mask(data, path)

    def mask_piece(self, before: bytes, piece: bytes, after: bytes, path: str = "") -> Masked:
        """Cover the secrets in a piece of a record, given the bytes before and after it in the record."""
        redactor = self._ready()
        if redactor is None:
            return Masked(piece)
        from sessiond.redact.pieces import mask_piece

        return mask_piece(redactor, before, piece, after, path)

    def run(self, path: str = "", *, raw: bool = False) -> Run:
        """Return a `Run` that masks the bytes of a stream in order. `raw`: a newline ends no record."""
        return Run(self, path, raw=raw)

    def text(self, text: str | None) -> str | None:
        """Return a name with its secrets masked: a title, a branch, a path."""
        if not text or text in self._clean:
            return text
        data = text.encode("utf-8", "surrogateescape" if _escaped(text) else "surrogatepass")
        masked = self.mask(data)
        if masked.findings:
            return masked.data.decode("utf-8", "surrogateescape")
        self._remember(text)
        return text

    def load(self) -> None:
        """Load the rules now instead of with the first text. Raises: ConfigError for a rule that is not valid."""
        self._ready()

    def mask_text(self, text: str) -> str:
        """Return a text with its secrets masked."""
        return self.text(text) or ""

    def fold(self, fold: Fold) -> None:
        """Mask the texts in a fold before it is stored."""
        fold.title, fold.cwd, fold.branch = self.text(fold.title), self.text(fold.cwd), self.text(fold.branch)
        if fold.prompt is not None and fold.prompt not in self._clean:
            # Shortened only after it is masked: the rules would not find a secret of which a half is cut off.
            masked = self.mask(fold.prompt.encode("utf-8", "surrogatepass")).data.decode("utf-8", "replace")
            fold.prompt = " ".join(masked.split())[:NAME_LENGTH]
            self._remember(fold.prompt)

    def _remember(self, text: str) -> None:
        """Remember a text without secrets: the next commit of its stream has it again."""
        if len(self._clean) >= _REMEMBERED:
            self._clean.clear()
        self._clean.add(text)

    def record(self, record: Session) -> Session:
        """Return a record with its texts masked; with `hash_paths` its paths become keyed hashes."""
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
        """Return what masks a record that comes in pieces; None if nothing is masked."""
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
                    self._redactor = Redactor(self._terms.complete(self._cache_dir), cache_dir=self._cache_dir)
        return self._redactor


class Run:
    """Masks the bytes of a stream in order. The last bytes of a record in pieces are held back until more follow."""

    def __init__(self, masking: Masking, path: str, *, raw: bool) -> None:
        self._masking = masking
        self._path = path
        self._raw = raw
        self._pieces: Pieces | None = None
        self._begin = 0

    @property
    def inside(self) -> bool:
        """Return whether a record has begun and not ended."""
        return self._pieces is not None

    def feed(self, offset: int, data: bytes) -> Iterator[tuple[int, Masked]]:
        """Mask the next bytes; yield the masked bytes that are final, with the offset of the first.

        A record ends with a newline and contains no other: bytes without one at their end continue in the next call.
        """
        ends = data.endswith(b"\n") and not self._raw
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

    def finish(self) -> bytes:
        """Return the masked rest of a record that has no end."""
        rest = b"" if self._pieces is None else self._pieces.end().data
        self._pieces = None
        return rest


def _escaped(text: str) -> bool:
    """Return whether lone surrogates in a text represent bytes of a path that is not UTF-8."""
    return any("\udc80" <= letter <= "\udcff" for letter in text) if not text.isascii() else False
