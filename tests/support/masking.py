"""Checks of masked text: at each depth of JSON, behind what programs add before a line, and by both scanners."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from sessiond.redact import Redactor
from sessiond.redact.prefilter import may_hold_secret

VALUES = ("xK9mQ2vL8pR4tY7w", "k8Jd-2mQ_z9Lp4.x", "Tr0ub4dor&3xQ")
"""Secrets that no rule finds by their form."""


def _prefixed(form: str) -> Callable[[str], str]:
    """Return a function that puts a number into a prefix before each line of a text."""
    return lambda text: "\n".join(form.format(n) + line for n, line in enumerate(text.split("\n"), 1))


AROUND: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "cat -n": _prefixed("{:6}\t"),
    "viewer": _prefixed("{:6}\u2192"),
    "added": _prefixed("+"),
    "removed": _prefixed("-"),
    "quoted": _prefixed("> "),
    "comment": _prefixed("# "),
    "coloured": lambda text: f"\x1b[2m{text}\x1b[0m",
}
"""What programs add to the lines that they print."""


def nest(text: str, depth: int, *, ascii_only: bool = True) -> bytes:
    """Put a text into JSON, and that into JSON."""
    for _ in range(depth):
        text = json.dumps({"c": text}, ensure_ascii=ascii_only)
    return text.encode()


def check(stars: Redactor, before: str, after: str) -> None:
    """Assert that a text is masked as expected at each depth of JSON, with and without escaped letters."""
    for depth, ascii_only in ((0, True), (1, True), (1, False), (2, True), (2, False)):
        masked = stars.mask(nest(before, depth, ascii_only=ascii_only))
        assert masked.data == nest(after, depth, ascii_only=ascii_only)
        assert stars.mask(masked.data).data == masked.data


def check_form(form: str, stars: Redactor, plain: Redactor) -> None:
    """Assert that each value at `{v}` of a form is masked, and nothing else, whatever is added to its lines."""
    for value in VALUES:
        text, expected = (form.format(v=some) for some in (value, "*" * len(value)))
        for around in AROUND.values():
            check(stars, f"see\n{around(text)}\nend\n", f"see\n{around(expected)}\nend\n")
        assert plain.mask(nest(text, 1)) == stars.mask(nest(text, 1))
        assert may_hold_secret(text)


def check_untouched(texts: Iterable[str], stars: Redactor, plain: Redactor) -> None:
    """Assert that neither scanner masks anything of any text, at any depth of JSON."""
    changed = []
    for text in texts:
        for depth, ascii_only in ((0, True), (1, True), (1, False), (2, True)):
            data = nest(f"see\n{text}\nend\n", depth, ascii_only=ascii_only)
            masked = [redactor.mask(data).data for redactor in (stars, plain)]
            if not masked[0] is masked[1] is data:
                changed.append((text, *masked))
    assert not changed, "\n".join(map(repr, changed))
