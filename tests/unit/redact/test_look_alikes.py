"""Ordinary text of programs and their logs that resembles a secret, and the secrets that resemble it."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor
from sessiond.redact.values import is_result, repeats_name
from support.masking import check_untouched

UNTOUCHED = {
    "results of tests": (
        "PASS: gdb.base/reread.exp: run\n=== x ===\nPASS: test-foo2.sh\nFAIL: test3\nPASS: addr2line\n"
    ),
    "results of Go": ("=== RUN   TestParse2\n--- PASS: TestParse2 (0.00s)\n    --- PASS: TestParse2/in_8bit (0.00s)\n"),
    "an empty setting": ("DB_PASSWORD=\nDB_HOST=localhost1\npassword=\nhost_key2=foo1\n"),
    "an empty setting in a diff": ("+DB_PASSWORD=\n+DB_HOST=localhost1\n"),
    "an empty setting in YAML": ("AZURE_SECRET:\nAZURE_SUBSCRIPTION_ID:\n"),
    "a grammar": ("a\n  : b2c3d4e5\n  | PASSWORD\n  | x9y8z7w6\n  | OTHER_9a8b7c\n  ;\n"),
    "text below a table": (
        "| mode | what replaces a secret |\n|---|---|\n| mask | stars |\n\n    [redaction]\n    a1b2c3d4e5\n"
    ),
    "a name as a value": ("_password = password;\nDHPrivateKey = DHPrivateKey\n"),
    "names of fields": ("ACCESS_KEY = 'aws_access_key_id'\nSECRET_KEY = S3_SECRET_KEY\n"),
    "calls and members": (
        "API_SECRET=response['clientSecret'],\nTOKEN = expand(\"x\")\nself._auth = self._build_auth(a)\n"
    ),
    "scopes and types": ("private_key: PKCS7PrivateKeyTypes,\ntoken  *oauth2.Token\n"),
    "names of resources": (
        "arn:aws:secretsmanager:*:*:secret:a1/x2y3\narn:aws:iam:eu-west-1:123456789012:secret:Db-a1b2c3\n"
    ),
    "sentences": ("The default password manager.\n"),
    "options": (
        '("--become-password-file", "--become-pass-file"), <h4 id="s3-secret-access-key">--s3-secret-access-key</h4>\n'
    ),
    "templates": (
        'aws_secret_key: @SECRET_KEY\nclient_secret: GOCSPX-your-client-secret\n"PASSWORD": "[new_password]"\n'
    ),
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
KEPT = [
    ('DB_PASSWORD="correct horse battery"', "correct"),
    ("DB_PASSWORD=correct-horse-battery", "correct-horse-battery"),
    ("API_TOKEN=token-for-the-door", "token-for-the-door"),
    ("MYSQL_PASSWORD=mysql_password", "mysql_password"),
    ("DB_PASSWORD=Hunter(two)x", "Hunter"),
    ("DB_PASSWORD=HUNTER2_BEACH7", "HUNTER2_BEACH7"),
    ("DB_PASSWORD=12-03-1985", "12-03-1985"),
    ('"password": "12.03.1985"', "12.03.1985"),
    ('"password": "correct:horse:battery"', "correct:horse:battery"),
    ('"password": "[correct-horse]"', "correct-horse"),
    ('"password": "(swordfish"', "swordfish"),
    ('"password": "Swordfish:"', "Swordfish"),
    ('"password": "*abc.Horse"', "abc.Horse"),
    ('"password": "--hunter2-horse"', "hunter2-horse"),
    ('"password": "X-Horse-Battery"', "X-Horse-Battery"),
    ("password: correct:horse:battery", "correct:horse:battery"),
    ("password: AB12CorrectHorse", "AB12CorrectHorse"),
    ("password: swordfish.", "swordfish."),
    ("mysql --password swordfish. db", "swordfish."),
    ("password::CorrectHorse7", "CorrectHorse7"),
    ("password=*abc.Horse", "abc.Horse"),
    ("password: X509HorseBattery", "X509HorseBattery"),
    ("DB_PASSWORD=@HUNTER_TWO", "HUNTER_TWO"),
    ("DB_PASSWORD=--my-secret-word", "my-secret-word"),
    ("fly secrets set DB=SUMMER_2024", "SUMMER_2024"),
    ("kubectl create secret generic x --from-literal=db=./9dkS82hF", "9dkS82hF"),
    ("https://a.example.com/?password=correct-horse-battery", "correct-horse-battery"),
    ('self._auth = "dXNlcjpwYXNzd29yZDEy"', "dXNlcjpwYXNzd29yZDEy"),
    ("//registry.example.com/:_authToken=your-secret-horse", "your-secret-horse"),
    ("machine db password swordfish", "swordfish"),
    ("default password swordfish", "swordfish"),
    ("USER: ada\nPASS: hunter22\nUSER: bob\nPASS: hunter33", "hunter22"),
    ("PASS: Summer2024\nPASS: Winter2023\n", "Winter2023"),
    ("ERROR: login of ada failed\nPASS: Summer2024\n", "Summer2024"),
    ("PASS: ab1/cd2ef", "ab1/cd2ef"),
    ("localhost:5432:db:me:$ecretP4ss", "ecretP4ss"),
    ("localhost:5432:db:me:postgres", "me:postgres"),
    ("password:\nxK9=mQ2vL8pRt", "xK9=mQ2vL8pRt"),
    ("password:\nabcd=mQ2vL8pRt", "abcd=mQ2vL8pRt"),
    ("password=\nxK9mQ2vL8pRt", "xK9mQ2vL8pRt"),
    ("token:\n  abcDEF-x9mQ2kk=", "abcDEF-x9mQ2kk="),
    ("kind: Secret\nstringData:\n  a: /horse1/battery.staple", "/horse1/battery.staple"),
    ("| password |\n|---|\n| xK9mQ2vL8pRt |", "xK9mQ2vL8pRt"),
    ("| user | password |\n\n|---|---|\n\n| ada | xK9mQ2vL8pRt |", "xK9mQ2vL8pRt"),
]
VALUE = "xK9mQ2vL8pRt"


def test_a_look_alike_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Each was found masked in sources, manuals, logs or configurations of public programs."""
    check_untouched(UNTOUCHED.values(), stars, plain)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_like_them_is_masked(text: str, stars: Redactor) -> None:
    """What makes a text a look-alike leaves no secret readable, at any depth of JSON or behind line numbers."""
    whole = text.format(v=VALUE)
    numbered = "".join(f"{number:6}\t{line}\n" for number, line in enumerate(whole.splitlines(), 7))
    for form in (whole, json.dumps({"a": whole}), json.dumps({"a": json.dumps({"b": whole})}), numbered):
        assert VALUE.encode() not in stars.mask(form.encode()).data, form


@pytest.mark.parametrize(("text", "value"), KEPT)
def test_what_may_be_a_secret_stays_masked(text: str, value: str, stars: Redactor) -> None:
    """Each differs from a look-alike in a single point: quotes, a name, a sign, or the line before it."""
    for form in (f"see\n{text}\nend\n", json.dumps({"c": f"see\n{text}\nend\n"})):
        assert value.encode() not in stars.mask(form.encode()).data, form


def test_a_log_of_tests_exceeds_no_budget(stars: Redactor) -> None:
    """Two hundred results were confirmed one by one, and then all text of the log was masked."""
    record = json.dumps({"c": "".join(f"PASS: gdb.base/step-{n}.exp: continue to {n * 7}\n" for n in range(300))})
    assert not stars.mask(record.encode()).findings


def test_a_result_is_recognised_by_its_form_or_the_one_before() -> None:
    """A lone line may be a password, and so may one among others of its kind."""
    for data, result in (
        (b"PASS: step2.sh", True),
        (b"PASS: a1\nPASS: step2", False),
        (b"FAIL: a1\nPASS: step2", True),
        (b"FAIL: a1\nPASS: step2#", False),
        (b"FAIL: a1\nPASS: x2y3z4", False),
        (b"x FAIL: a1\nPASS: step2", False),
        (b'{"c":"SKIP: a1\\nPASS: step2', True),
        (b"DB_PASS: step2.sh", False),
        (b"--- PASS: step2", True),
        (b"- PASS: step2", False),
    ):
        assert is_result(data, data.rindex(b" ") + 1) is result, data


def test_a_value_repeats_a_name_only_in_the_same_letters() -> None:
    """Another notation, a part of it, small letters or no name of a secret may be a password."""
    assert repeats_name(b"NextToken", b'x\n"NextToken": "')
    assert repeats_name(b"PrivateKey", b"DHPrivateKey = ")
    assert not repeats_name(b"area-password", b"x\nAREA_PASSWORD: '")
    assert not repeats_name(b"area_password", b"x\narea_password: '")
    assert not repeats_name(b"NextToken", b'"NextTokens": "')
    assert not repeats_name(b"Hunter", b'"Hunter": "')
