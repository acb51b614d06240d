"""Secrets that resemble ordinary text of programs and their logs."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor

SECRETS = [
    "PASS: {v}\n",
    "env:\n  PASS: {v}\n  USER: ada\n",
    "XPASS: 1\nDB_PASS: {v}\n",
    "PASS=a\nPASS={v}\n",
    "password:\n{v}\n",
    "DB_PASSWORD=a={v}",
    "machine api.example.com password {v} login ada",
    "default login ada password {v}",
    "//registry.example.com/:_auth={v}",
    "kind: Secret\nstringData:\n  url: /{v}+{v}=\n",
    "set -gx GH_PAT {v}",
    'Config {{ user: "ada", password: Some("{v}") }}',
    'Password:(string) (len=12) "{v}"',
    '["password"]=> string(12) "{v}"',
    "ada:{v}@tcp(127.0.0.1:3306)/db",
    "|  SecretAccessKey |  {v}  |",
    "az storage blob list --account-key {v}",
    "helm registry login -u ada -p {v} registry.example.com",
]
VALUE = "xK9mQ2vL8pRt"


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_like_them_is_masked(text: str, stars: Redactor) -> None:
    """What makes a text a look-alike leaves no secret readable, at any depth of JSON or behind line numbers."""
    whole = text.format(v=VALUE)
    numbered = "".join(f"{number:6}\t{line}\n" for number, line in enumerate(whole.splitlines(), 7))
    for form in (whole, json.dumps({"a": whole}), json.dumps({"a": json.dumps({"b": whole})}), numbered):
        assert VALUE.encode() not in stars.mask(form.encode()).data, form
