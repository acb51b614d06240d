"""Private keys whose BEGIN line was cut off are recognised by their first line."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor
from sessiond.redact.examples import expand

HEADS = {
    "PKCS #1": "MIIEpAIBAAKCAQEA",
    "PKCS #1, 1024 bits": "MIICXAIBAAKBgQC",
    "PKCS #8": "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKg",
    "PKCS #8, P-384": "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAi",
    "SEC 1": "MHcCAQEEI",
    "SEC 1, P-384": "MIGkAgEBBDC",
    "SEC 1, P-521": "MIHcAgEBBEI",
    "OpenSSH": "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE",
}
PUBLIC = {
    "certificate": "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ",
    "public key": "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA",
    "PKCS #1 public key": "MIIBCgKCAQEA",
    "certificate request": "MIICijCCAXICAQAwRTELMAkGA1UEBhMCQVUxEzARBgNVBAgMClNvbWUtU3RhdGUx",
}
PREFIXES = {
    "none": "{}",
    "cat -n": "     {n}\t{}",
    "Read": "     {n}→{}",
    "grep -n": "id_rsa:{n}:{}",
    "diff": "-{}",
    "quote": "> {}",
}


def body(head: str, lines: int = 6, width: int = 64) -> list[str]:
    """Return the lines of a body that begins with `head`."""
    text = head + expand(f"<B{lines * width}>", head)
    return [text[at : at + width] for at in range(0, lines * width, width)] + [text[:20] + "=="]


def nested(lines: list[str], prefix: str) -> bytes:
    text = "\n".join(prefix.format(line, n=number) for number, line in enumerate(lines, 2))
    return json.dumps({"content": f"output:\n{text}\nand so on"}).encode()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("head", HEADS)
def test_a_body_without_its_begin_line_is_masked(head: str, prefix: str, stars: Redactor) -> None:
    lines = body(HEADS[head], width=70 if head == "OpenSSH" else 64)
    masked = stars.mask(nested(lines, PREFIXES[prefix]))
    assert masked.data == nested(["*" * len(line) for line in lines], PREFIXES[prefix])
    assert stars.mask(masked.data).data == masked.data


@pytest.mark.parametrize("head", HEADS)
def test_a_key_in_one_line_is_masked(head: str, stars: Redactor) -> None:
    value = "".join(body(HEADS[head], 4)[:-1])
    assert stars.mask(f"DER={value}\n".encode()).data == f"DER={'*' * len(value)}\n".encode()


@pytest.mark.parametrize("head", PUBLIC)
def test_public_parts_are_left_alone(head: str, stars: Redactor, plain: Redactor) -> None:
    """They are recognised without the line that names them too. The middle of a body looks alike for both parts, and
    stays.
    """
    for lines in (body(PUBLIC[head]), body(PUBLIC[head])[1:]):
        data = nested(lines, "{}")
        assert stars.mask(data).data is data
        assert plain.mask(data).data is data


@pytest.mark.parametrize("blank", [1, 7, 8, 20])
def test_few_blank_lines_are_within_a_key(blank: int, stars: Redactor) -> None:
    lines = body("", lines=8)[:8]
    text = [*lines[:4], *[""] * blank, *lines[4:], "-----END RSA PRIVATE KEY-----"]
    masked = stars.mask_any("\n".join(text).encode()).data.decode().splitlines()
    assert masked[:4] == (["*" * 64] * 4 if blank < 8 else lines[:4])
    assert masked[4 + blank :] == [*["*" * 64] * 4, text[-1]]
