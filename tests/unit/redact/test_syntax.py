"""The parser of rules' expressions describes what `re` matches."""

from __future__ import annotations

import re

import pytest

from sessiond.redact.shape import derive
from sessiond.redact.syntax import UNBOUNDED, Anchor, Look, OneByte, Repeat, is_anchored, parse, width

ONE_BYTE = [
    *(r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", r"\n", r"\t", r"\x41", r"\012", r"\.", r"\\", "a", "~"),
    *("[a-z]", "[^a-z]", "[]a]", "[^]a]", "[a-]", "[-a]", r"[\d-]", r"[\b]", r"[\]x]", r"[\x30-\x39_]"),
    *(".", "(?s:.)", "(?i:k)", "(?i:[a-f])", "(?i:[^k])", "(?i)z", "(?i:(?-i:k))", "a|b", "(?:a|[x-z])", "x(?:)"),
]


@pytest.mark.parametrize("expression", ONE_BYTE)
def test_one_byte_is_the_class_that_re_matches(expression: str) -> None:
    nodes = parse(expression.encode())
    while len(nodes) == 1 and hasattr(nodes[0], "body"):
        nodes = nodes[0].body
    matched = {byte for byte in range(256) if re.fullmatch(expression.encode(), bytes((byte,)))}
    assert len(nodes) == 1 and isinstance(nodes[0], OneByte)
    assert nodes[0].members == matched


@pytest.mark.parametrize(
    ("expression", "least", "most"),
    [
        ("a?", 0, 1),
        ("a*", 0, UNBOUNDED),
        ("a+?", 1, UNBOUNDED),
        ("a{3}", 3, 3),
        ("a{2,}+", 2, UNBOUNDED),
        ("a{,4}?", 0, 4),
    ],
)
def test_repeats_have_their_bounds(expression: str, least: int, most: int) -> None:
    assert parse(expression.encode()) == (Repeat((OneByte(frozenset(b"a")),), least, most),)


def test_braces_that_are_no_count_are_ordinary_bytes() -> None:
    assert width(parse(b"a{}")) == 3
    assert width(parse(b"a{,}")) >= UNBOUNDED
    assert width(parse(b"{x}")) == 3


def test_the_width_is_that_of_the_longest_way() -> None:
    assert width(parse(rb"(?:ab|c{4})x(?=yyyy)\b(?P<n>z)?(?>q)")) == 7


def test_a_common_beginning_stands_before_a_choice() -> None:
    """A trigger keeps its literal text this way, and an anchor of each arm is one of the whole."""
    assert parse(b"^a|^b") == (Anchor("start"), OneByte(frozenset(b"ab")))
    assert parse(b"(?<!x)a") == (Look((OneByte(frozenset(b"x")),), False, True), OneByte(frozenset(b"a")))


@pytest.mark.parametrize(
    ("expression", "anchored"),
    [
        ("^a", True),
        ("(?i:^a|^b)", True),
        (r"\Aa", True),
        ("a^", False),
        ("^a|b", False),
        ("(?m:^a)", False),
        ("$", False),
    ],
)
def test_only_an_anchored_expression_needs_one_attempt(expression: str, anchored: bool) -> None:
    assert is_anchored(expression.encode()) is anchored


@pytest.mark.parametrize(
    "expression",
    [r"(a)\1", "(?P<n>a)(?P=n)", "(a)?(?(1)b)", "(?x) a", "(?#a)", "(a", "a)", "[a", "*a", "a|*", r"\q", "\\"],
)
def test_what_is_not_supported_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(expression.encode())


def test_the_trigger_of_an_expression_in_another_case_is_widened() -> None:
    """A look-behind within a group that ignores the case takes both cases."""
    assert "\\x41-\\x5a" in derive(rb"(?i:(?<=[a-z])://x)").behind


def test_a_condition_may_examine_some_bytes_after_the_barrier() -> None:
    shape = derive(rb"abc[a-z]{1,900}(?![ ]{0,20}=)")
    assert shape.ahead == 21
    assert "\\x20" in shape.barrier or "-\\x24" in shape.barrier
    assert derive(rb"abc[a-z]{1,900}(?![ ]{0,99}=)").barrier == ""
    assert derive(rb"abc[a-z]{1,900}$").barrier == ""
