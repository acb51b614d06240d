"""Commands, protocols, quotes, encodings and pairs in which a value is secret: it is masked whole, and nothing else."""

from __future__ import annotations

import json
import re

import pytest

from sessiond.redact import Redactor
from sessiond.redact.encoded import ENCODED_TRIGGER, without_encoding
from sessiond.redact.examples import expand
from sessiond.redact.prefilter import may_hold_secret
from support.masking import check_untouched, nest

COMMANDS = {
    "redis.conf": "requirepass {v}",
    "replica": "masterauth {v}",
    "sentinel": "sentinel auth-pass mymaster {v}",
    "CONFIG SET": "CONFIG SET requirepass {v}",
    "redis-server": "redis-server --requirepass {v} --port 6380",
    "redis prompt": "127.0.0.1:6379> AUTH {v}",
    "redis prompt, lower case": "127.0.0.1:6379> auth default {v}",
    "AUTH with a user": "AUTH default {v}",
    "AUTH": "AUTH {v}",
    "FTP": "USER ada\nPASS {v}",
    "FTP with answers": "331 Please specify the password.\nPASS {v}",
    "IMAP": "a1 LOGIN ada {v}",
    "lftp": "lftp -u ada,{v} sftp://example.com",
    "openssl -k": "openssl enc -aes-256-cbc -in a -out b -k {v}",
    "openssl -pass": "openssl enc -aes-256-cbc -pass pass:{v} -in a",
    "openssl -passin": "openssl rsa -passin pass:{v} -in a",
    "net use": "net use Z: //h/s /user:ada {v}",
    "Expect": 'expect "password:"\nsend "{v}\\r"\n',
    "Expect in braces": 'expect {{\n  "*assword: " {{ send -- "{v}\\r" }}\n}}',
    "pexpect": "child.expect('assword:')\nchild.sendline('{v}')",
    "sqlcmd": "sqlcmd -S h -U sa -P {v} -Q x",
    "rabbitmqctl": "rabbitmqctl add_user ada {v}",
    "wpa_supplicant": 'psk="{v}"',
    "snmpwalk": "snmpwalk -v3 -u ada -A {v} h",
    "sqlplus": "sqlplus ada/{v}@db",
    "chpasswd": 'echo "ada:{v}" | chpasswd',
    "chpasswd with a string": 'chpasswd <<< "ada:{v}"',
    "ssh-keygen": 'ssh-keygen -t ed25519 -N "{v}" -f id',
    "useradd": "useradd -m -p {v} ada",
    "net user": "net user ada {v} /add",
    "twine": "twine upload -u __token__ -p {v} dist/*",
    "xfreerdp": "xfreerdp /u:ada /p:{v} /v:h",
    "nmcli": "nmcli dev wifi connect home password {v}",
    "poetry": "poetry config http-basic.example ada {v}",
    "Secrets Manager": "aws secretsmanager create-secret --name x --secret-string {v}",
    "user-secrets": 'dotnet user-secrets set "Db:Password" "{v}"',
    "SETX": "SETX API_KEY {v} /M",
    "cookie jar": "example.com\tTRUE\t/\tFALSE\t1735689600\tsid\t{v}",
}
QUOTED = {
    "Lua": "password = [[{v}]]",
    "Lua, level 1": "password = [=[{v}]=]",
    "JSX": '<Login password={{"{v}"}} />',
    "JSX, single quotes": "<Login password={{'{v}'}} />",
    "C++": 'std::string password = R"({v})";',
    "Rust": 'let password = r#"{v}"#;',
    "Perl": "$password = q({v});",
    "Ruby": "password = %q({v})",
    "Python, three quotes": 'password = """{v}"""',
    "Python, f": "token = f'{v}'",
    "SQL, N": "CREATE LOGIN ada WITH PASSWORD = N'{v}'",
    "C": '#define WIFI_PASSWORD   "{v}"',
    "default": 'key = process.env.API_KEY || "{v}";',
    "default of a call": 'getenv("API_KEY") ?: "{v}"',
    "default in Python": "os.environ.get('API_TOKEN') or '{v}'",
    "arrow": 'password -> "{v}"',
    "CDATA": '<password type="text"><![CDATA[{v}]]></password>',
    "input": '<input type="password" name="p" value="{v}">',
    "meta": '<meta name="csrf-token" content="{v}">',
    "requests": "requests.get(url, auth=('ada', '{v}'))",
    "smtplib": 'server.login("ada@example.com", "{v}")',
    "basic auth in Rust": '.basic_auth("ada", Some("{v}"))',
    "curly quotes": "password: \u201c{v}\u201d",
    "dataclass": "User(name=ada, password={v})",
}
SEPARATED = {
    "block scalar": "password: |\n  {v}\n",
    "block scalar, sign on its own line": "password:\n  |\n  {v}\n",
    "block scalar, indentation": "password: |2-\n  {v}\n",
    "block scalar, far in": "password: >\n            {v}\n",
    "YAML tag": "password: !!str {v}",
    "YAML anchor": "password: &db {v}",
    "arrow before a colon": "password\u2192: {v}",
    "arrow between spaces": "password \u21d2 = {v}",
    "dingbat": "password \u279c: {v}",
    "no-break space": "password\u00a0: {v}",
    "wide colon": "password\uff1a{v}",
    "wide equals sign": "password\uff1d{v}",
    "table": "\u2502 password \u2502 {v} \u2502",
    "thick table": "\u2503 API key \u2503 {v} \u2503",
    "Rails": "secret_key_base: {v}",
    "German": "Passwort: {v}",
    "Spanish": "contrase\u00f1a: {v}",
    "French": "mot de passe : {v}",
}
PAIRS = {
    "HAR": '{{"name":"sessionid","value":"{v}"}}',
    "HAR, spaces": '{{"name": "sessionid", "value": "{v}"}}',
    "browser": '{{"name": "x2", "value": "{v}", "path": "/", "domain": "example.com"}}',
    "exported": '{{"domain": "example.com", "httpOnly": true, "name": "x2", "value": "{v}"}}',
    "Cookie header": '{{"name": "Cookie", "value": "sid={v}"}}',
    "Kubernetes": '{{"name": "DB_PASSWORD", "value": "{v}"}}',
    "Kubernetes, YAML": "- name: DB_PASSWORD\n  value: {v}\n",
    "value first": '{{"value":"{v}","name":"DB_PASSWORD"}}',
    "value first, spaces": '{{"value": "{v}", "name": "DB_PASSWORD"}}',
    "value first, YAML": "- value: {v}\n  name: DB_PASSWORD\n",
    "property list": "<key>API_TOKEN</key>\n    <string>{v}</string>",
    "HTML": "<tr><td>password</td><td>{v}</td></tr>",
}
PROSE = {
    "is": "the password is {v}",
    "is with a colon": "The password is: {v}",
    "end of a sentence": "The password is {v}. It works.",
    "with": "log in as ada with password {v}, then wait",
    "token": "my token is {v}",
    "key": "the API key is {v}",
    "changed": "the password was changed to {v}",
}
ENCODED = {
    "entity": "&lt;password&gt;{v}&lt;/password&gt;",
    "entity twice": "&amp;lt;password&amp;gt;{v}&amp;lt;/password&amp;gt;",
    "numeric entity": "&#60;password&#x3e;{v}&#60;/password&#62;",
    "attribute": "&lt;add key=&quot;DbPassword&quot; value=&quot;{v}&quot;/&gt;",
    "JSON in HTML": "{{&quot;password&quot;: &quot;{v}&quot;}}",
    "URL": "https%3A%2F%2Fada%3A{v}%40example.com",
    "URL twice": "next=https%253A%252F%252Fada%253A{v}%2540example.com",
    "URL of a database": "url=postgres%3A%2F%2Fada%3A{v}%40h%2Fdb",
    "escaped letter": '"p\\u0061ssword": "{v}"',
}
CONTINUED = {
    "mysql": "mysql -u root \\\n  -p{v} db",
    "curl": "curl -s \\\n    -u admin:{v} \\\n    https://example.com",
    "option": "app --verbose \\\n  --password \\\n  {v} --port 80",
}
SYNTAXES = {**COMMANDS, **QUOTED, **SEPARATED, **PAIRS, **PROSE, **ENCODED, **CONTINUED}
VALUES = ("xK9mQ2vL8pR4tY7w", "k8Jd-2mQ_z9Lp4.x")


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_value_is_masked_in_its_syntax(name: str, stars: Redactor, plain: Redactor) -> None:
    """The whole value is masked and nothing else, at each depth of JSON, by both scanners alike."""
    for value in VALUES:
        text, expected = (f"see\n{SYNTAXES[name].format(v=some)}\nend\n" for some in (value, "*" * len(value)))
        for depth in (0, 1, 2):
            masked = stars.mask(nest(text, depth))
            assert masked.data == nest(expected, depth)
            assert stars.mask(masked.data).data == masked.data
        assert plain.mask(nest(text, 1)) == stars.mask(nest(text, 1))
        assert may_hold_secret(text)


def test_a_share_of_windows_may_have_its_password_before_the_user(stars: Redactor) -> None:
    """In JSON the backslashes of a share are doubled, so a password is no part of the share's name."""
    for value in VALUES:
        text = f"see\nnet use \\\\h\\s {value} /user:ada\nend"
        for depth in (0, 1, 2):
            assert stars.mask(nest(text, depth)).data == nest(text.replace(value, "*" * len(value)), depth)


PARENTHESES = ["(xK9mQ2vL8pR4tY7w", "(xK9mQ2vL8pR4tY7w)", "((k8Jd2mQ9z", "xK9m(Q2vL8pR4tY7w"]


@pytest.mark.parametrize("value", PARENTHESES)
def test_a_value_may_have_parentheses(value: str, stars: Redactor, plain: Redactor) -> None:
    """They are part of a value that mixes letters and digits as no name of a program does."""
    for syntax in ("password: {}", "DB_PASSWORD={}", "  token = {}", "password\u2192: {}", "password: |\n  {}"):
        text, expected = (f"see\n{syntax.format(some)}\nend\n" for some in (value, "*" * len(value)))
        for depth in (0, 1, 2):
            assert stars.mask(nest(text, depth)).data == nest(expected, depth)
        assert plain.mask(nest(text, 1)) == stars.mask(nest(text, 1))


JOINED = [
    "ghp_<A36>",
    "AKIA<S16>",
    "sk-ant-api03-<W93>AA",
    "glpat-<A20>",
    "eyJ<A33>.eyJ<A80>.<A43>",
    "xoxb-<D12>-<A24>",
]


@pytest.mark.parametrize("template", JOINED)
def test_a_token_may_be_joined_to_other_words(template: str, stars: Redactor) -> None:
    """A file or variable may be named after a token; a letter or a digit before it makes it something else."""
    for seed in range(5):
        token = expand(template, seed)
        for around in ("backup_{}", "my_key_{}.json", "x={}"):
            for depth in (0, 1, 2):
                masked = stars.mask(nest(f"see\n{around.format(token)}\nend", depth))
                assert masked.data == nest(f"see\n{around.format('*' * len(token))}\nend", depth)
    for before in "x", "9":
        data = nest("see\n" + before + expand("AKIA<S16>", 1), 1)
        assert stars.mask(data).data is data


def test_a_token_may_end_before_another_word(stars: Redactor) -> None:
    token = expand("AKIA<S16>", 1)
    assert stars.mask(f"see {token}_old".encode()).data == b"see " + b"*" * 20 + b"_old"


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_value_of_encoded_letters_is_masked(depth: int, stars: Redactor, hashes: Redactor) -> None:
    """Each letter of the name and of the value may be an escape. A star replaces it, as an escape too."""
    name, value = ("".join(f"\\u{ord(letter):04x}" for letter in word) for word in ("password", "xK9mQ2vL8"))
    data = f'{{"{name}": "{value}"}}'
    assert json.loads(stars.mask(data.encode()).data) == {"password": "*********"}
    masked = stars.mask(nest(data, depth)).data
    assert masked == nest(data.replace(value, "\\u002a" * 9), depth)
    assert stars.mask(masked).data == masked
    hashed = hashes.mask(nest(data, depth)).data
    assert b"\\u0078" not in hashed and len(hashed) == len(masked)


def test_encoded_characters_within_a_value_are_masked_with_it(stars: Redactor) -> None:
    """Otherwise they would show where the value has signs, and what they are."""
    for text in (
        "&lt;password&gt;xK9m&amp;Q2v&#36;L8pR&lt;/password&gt;",
        "https%3A%2F%2Fada%3AxK9m%24Q2vL8pR%40example.com",
    ):
        masked = stars.mask(text.encode()).data
        assert masked.count(b"*") == len(re.search("xK9m.*L8pR", text)[0])  # type: ignore[index]
        assert re.sub(rb"\*+", b"", masked).decode() == re.sub("xK9m.*L8pR", "", text)


def test_encoded_text_is_decoded_once(stars: Redactor) -> None:
    """Each part of the data is in at most two views, however many names are in it."""
    data = b'{"c": "' + b"&lt;token&gt;x&lt;/token&gt; " * 2000 + b'"}\n{"c": "x"}'
    marks = [found.end() for found in re.finditer(ENCODED_TRIGGER.encode(), data)]
    spent: list[int] = []
    views = list(without_encoding(data, marks, spent.append))
    assert len(marks) == 4000
    assert sum(len(view.text) for view in views) <= len(data)
    assert sum(spent) < len(data) // 8
    assert all(view.origins[-1] < data.index(b"\n{") for view in views)
    rare = b'{"c": "' + b"&lt;token&gt;x&lt;/token&gt; " * 200 + b'"}\n'
    assert stars.mask(rare).data is rare


UNTOUCHED = [
    "requirepass is not set",
    "requirepass $REDIS_PASS",
    "PASS src/a1b2.test.js (5.2 s)",
    "PASS tests/unit/test_9z.py",
    "AUTH PLAIN LOGIN\n250 AUTH LOGIN",
    "AUTH OAuth2.0",
    "> AUTH <password>",
    "the AUTH k8s2 header",
    "lftp -u ada sftp://example.com",
    "openssl x509 -in cert2.pem -noout",
    "openssl req -newkey rsa:2048 -keyout key2.pem",
    "net use Z: \\\\server1\\share2",
    'expect "password:"\nsend "$password\\r"',
    "'password': state.x, res.send('required')",
    "&lt;password&gt;${{db.password}}&lt;/password&gt;",
    "&lt;token&gt; &quot;string&quot;",
    "key &amp; value&gt;, token &amp;&amp; secret1",
    "https%3A%2F%2Fexample.com%3A8443%2F%40scope%2Fpkg1",
    "local password = [[the password of the user]]",
    '<Input password={{"password"}} token={{token1}} />',
    'tokens = {{"claude-3-opus-20240229": 5}}',
    '"credentials": {{"access-key-id1": "x"}}',
    '{{"name":"session_id","value":"550e8400-e29b-41d4-a716-446655440000"}}',
    '{{"name":"theme","value":"dark-2024"}}',
    '{{"name":"author","value":"Ada.Lovelace2"}}',
    '{{"value": "a1b2c3d4", "name": "colour"}}',
    '{{"value": "string", "name": "token"}}',
    '{{"name": "DB_PASSWORD", "value": ""}}',
    "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef: x1\n",
    "<td>input_tokens</td><td>1234567</td>",
    '<label for="password">Password2:</label>',
    "the password is stored in /etc/app2/conf3",
    "the password is SHA256-hashed",
    "the password is base64-encoded with a 16-byte salt",
    "the token is valid until 2026-01-02T03:04:05Z",
    "the token is x86_64-linux, and the secret is v1.2.3-rc1",
    "the secret is 550e8400-e29b-41d4-a716-446655440000",
    "with password authentication2 and token 12 of 4096",
    "use password_hash2, the password Argon2id",
    "the token is parse_token2(x)",
    "git log \\\n  -p1 \\\n  --token-file x9",
    "cache_key-value1, sort_key_asc, my_re_pattern_2",
    "_SKIP_THIS_TEST_0123, x_live_reload_2024",
    "password: (v1: string, v2: number) => void",
    "token = (uint8_t*)p2x3",
    "token = (int32_t)x1Y2z3",
    "password=(getV2Tok3n(x1))",
    "token = parseV2Tok3n(x1)",
    "token = parseV2Tok3n(x1,\n  y2)",
    "secret: (string|null)",
    "f(token=token_2, password=hash1)",
    "password: !Ref DbPassword2",
    "password: !GetAtt Db.Password2",
    "password: |\n  of the user2\n",
    'const password = options.password || "password"',
    "'token' ?? 'string'",
    '#define TOKEN_NAME "token"',
    "#define TOKEN_MASK 0x1f2e3d4c",
    '<meta name="token" content="string">',
    '<input type="password" name="password" value="">',
    "auth=('user', 'password')",
    'client.login("ada", "password")',
    'echo "ada:$PASSWORD" | chpasswd',
    "net user ada2 /delete",
    "ssh-keygen -t ed25519 -N '' -f id2",
    "useradd -m -s /bin/bash2 ada",
    "nmcli dev wifi list",
    "password \u2192 hash \u2192 the table users2",
    "token\uff1astring",
    "\u2502 token \u2502 string \u2502",
    "\u2502 tokens \u2502 12,345 \u2502 0.4 \u2502",
    "x\\u00e9 \\u003ca\\u003e token \\u0026 x",
]


def test_a_look_alike_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Examples are test results, capabilities, ports, placeholders, words, versions and ids."""
    check_untouched((text.replace("{{", "{").replace("}}", "}") for text in UNTOUCHED), stars, plain)
