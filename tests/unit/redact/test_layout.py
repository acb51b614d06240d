"""Line prefixes, colour codes and hard wraps that terminals and tools add are not part of a value."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sessiond.redact import Redactor, layout, load_rules
from sessiond.redact.examples import expand
from sessiond.redact.layout import Wraps, without_wraps

KEY = expand(
    "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "<B70>\n" * 11 + "<B22>==\n-----END OPENSSH PRIVATE KEY-----", 3
).split("\n")
BODY = slice(1, -1)
PREFIXES: dict[str, Callable[[int, str], str]] = {
    "none": lambda _, line: line,
    "read tool": lambda n, line: f"{n:6d}→{line}",
    "cat -n": lambda n, line: f"{n:6d}\t{line}",
    "nl": lambda n, line: f"{n:6d}  {line}",
    "bat": lambda n, line: f"  {n:2d} │ {line}",
    "grep -n": lambda n, line: f"id_rsa:{n}:{line}",
    "grep -r": lambda _, line: f"./a/id_rsa:{line}",
    "grep -A": lambda n, line: f"id_rsa{':' if n == 1 else '-'}{n}{':' if n == 1 else '-'}{line}",
    "ripgrep": lambda n, line: f"\x1b[0m\x1b[32m{n}\x1b[0m:{line}",
    "quote": lambda _, line: f"> {line}",
    "quote twice": lambda _, line: f">> {line}",
    "removed": lambda _, line: f"-{line}",
    "added": lambda _, line: f"+{line}",
    "context": lambda _, line: f" {line}",
    "combined diff": lambda _, line: f"++{line}",
    "coloured removal": lambda _, line: f"\x1b[31m-{line}\x1b[m",
    "coloured addition": lambda _, line: f"\x1b[32m+\x1b[m\x1b[32m{line}\x1b[m",
    "blame": lambda n, line: f"^1a2b3c4d (Ada Lovelace 2024-01-01 12:00:{n:02d} +0000 {n:2d}) {line}",
    "log": lambda n, line: f"2024-05-01T10:00:00.{n:03d}Z {line}",
    "syslog": lambda n, line: f"Jan 01 12:00:{n:02d} host app[123]: {line}",
    "compose": lambda _, line: f"web_1  | {line}",
    "kubectl": lambda n, line: f"[pod/x-{n}/c] {line}",
    "indent": lambda _, line: f"      {line}",
    "tab": lambda _, line: f"\t{line}",
    "comment": lambda _, line: f"# {line}",
    "slashes": lambda _, line: f"// {line}",
    "star": lambda _, line: f" * {line}",
    "box": lambda _, line: f"│ {line} │",
    "string": lambda _, line: f'  "{line}\\n" +',
}
"""What a tool prints before the n-th line, and the line."""
TOKENS = {
    "jwt": "eyJ<A33>.eyJ<A180>.<A43>",
    "long jwt": "eyJ<A33>.eyJ<A400>.<A342>",
    "anthropic": "sk-ant-api03-<W93>AA",
    "openai": "sk-proj-<W156>",
    "github": "ghp_<A36>",
    "gitlab": "glpat-<A20>",
}
WRAPPED = ("none", "read tool", "grep -n", "quote", "added", "log", "compose", "indent", "coloured removal")
WIDTHS = (20, 40, 60, 72, 80, 100, 120)


def nest(text: str, depth: int, ascii_only: bool = True) -> bytes:
    """Put a text into JSON, and that into JSON."""
    for _ in range(depth):
        text = json.dumps({"c": text}, ensure_ascii=ascii_only)
    return text.encode()


def unnest(data: bytes, depth: int) -> str:
    """Return the text that `nest` has put into JSON."""
    text = data.decode()
    for _ in range(depth):
        text = json.loads(text)["c"]
    return text


@pytest.mark.parametrize("part", ["whole", "without its end", "without its beginning"])
@pytest.mark.parametrize("name", PREFIXES)
def test_each_line_of_a_key_is_masked_and_nothing_else(name: str, part: str, stars: Redactor) -> None:
    """The text before a line stays readable, at each depth of JSON and with or without ASCII escapes."""
    low, high = {"whole": (0, 14), "without its end": (0, 9), "without its beginning": (4, 14)}[part]
    lines = list(enumerate(KEY, 1))[low:high]
    hidden = [(n, line if line.startswith("---") else "*" * len(line)) for n, line in lines]
    for depth in (0, 1, 2):
        for ascii_only in (True, False):
            text, expected = (
                "here\n" + "\n".join(PREFIXES[name](n, line) for n, line in some) + "\nordinary text follows\n"
                for some in (lines, hidden)
            )
            masked = stars.mask(nest(text, depth, ascii_only))
            assert unnest(masked.data, depth) == expected
            assert stars.mask(masked.data).data == masked.data


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("token", TOKENS)
def test_a_wrapped_token_is_masked_to_its_end(token: str, name: str, stars: Redactor) -> None:
    """A token that a terminal broke at any width is masked on each line, and neither a prefix nor what follows is."""
    value = expand(TOKENS[token], 1)
    for before in ("", "token: ", "Here is the token that you asked for: "):
        for width in WIDTHS:
            if len(before) % width > width - 4:
                continue  # broken within its first four characters: not looked for, see docs/redaction.md
            whole = before + value
            lines = [whole[i : i + width] for i in range(0, len(whole), width)]
            text = "see\n" + "\n".join(PREFIXES[name](n, line) for n, line in enumerate(lines, 9)) + "\nand so on\n"
            for depth in (0, 1, 2):
                masked = stars.mask(nest(text, depth))
                out = unnest(masked.data, depth)
                assert out.count("*") == len(value), (before, width, depth)
                assert out.startswith("see\n") and out.endswith("\nand so on\n")
                assert stars.mask(masked.data).data == masked.data


@pytest.mark.parametrize("code", ["\x1b[33m", "\x1b[38;5;12m", "\x1b[1;31m\x1b[K"])
def test_colour_codes_around_and_inside_a_token(code: str, stars: Redactor) -> None:
    """The codes stay and the token is masked. In JSON a code ends in a letter, which is not part of the token."""
    value = expand("ghp_<A36>", 1)
    for text in (f"{code}{value}\x1b[0m", f"x {value[:2]}{code}{value[2:20]}\x1b[0m{value[20:]} y"):
        for depth in (0, 1, 2):
            out = unnest(stars.mask(nest(text, depth)).data, depth)
            assert out.count("*") == len(value)
            assert out.count(code) == 1 and out.count("\x1b[0m") == 1


UNTOUCHED = {
    "a short token and a word": "ghp_<A35>\nand there",
    "hashes, one a line": "<H40>\n<H40>\n<H40>\n",
    "a list of names": "some_long_function_name_1\nanother_function_name_2\n",
    "a public key": "     1→-----BEGIN PUBLIC KEY-----\n     2→<B64>\n     3→-----END PUBLIC KEY-----",
    "a certificate": "> -----BEGIN CERTIFICATE-----\n> <B64>\n> -----END CERTIFICATE-----",
    "prose about keys": "a file starts with -----BEGIN PRIVATE KEY-----\nand is read by the server\n",
    "prose about the end": "it is\nread up to\n-----END PRIVATE KEY-----\n",
    "a key's placeholder": "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "coloured text": "\x1b[32mPASS\x1b[0m tests/test_a.py::test_b \x1b[33m(12 ms)\x1b[0m",
    "coloured hash": "\x1b[33mcommit <H40>\x1b[m (\x1b[1;36mHEAD\x1b[m)",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_only_looks_broken_is_left_alone(name: str, stars: Redactor, plain: Redactor) -> None:
    """Lines that follow each other are not a wrapped value."""
    for seed in range(5):
        for depth in (0, 1, 2):
            data = nest(expand(UNTOUCHED[name], seed), depth)
            assert stars.mask(data).data is data
            assert plain.mask(data).data is data


def test_a_token_and_the_words_of_the_next_line(stars: Redactor) -> None:
    """Words that follow a whole token are not masked with it."""
    for template in ("ghp_<A36>", "sk-ant-api03-<W93>AA", "eyJ<A33>.eyJ<A80>.<A43>", "glpat-<A20>"):
        for follows in ("done", "Next: run it", "NEXT_VAR=foo", "and then the tests"):
            text = f"the token\n{expand(template, 2)}\n{follows}\n"
            out = unnest(stars.mask(nest(text, 1)).data, 1)
            assert out.endswith(f"*\n{follows}\n")


def test_both_scanners_see_the_same_in_broken_text(stars: Redactor, plain: Redactor) -> None:
    """The views are made from the same places."""
    value = expand("eyJ<A33>.eyJ<A180>.<A43>", 4)
    lines = [value[i : i + 80] for i in range(0, len(value), 80)]
    for name, prefix in PREFIXES.items():
        key = "\n".join(prefix(n, line) for n, line in enumerate(KEY, 1))
        data = nest(key + "\n\n" + "\n".join(prefix(n, line) for n, line in enumerate(lines, 1)), 1)
        assert plain.mask(data) == stars.mask(data), name


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_wrapped_token_may_fill_its_last_line_and_end_the_text(depth: int, stars: Redactor) -> None:
    """The text ends with the token, without a line break or a shorter line."""
    value = expand(TOKENS["anthropic"], 1)
    half = len(value) // 2
    masked = stars.mask(nest(value[:half] + "\n" + value[half:], depth))
    assert unnest(masked.data, depth) == "*" * half + "\n" + "*" * half


def test_what_follows_a_star_is_the_rest_of_what_is_masked_already() -> None:
    """It is not joined to the line before, or masking twice would mask more."""
    wraps = Wraps(load_rules().rules)
    head = b"export GH_TOKEN=ghp_" + b"a1B2" * 5
    for star, views in ((b"", 1), (b"*", 0), (b"> *", 0)):
        data = head + b"\n" + star + b"c3D4" * 4 + b"\n"
        found = list(without_wraps(data, [len(head) + 1], wraps.begins, frozenset(), lambda _: None))
        assert len(found) == views, data


def test_the_first_line_of_a_json_string_is_as_wide_as_its_text() -> None:
    """The text before the quote is not part of the terminal's line, if that fits or the record begins there."""
    assert layout._first_width(b'  "text": "abcdefgh', b'"text": "abcdefgh', 8) == 8
    assert layout._first_width(b'{"text": "abcdefgh', b'{"text": "abcdefgh', 5) == 8
    assert layout._first_width(b'  "text": "abcdefgh', b'"text": "abcdefgh', 5) == 17


def test_five_walks_over_the_same_lines_go_on_to_the_end_of_the_value() -> None:
    """A sixth one would make the work for a list of tokens grow with the square of its lines."""
    line = b"a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8i9J0\n"
    data = b"x\n" + line * 12 + b"\n"
    marks = [2 + len(line) * n for n in range(1, 10)]
    views = list(without_wraps(data, marks, Wraps(()).begins, frozenset(marks), lambda _: None))
    assert [len(view.widths) for view in views] == [12, 11, 10, 9, 8, 2, 2, 2, 2]
