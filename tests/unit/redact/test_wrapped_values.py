"""Values with a name, and tokens, that a terminal broke near their beginning or end."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor
from sessiond.redact.examples import expand
from sessiond.redact.lines import text_start

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
    """A single character on the first line is enough. The last few, on the next line, may stay if they are a word."""
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
    """`rails secret` makes such keys: 128 hex digits behind `SECRET_KEY_BASE=`, which has none of the usual endings."""
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


FIRST = {
    "none": lambda _, line: line,
    "cat -n": lambda n, line: f"{n:6d}\t{line}",
    "Read": lambda n, line: f"{n:6d}→{line}",
    "nl": lambda n, line: f"{n:6d}  {line}",
    "grep -n": lambda n, line: f"f.txt:{n}:{line}",
    "grep -n of one file": lambda n, line: f"{n}:{line}",
    "grep -C": lambda n, line: f"src/f.txt{':' if n == 3 else '-'}{n}{':' if n == 3 else '-'}{line}",
    "added": lambda _, line: f"+{line}",
    "removed": lambda _, line: f"-{line}",
    "context": lambda _, line: f" {line}",
    "quote": lambda _, line: f"> {line}",
    "comment": lambda _, line: f"# {line}",
    "log": lambda n, line: f"2026-01-02T03:04:0{n}Z {line}",
    "log in brackets": lambda n, line: f"[12:03:0{n}] {line}",
    "compose": lambda _, line: f"web_1  | {line}",
}
STRINGS = {
    "record": lambda text: json.dumps({"c": text}),
    "record without spaces": lambda text: json.dumps({"type": "t", "c": text}, separators=(",", ":")),
    "list": lambda text: json.dumps({"c": ["one\ntwo", text]}),
    "JSON in a record": lambda text: json.dumps({"type": "t", "c": json.dumps({"a": text})}),
}


@pytest.mark.parametrize("string", STRINGS)
@pytest.mark.parametrize("prefix", FIRST)
def test_a_wrapped_value_may_begin_a_json_string(prefix: str, string: str, stars: Redactor) -> None:
    """The prefix of its first line is behind the quote. It stays readable on each line, and no part of the value."""
    value = "9f3Kq7Zt2Wm8Xc5Vb1Np6Lr4Hd0GsYj3Ea7Uo2Ti8Rk5Qw9Mz1Bx6Cv4"
    for name in ("SECRET_KEY_BASE=", "password: ", "export GH_TOKEN=ghp_"):
        for width in (30, 40, 64):
            whole = name + value
            parts = [whole[i : i + width] for i in range(0, len(whole), width)]
            secret = whole[whole.index("ghp_") if "ghp_" in whole else len(name) :]
            hidden = whole[: -len(secret)] + "*" * len(secret)
            masked_parts = [hidden[i : i + width] for i in range(0, len(whole), width)]
            data, expected = (
                STRINGS[string]("\n".join([*(FIRST[prefix](n, part) for n, part in enumerate(some, 3)), "and so on"]))
                for some in (parts, masked_parts)
            )
            masked = stars.mask(data.encode()).data
            assert masked == expected.encode(), (name, width)
            assert stars.mask(masked).data == masked


def test_quotes_before_a_value_do_not_move_the_line() -> None:
    """A quote counts only if the prefix of the next line begins behind it, at least as long as at the line's start."""
    assert text_start(b'{"c": "f.txt:3:KEY=', b"f.txt:4:abc")[0] == 7
    assert text_start(b'{"c": "> KEY=', b"> abc")[0] == 7
    assert text_start(b'f.txt:3:KEY: "f', b"f.txt:4:fabc")[0] == 0
    assert text_start(b'{"c": "KEY=', b"abc")[0] == 0
    assert text_start(b' r KEY: "6h', b" rUE")[0] == 0
    assert text_start(b'KEY = "f.txt:3:', b"f.txt:4:abc")[0] == 0
    assert text_start(b'{"c": "', b"")[0] == 0


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "secret", ["eyJ<A33>.eyJ<A180>.<A43>", "DB_PASSWORD=<A24>", "key-<H32>", "'api_key': '<A32>'", "sk-<A48>"]
)
def test_a_removed_line_may_begin_a_json_string(secret: str, depth: int, stars: Redactor, plain: Redactor) -> None:
    """Several rules take "-" for a part of a word, so the sign of the diff must not count as one."""
    text = f"-{expand(secret, 1)}\n+nothing\n"
    for _ in range(depth):
        text = json.dumps({"patch": text})
    masked = stars.mask(text.encode())
    assert masked.findings and masked == plain.mask(text.encode())
    assert masked.data.index(b"-") == text.index("-")


def test_a_token_is_within_one_record(stars: Redactor) -> None:
    """Of two records with the same beginning, a crash cut the first one in a word."""
    token = expand("ghp_<A36>", 3)
    text = f'{{"a":"{token[:20]}\n{{"a":"{token[20:]}"}}'.encode()
    assert stars.mask_any(text).data == text
