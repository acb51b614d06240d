"""Ordinary text of programs and their logs that resembles a secret, and the secrets that resemble it."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor
from sessiond.redact.policy import DENSE
from sessiond.redact.values import is_result, repeats_name
from support.masking import check_untouched

UNTOUCHED = {
    "results of tests": (
        "PASS: addr2line\nPASS: gdb.base/reread.exp: run\n=== x ===\nPASS: test-foo2.sh\nFAIL: test3\n"
    ),
    "results of Go": ("=== RUN   TestParse2\n--- PASS: TestParse2 (0.00s)\n    --- PASS: TestParse2/in_8bit (0.00s)\n"),
    "an empty setting": ("DB_PASSWORD=\nDB_HOST=localhost1\npassword=\nhost_key2=foo1\n"),
    "an empty setting in a diff": ("+DB_PASSWORD=\n+DB_HOST=localhost1\n"),
    "an empty setting in YAML": ("AZURE_SECRET:\nAZURE_SUBSCRIPTION_ID:\n"),
    "a grammar": ("a\n  : b2c3d4e5\n  | PASSWORD\n  | x9y8z7w6\n  | OTHER_9a8b7c\n  ;\n"),
    "text below a table": (
        "| mode | what replaces a secret |\n|---|---|\n| mask | stars |\n\n    [redaction]\n    a1b2c3d4e5\n"
    ),
    "a name as a value": ("AREA_PASSWORD: 'area-password';\n_password = password;\nDHPrivateKey = DHPrivateKey\n"),
    "names of fields": ("ACCESS_KEY = 'aws_access_key_id'\nSECRET_KEY = S3_SECRET_KEY\n"),
    "calls and members": (
        "API_SECRET=response['clientSecret'],\nTOKEN = expand(\"x\")\nself._auth = self._build_auth(a)\n"
    ),
    "scopes and types": ("strlen_pass::handle_assign\nprivate_key: PKCS7PrivateKeyTypes,\ntoken  *oauth2.Token\n"),
    "names of resources": (
        "arn:aws:secretsmanager:*:*:secret:a1/x2y3\narn:aws:iam:eu-west-1:123456789012:secret:Db-a1b2c3\n"
    ),
    "sentences": (
        "Use --user and --password respectively. The default password manager. Send USER and PASS commands.\n"
    ),
    "options": (
        '("--become-password-file", "--become-pass-file"), <h4 id="s3-secret-access-key">--s3-secret-access-key</h4>\n'
    ),
    "templates": (
        'aws_secret_key: @SECRET_KEY\nclient_secret: GOCSPX-your-client-secret\n"PASSWORD": "[new_password]"\n'
    ),
    "a version": ("'Test2::Event::Pass' => '1.302138'\n"),
    "files of a Kubernetes secret": (
        "kind: Secret\nstringData:\n  a:\n    key_path: /secrets/cas1.private.key\n    certFile:\n"
    ),
}
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


@pytest.mark.parametrize("name", UNTOUCHED)
def test_a_look_alike_is_left_alone(name: str, stars: Redactor, plain: Redactor) -> None:
    """Each was found masked in sources, manuals, logs or configurations of public programs."""
    check_untouched(UNTOUCHED[name], stars, plain)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_like_them_is_masked(text: str, stars: Redactor) -> None:
    """What makes a text a look-alike leaves no secret readable, at any depth of JSON or behind line numbers."""
    whole = text.format(v=VALUE)
    numbered = "".join(f"{number:6}\t{line}\n" for number, line in enumerate(whole.splitlines(), 7))
    for form in (whole, json.dumps({"a": whole}), json.dumps({"a": json.dumps({"b": whole})}), numbered):
        assert VALUE.encode() not in stars.mask(form.encode()).data, form


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"PASS: gdb.base/step-{n}.exp: continue to line {n * 7}\n" for n in range(3000)),
        "".join(f'<a href="#--option-{n}">--option-{n}</a>\n' for n in range(2000)),
        "".join(f'"Describe{n}": {{"input_token": "NextToken"}},\n' for n in range(550)),
    ],
    ids=["results of tests", "options in HTML", "names of tokens"],
)
def test_many_look_alikes_exceed_no_budget(text: str, stars: Redactor) -> None:
    """A log of tests was masked as a whole, as each line of it was examined by three rules."""
    record = json.dumps({"content": text}).encode()
    assert DENSE not in {finding.rule for finding in stars.mask(record).findings}


def test_a_result_is_recognised_by_its_neighbours() -> None:
    """A lone line may be a password, and so may a value with signs or between names of variables."""
    for data, result in (
        (b"PASS: a1\nPASS: step2", True),
        (b"x\nPASS: step2", False),
        (b"PASS: a1\nPASS: step2#", False),
        (b"PASS: a1\nDB_PASS: step2", False),
        (b"--- PASS: step2", True),
    ):
        assert is_result(data, len(data) - data[::-1].index(b" ")) is result, data


def test_a_value_repeats_a_name_only_as_a_whole() -> None:
    """A value that is not the name, or no name at all, may be a secret."""
    assert repeats_name(b"area-password", b"x\nAREA_PASSWORD: '")
    assert not repeats_name(b"other-password", b"x\nAREA_PASSWORD: '")
    assert not repeats_name(b"password1", b"password1: ")
    assert not repeats_name(b"hunter", b"hunter: ")
