"""Values behind any sign beside a name, names in other languages, pairs of Lisp, and commands that store secrets."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor
from sessiond.redact.prefilter import PASSWORD_WORDS, may_hold_secret
from support.masking import VALUES, check, check_form, check_untouched, nest

SHORT_NAMES = ("pw", "PW", "Pw", "db_pw", "DB_PW", "userPw", "userPass")
ASSIGNED = ("{n}: {v}", "{n}={v}", "{n} = {v}", '{n} = "{v}"', '{{"{n}": "{v}"}}', "{n}: '{v}'")
WORDS = (
    *PASSWORD_WORDS,
    "Contraseña",
    "CONTRASEÑA",
    "mot de passe",
    "Passwort",
    "Kennwort",
    "senha",
    "Пароль",
    "ПАРОЛЬ",
)
"""The words of words.py and those that the rules for English names have."""
ASIDE = {
    "dash": "Password - {v}",
    "dash, other name": "API key - {v}",
    "two dashes": "secret -- {v}",
    "en dash": "Password \u2013 {v}",
    "em dash": "token \u2014 {v}",
    "arrow": "Password \u2192 {v}",
    "arrow in ASCII": "password -> {v}",
    "fat arrow": "password => {v}",
    "Markdown": "- **Password** - `{v}`",
    "bullet": "* passphrase \u2013 {v}",
    "end of a sentence": "Password - {v}. It works",
    "row": "password | {v}",
    "row with padding": "  api_key      | {v}",
    "row of three": "db | password | {v}",
    "psql": "-[ RECORD 1 ]----\nname     | ada\npassword | {v}",
    "row of a box": "\u2502 password \u2502 {v}",
    "tab": "password\t{v}",
    "columns": "password          {v}",
    "prompt": "Enter your API key: {v}",
    "prompt, other sign": "API token> {v}",
    "question": "? What is the access token? {v}",
    "other language": "пароль - {v}",
    "row, other language": "mdp | {v}",
    "element, other language": "<пароль>{v}</пароль>",
}
LISP = {
    "pair": '(password . "{v}")',
    "pair, other name": '(api-key . "{v}")',
    "pair of strings": '\'(("password" . "{v}"))',
    "property": ':password "{v}"',
    "property, other name": '{{:user "ada" :api-key "{v}" :x 1}}',
    "prefix": ':db-secret "{v}"',
    "variable": '(defvar my-token "{v}")',
    "Clojure": '(def api-key "{v}")',
    "cons": '(cons "password" "{v}")',
    "setf": '(setf (getf x :password) "{v}")',
}
COMMANDS = {
    "az": "az keyvault secret set --vault-name kv --name x --value {v}",
    "az, quotes": "az keyvault secret set --vault-name kv --name x --value '{v}'",
    "az, first": "az keyvault secret set --value={v} --name x",
    "az, list": '["az", "keyvault", "secret", "set", "--name", "x", "--value", "{v}"]',
    "az, continued": "az keyvault secret set \\\n  --vault-name kv \\\n  --name x \\\n  --value {v}",
    "az, app": "az containerapp secret set -n a -g r --secrets db={v}",
    "az, setting": "az appconfig kv set --key Db --value {v}",
    "SSM": "aws ssm put-parameter --name /db/x --type SecureString --value {v}",
    "gcloud": "echo -n {v} | gcloud secrets create x --data-file=-",
    "gcloud, printf": "printf '%s' '{v}' | gcloud secrets versions add x --data-file=-",
    "gcloud, here": "gcloud secrets create x --data-file=- <<< '{v}'",
    "kubectl": "kubectl create secret generic x --from-literal=db={v}",
    "kubectl, two": "kubectl create secret generic x --from-literal=a=b --from-literal='db={v}'",
    "vercel": "echo {v} | vercel env add DB production",
    "vercel, here": "vercel env add DB production <<< {v}",
    "vercel, option": "vercel env add DB production --value {v}",
    "heroku": "heroku config:set STRIPE={v} -a x",
    "fly": 'fly secrets set A=b DB="{v}"',
    "wrangler": "echo '{v}' | npx wrangler secret put DB --env prod",
    "supabase": "supabase secrets set DB={v}",
    "netlify": "netlify env:set DB {v} --secret",
    "railway": 'railway variables --set "DB={v}"',
    "doppler": "doppler secrets set DB {v}",
    "pulumi": "pulumi config set --secret db {v}",
    "pulumi, option last": "pulumi config set db {v} --secret",
    "gh": "echo {v} | gh secret set DB",
    "glab": "glab variable set DB {v} --masked",
    "vault": "vault kv put secret/x value={v}",
    "consul": "consul kv put db/x {v}",
    "chamber": "chamber write svc db {v}",
    "eas": "eas secret:create --scope project --name DB --value {v}",
    "docker": "printf {v} | docker secret create db -",
    "ansible": "ansible-vault encrypt_string '{v}' --name db",
}
OTHERS = {
    "netrc, password first": "machine example.com password {v} login me",
    "print_r": "[password] => {v}",
    "Erlang": '{{password, "{v}"}}',
    "namespace of XML": "<ns:password>{v}</ns:password>",
    "plink": "plink -ssh ada@h -pw {v}",
    "keychain": "security unlock-keychain -p {v} login.keychain",
    "schtasks": "schtasks /create /tn x /ru ada /rp {v}",
    "gpg": "echo {v} | gpg --batch --passphrase-fd 0 -d x",
    "git prompt": "Password for 'https://ada@example.com': {v}",
    "LDAP": "bindpw {v}",
    "masked in a workflow": "::add-mask::{v}",
}
FORMS = {**ASIDE, **LISP, **COMMANDS, **OTHERS}


@pytest.mark.parametrize("name", [*SHORT_NAMES, *WORDS])
def test_a_value_is_masked_by_any_name(name: str, stars: Redactor, plain: Redactor) -> None:
    """The name may be two letters, or a word in another script; each letter of it may be an escape of JSON."""
    for form in ASSIGNED:
        for value in VALUES:
            text, expected = (f"see\n{form.format(n=name, v=some)}\nend\n" for some in (value, "*" * len(value)))
            check(stars, text, expected)
            assert may_hold_secret(text)
        assert plain.mask(nest(text, 1)) == stars.mask(nest(text, 1))


@pytest.mark.parametrize("name", FORMS)
def test_a_value_is_masked_in_any_context(name: str, stars: Redactor, plain: Redactor) -> None:
    """Line numbers, signs of a diff, quotes and colours change nothing."""
    check_form(FORMS[name], stars, plain)


@pytest.mark.parametrize("value", ["xK9mQ2vL8pR4tY7w", "Tr0ub4dor&3xQ"])
def test_each_secret_of_a_command_is_masked(value: str, stars: Redactor) -> None:
    """A command may store several; the names and the options of the command stay readable."""
    hidden = "*" * len(value)
    for form in (
        "fly secrets set A={} B='{}' -a x2",
        "kubectl create secret generic x --from-literal=a={} --from-literal=b={}",
    ):
        check(stars, f"see\n{form.format(value, value)}\nend", f"see\n{form.format(hidden, hidden)}\nend")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("type_first", [True, False])
def test_all_private_parts_of_a_web_key_are_masked(type_first: bool, indent: int | None, stars: Redactor) -> None:
    """The primes of an RSA key show its exponent. The type may be behind them, as where the names are sorted."""
    private, public = ("d", "p", "q", "dp", "dq", "qi"), ("n", "x5t")
    value = "xK9mQ2vL8pR4tY7w" * 3
    names = ["kty", *private, *public] if type_first else [*private, *public, "kty"]
    key = {name: "RSA" if name == "kty" else value for name in names}
    masked = {**key, **dict.fromkeys(private, "*" * len(value))}
    check(stars, f"see\n{json.dumps(key, indent=indent)}\nend", f"see\n{json.dumps(masked, indent=indent)}\nend")


UNTOUCHED = [
    "the pw is required",
    "pw: string",
    "pw = playwright.chromium",
    'const pw = require("playwright")',
    "pw=$PW",
    '"pw": "playwright"',
    "pw: 1234",
    "bypass: disabled2",
    "password - see below",
    "Password - see page 42",
    "- password - the password of the user2",
    "password | required",
    "| Password | Description |",
    "password | varchar2(64) | not null",
    "API key: required2",
    "the secret key: see RFC7517",
    "Is this the token? v2.1b3 knows",
    " password | token | secret \n----------+-------+--------",
    "Token - 550e8400-e29b-41d4-a716-446655440000",
    "token   2026-01-02T03:04:05Z",
    "secret - sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "passwords -> hashes -> table_users2",
    "password \u2013 mindestens 12 Zeichen",
    "json-web-token          9.0.2",
    "tiktoken  0.7.0",
    "default-token-x2   kubernetes.io/service-account-token   3   10d",
    "token        IDENTIFIER2",
    "access token  v1.2.3-rc1",
    "--password - read it from stdin2",
    '(password . "required")',
    ':token "string"',
    '(unexpected token "a1b2c3d4")',
    '{:key "f1-value" :x 2}',
    "--value <value>   The value of the secret",
    "az keyvault secret set --name x2 --value <your-secret>",
    "az keyvault secret set --vault-name kv-2024 --name db-3 --file x9.txt",
    "gcloud secrets create db2 --data-file=key-2.json",
    "kubectl create secret generic x2 --from-file=key1.pem",
    "kubectl create secret tls web --cert=tls1.crt --key=tls2.key",
    "fly secrets set DB=$DB",
    "fly secrets set NAME=VALUE",
    "gh secret set NAME2 < file",
    "echo $DB | vercel env add DB production",
    "vercel env add DB2 production",
    "heroku config:set NODE_ENV=production NODE_VERSION=18.1.0",
    "heroku config:set ADMIN=ada99@example.com",
    "heroku config:set URL=https://a1b2c3.example.com/x9",
    "netlify env:set SITE_ID 550e8400-e29b-41d4-a716-446655440000",
    "gcloud config set project demo-4x2z8",
    "git config set user.email ada99b7@example.com",
    "docker secret create db2 ./x9.txt",
    "option: --value N sets the number2",
    '"password": "Contrase\u00f1a"',
    '"password": "\u043f\u0430\u0440\u043e\u043b\u044c"',
    '"contrase\u00f1a": "Passwort"',
    "password=Kennwort",
    "\u043f\u0430\u0440\u043e\u043b\u044c: \u043e\u0431\u044f\u0437\u0430\u0442\u0435\u043b\u0435\u043d",
    "\u043f\u0430\u0440\u043e\u043b\u044c > 8 \u0441\u0438\u043c\u0432\u043e\u043b\u043e\u0432",
    "\u5bc6\u7801\uff1a\u5fc5\u586b",
    '"\u5bc6\u7801": "Password"',
    "\u30d1\u30b9\u30ef\u30fc\u30c9: \u5fc5\u9808",
    "has\u0142o: wymagane",
    'la parola: "ciao"',
    "mot de passe : requis",
    '"password": "\u30d1\u30b9\u30ef\u30fc\u30c9"',
    "password=Mot\\u00a0de\\u00a0passe",
]


def test_a_look_alike_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Examples are prose, headings, types, ids, versions, documentation of options, references and translations."""
    check_untouched(UNTOUCHED, stars, plain)
