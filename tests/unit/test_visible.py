"""Invisible characters are escaped wherever they are printed, and JSON keeps its meaning."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from sessiond.cli.output import to_json
from sessiond.spool.health import RootHealth
from sessiond.text import escape, escape_json, visible

HIDDEN = [*map(chr, range(0x80, 0xA0)), *"\x7f\u200b\u200e\u202a\u202e\u2066\u2069\u2028\u2029\ufeff\u061c\u00ad"]
UNASSIGNED = {"Cn", "Co"}  # seven of eight code points; those for private use are as hidden
HIDDEN += ["\u3164", "\u115f", "\u034f", "\U000e0020", "\U000e0101"]


def every_character() -> list[str]:
    """Return all characters that Unicode has assigned, without surrogates, and of the others every 64th."""
    every = map(chr, range(sys.maxunicode + 1))
    return [
        c for c in every if (kind := unicodedata.category(c)) != "Cs" and (kind not in UNASSIGNED or not ord(c) % 64)
    ]


@pytest.mark.parametrize("character", HIDDEN, ids=lambda c: f"{ord(c):04x}")
def test_an_invisible_character_reaches_neither_text_nor_json(character: str) -> None:
    """C1 controls drive terminals, bidi controls reorder what is read, and fillers make two names look the same."""
    name = f"a{character}b"
    assert character not in escape(name)
    shown = to_json(RootHealth(tool=name, path=name, how=name))
    assert character not in shown
    assert json.loads(shown)["tool"] == name


def test_json_of_every_character_means_the_same() -> None:
    """Characters beyond the first plane, which JSON escapes as pairs, are included."""
    document = json.dumps("".join(every_character()), ensure_ascii=False)
    made = escape_json(document)
    assert json.loads(made) == json.loads(document)
    assert all(visible(character) for character in made)
    assert escape_json('{\n  "plain": "é 漢"\n}') == '{\n  "plain": "é 漢"\n}'


def test_no_control_or_format_character_counts_as_visible() -> None:
    kinds = {unicodedata.category(character) for character in every_character() if visible(character)}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
