"""Values with a name, and tokens, that a terminal broke near their beginning or end."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor
from sessiond.redact.examples import expand

NAMED = {
    "env": "DB_PASSWORD={}",
    "YAML": "password: {}",
    "JSON": '"password": "{}"',
    "option": "mysql --password={} db",
    "header": "Authorization: Bearer {}",
}
PREFIXES = {
    "none": ("", ""),
    "indent": ("    ", "    "),
    "cat -n": ("     3\t", "     4\t"),
    "Read": ("     3→", "     4→"),
    "quote": ("> ", "> "),
    "added": ("+", "+"),
    "removed": ("-", "-"),
    "grep -n": ("f.txt:3:", "f.txt:4:"),
}
FILLER = "some words that fill the line before the value begins here and now " * 3


def wrapped(before: str, value: str, after: str, prefix: tuple[str, str], cut: int) -> str:
    """Return a text whose line breaks after `cut` characters of the value, at column 80."""
    fill = 80 - len(prefix[0]) - len(before) - cut
    return f"see\n{prefix[0]}{FILLER[: fill - 1]} {before}{value[:cut]}\n{prefix[1]}{value[cut:]}{after}\nend of it\n"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", NAMED)
def test_a_named_value_is_masked_wherever_the_line_broke(name: str, prefix: str, stars: Redactor) -> None:
    """Also if a single character is on the first line. The last few, on the next line, may stay if they are a word."""
    before, after = NAMED[name].split("{}")
    for seed in range(3):
        value = expand("<A40>", seed)
        for cut in (1, 2, 4, 6, 8, 12, 20, 35):
            for nested in (str.encode, lambda text: json.dumps({"c": text}).encode()):
                data = nested(wrapped(before, value, after, PREFIXES[prefix], cut))
                out = stars.mask(data).data
                assert (before[-4:] + value[:cut]).encode() not in out, (cut, out)
                assert value[cut:].encode() not in out, (cut, out)


@pytest.mark.parametrize("token", ["ghp_<A36>", "npm_<A36>", "AKIA<S16>", "sk_live_<A24>", "glpat-<A20>"])
def test_a_token_whose_last_character_is_on_the_next_line_is_masked(token: str, stars: Redactor) -> None:
    """Before ordinary text too: a line of 80 columns that ends with most of a token was wrapped."""
    value = expand(token, 7)
    for cut in (len(value) - 1, len(value) - 2, len(value) - 5):
        out = stars.mask(wrapped("", value, " and more", ("", ""), cut).encode()).data
        assert value[:cut].encode() not in out


@pytest.mark.parametrize("prefix", ["none", "cat -n", "grep -n"])
def test_a_key_that_fills_more_than_a_line_is_masked(prefix: str, stars: Redactor) -> None:
    """As `rails secret` makes it: 128 hex digits behind `SECRET_KEY_BASE=`, which ends in none of the usual names."""
    first, following = PREFIXES[prefix]
    for seed in range(2):
        value = expand("<H128>", seed)
        cut = 80 - len(first) - len("SECRET_KEY_BASE=")
        rest = [value[at : at + 80 - len(following)] for at in range(cut, 128, 80 - len(following))]
        lines = ["see", f"{first}SECRET_KEY_BASE={value[:cut]}", *(following + part for part in rest)]
        for data in (
            "\n".join(lines).encode(),
            json.dumps({"c": "\n".join(lines) + "\nRAILS_ENV=production"}).encode(),
        ):
            out = stars.mask(data).data
            assert b"SECRET_KEY_BASE=*" in out
            for part in (value[:cut], *rest):
                assert not [at for at in range(len(part) - 8) if part[at : at + 8].encode() in out], (seed, out)


UNTOUCHED = {
    "a type": "  password: str\n  user_id2: int",
    "a short line": "token: ab\nxK9mQ2vL8pR4",
    "a description": f"{FILLER[:60]} token: str\nx86_64-linux only",
    "a name and a word in the next line": "        self._secret_token = parse_token\n        return self",
    "an option": f"{FILLER[:50]} --token is\nrequired-2 here",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_lines_that_follow_each_other_are_left_alone(name: str, stars: Redactor, plain: Redactor) -> None:
    for nested in (str.encode, lambda text: json.dumps({"c": text}).encode()):
        data = nested(f"see\n{UNTOUCHED[name]}\nend\n")
        assert stars.mask(data).data is data
        assert plain.mask(data).data is data
