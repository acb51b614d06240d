"""Names, syntaxes, quoting and depths of JSON: in each cell the whole value is masked, and nothing else."""

from __future__ import annotations

import base64

import pytest

from sessiond.redact import Redactor
from sessiond.redact.examples import expand
from support.masking import check_untouched, nest

QUOTED = {
    "define": "define('DB_PASSWORD', '{v}');",
    "SQL": "CREATE USER app WITH PASSWORD '{v}';",
    "SQL by": "CREATE USER 'a'@'%' IDENTIFIED BY '{v}';",
    "SQL function": "SET PASSWORD FOR 'a' = PASSWORD('{v}')",
    "curl": "curl -u 'admin:{v}' https://example.com",
    "PowerShell": "$env:API_SECRET='{v}'",
    "YAML": "password: '{v}'",
    "sshpass": "sshpass -p '{v}' ssh root@h",
    "PHP": "$password = '{v}';",
    "PHP array": "'password' => '{v}',",
    "Python argument": "connect(host='x', password='{v}')",
    "JavaScript": "const password = '{v}';",
    "JavaScript property": "password: '{v}',",
    "os.environ": "os.environ['DB_PASSWORD'] = '{v}'",
    "process.env": "process.env.DB_PASSWORD = '{v}'",
    "call": "set_password('{v}')",
    "Perl": "my $password = '{v}';",
}
DOUBLE = {
    "PowerShell": '$env:API_SECRET = "{v}"',
    "Nix": 'password = "{v}";',
    "HCL": '  db_password = "{v}"',
    "Terraform variable": 'variable "db_password" { default = "{v}" }',
    "XML attribute": '<user name="a" password="{v}"/>',
    ".NET": '<add key="DbPassword" value="{v}" />',
    "JSON": '{"password": "{v}"}',
    "export": 'export DB_PASSWORD="{v}"',
    "Python": 'password = "{v}"',
    "Go": 'password := "{v}"',
    "Rust": 'let api_key: &str = "{v}";',
    "Java": 'String password = "{v}";',
    "Java call": 'System.setProperty("db.password", "{v}")',
    "C#": 'var password = @"{v}";',
    "TypeScript": 'const apiKey: string = "{v}";',
    "Ruby": ':password => "{v}"',
    "Lisp": '(setq password "{v}")',
    "Gradle": 'password "{v}"',
}
BARE = {
    "fish": "set -x FOO_SECRET {v}",
    "Dockerfile": "ENV API_TOKEN {v}",
    "Dockerfile with =": "ENV API_TOKEN={v}",
    "build argument": "ARG DB_PASSWORD={v}",
    "aws configure": "AWS Secret Access Key [None]: {v}",
    "docker login": "docker login -u me -p {v} registry.example.com",
    "docker run": "docker run -e DB_PASSWORD={v} x",
    "curl": "curl -u admin:{v} https://example.com",
    "any scheme": "Authorization: Foo {v}",
    "Markdown": "**Password:** {v}",
    "Markdown table": "| Password | {v} |",
    "cmd": "set API_SECRET={v}",
    "setx": "setx API_SECRET {v}",
    "setenv": "setenv DB_PASSWORD {v}",
    "XML": "<dbPassword>{v}</dbPassword>",
    "YAML": "password: {v}",
    "properties": "db.password={v}",
    "ini": "password = {v}",
    "netrc": "machine example.com login me password {v}",
    "mysql": "mysql -u root -p{v} db",
    "sshpass": "sshpass -p {v} ssh root@h",
    "redis-cli": "redis-cli -a {v} ping",
    "kubectl": "kubectl create secret generic x --from-literal=password={v}",
    "gh": "gh auth login --with-token <<< {v}",
    "echo": "echo {v} | docker login --password-stdin",
    "export": "export DB_PASSWORD={v}",
    "header": "X-Api-Key: {v}",
    "prompt": "Enter password: {v}",
    "sudo": "[sudo] password for ada: {v}",
    "option": "--password {v}",
    "option with =": "--password={v}",
    "git config": "git config user.password {v}",
    "heroku": "heroku config:set DB_PASSWORD={v}",
    "htpasswd": "htpasswd -b f user {v}",
    "ansible": "ansible_ssh_pass={v}",
    "openssl": "openssl rsa -passin pass:{v}",
    "zip": "zip -P {v} a.zip b",
    "ldapsearch": "ldapsearch -D cn=a -w {v}",
    "smbclient": "smbclient //h/s -U user%{v}",
    "mongosh": "mongosh -u a -p {v}",
    "before a command": "PGPASSWORD={v} psql",
    "vault": "vault kv put secret/x password={v}",
}
WORDY = {
    "query": "https://e.com/?api_key={v}&x=1",
    "PostgreSQL URL": "psql postgres://u:{v}@h/db",
    "JDBC": "jdbc:mysql://h/db?user=a&password={v}",
    "connection string": "Server=db;User Id=a;Password={v};",
    "pgpass": "db.example.com:5432:app:me:{v}",
}
PLAIN = ("xK9mQ2vL8pR4tY7w", "k8Jd-2mQ_z9Lp4.x")
SIGNS = ("Tr0ub4dor&3x", "p#ssW0rd9x!")
LINES = ("YAML", "properties", "ini", "export", "Dockerfile", "Dockerfile with =", "Markdown", "cmd")
"""Syntaxes of `BARE` in which a value ends with its line, and not at a semicolon."""
CELLS: dict[str, list[tuple[str, str]]] = {}
"""The syntaxes of a name, each with the values that are written so."""
for group, values in (
    (QUOTED, (*PLAIN, *SIGNS, "aB3$dE5fG7hI9", "Zx9,wQ2;eR4tY")),
    (DOUBLE, (*PLAIN, *SIGNS, "Zx9,wQ2;eR4tY")),
    (BARE, (*PLAIN, *SIGNS, "Zx9,wQ2eR4tY")),
    ({name: BARE[name] for name in LINES}, ("Zx9,wQ2;eR4tY",)),
    (WORDY, PLAIN),
):
    for written, syntax in group.items():
        CELLS.setdefault(written, []).extend((syntax, value) for value in values)


@pytest.mark.parametrize("name", CELLS)
def test_the_whole_value_is_masked_and_nothing_else(name: str, stars: Redactor) -> None:
    """The value may contain a character that ends a word in another syntax."""
    wrong = []
    for syntax, value in CELLS[name]:
        text = "see\n" + syntax.replace("{v}", value) + "\nend of it\n"
        for depth in (0, 1, 2):
            masked = stars.mask(nest(text, depth)).data
            again = stars.mask(masked).data
            if not masked == again == nest(text.replace(value, "*" * len(value)), depth):
                wrong.append((value, masked, again))
    assert not wrong, "\n".join(map(repr, wrong))


AROUND = (
    "{}",
    "X_VALUE={}",
    '{{"k": "{}"}}',
    "value: {}",
    "https://h.example.com/?x={}",
    "`{}`",
    "<v>{}</v>",
    "f('{}')",
)


@pytest.mark.parametrize("template", ["STS.N<A24>", "BSA1<A27>", "cnvca<A51>", "EXO3<H25>", "ghp_<A36>", "xai-<A80>"])
def test_a_format_is_found_in_any_syntax(template: str, stars: Redactor) -> None:
    """Formats with a short beginning have stricter boundaries, as they occur by chance in Base64."""
    for seed, around in enumerate(AROUND):
        value = expand(template, seed)
        for depth in (0, 1, 2):
            out = stars.mask(nest(f"see\n{around.format(value)}\nend\n", depth)).data
            assert value.encode() not in out, around
    blob = expand("<B400>", 1)
    data = f"{blob}/{expand(template, 1)}+{blob}\n".encode()
    assert template.startswith(("ghp", "xai")) or stars.mask(data).data is data


def test_the_data_of_a_kubernetes_secret_is_masked(stars: Redactor) -> None:
    """The data is Base64."""
    value = base64.b64encode(b"k8Jd-2mQ_z9Lp4.x").decode()
    out = stars.mask(f"kind: Secret\ndata:\n  password: {value}\n".encode()).data
    assert value.encode() not in out


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Cookie: theme=dark; sid={}; _ga={}", ("a1B2c3D4e5", "GA1.2.3456789")),
        ("Set-Cookie: sid={}; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly", ("a1B2c3D4e5F6",)),
        ("curl --cookie 'sid={}' https://example.com", ("a1B2c3D4e5F6",)),
        ("document.cookie = 'sid={}; path=/'", ("a1B2c3D4e5F6",)),
        ("mount -o username=a,password={},uid=1000 //h/s", ("Zx9wQ2eR4",)),
        ("connect(password={}, host=b)", ("Zx9wQ2eR4",)),
        ("jaas: required username=a password={};", ("Zx9wQ2eR4",)),
        ("export DB_PASSWORD={}; make", ("Zx9wQ2eR4",)),
    ],
)
def test_a_value_ends_where_its_syntax_ends(text: str, values: tuple[str, ...], stars: Redactor) -> None:
    """The names of cookies and the text after a value stay readable."""
    for depth in (0, 1, 2):
        masked = stars.mask(nest(f"see\n{text.format(*values)}\nend\n", depth))
        assert masked.data == nest(f"see\n{text.format(*('*' * len(value) for value in values))}\nend\n", depth)


UNTOUCHED = [
    "password=<your password>",
    "password=${VAR}",
    "password=$PASSWORD",
    'password = os.environ["X"]',
    "password = os.getenv('DB_PASSWORD')",
    "def login(user: str, password: str) -> None:",
    "password: str = field(default='')",
    "password: Optional[str] = None",
    "token: CancellationToken",
    "public void setPassword(String password) { this.password = password; }",
    "ENV TOKENIZERS_PARALLELISM false",
    "set -e; set -o pipefail",
    "| password | string | required |",
    "| Token | Description |",
    "Authorization: Bearer <token>",
    "Authorization: Bearer $TOKEN",
    "the password is required",
    "password for user: incorrect",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "550e8400-e29b-41d4-a716-446655440000",
    '"integrity": "sha512-v2kDEe57lecTulaDIuNTPy3Ry4gLGJ6Z1O3vE1krgXZNrsQ+LFTGHVxVjcXPs17LhbZVGedAJv8XZ1tvj5FvSg=="',
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    'function(e,t){return e.token===t?n.key:r.get("token",e)}',
    "docker run -p 8080:80 -u 1000:1000 nginx",
    "curl -u $USER:$PASS https://example.com",
    "https://example.com/?page=2&token=abc&sort=asc",
    "getpass.getpass('Password: ')",
    "('password', 'username', 'email')",
    "useToken('accessToken')",
    "max_tokens=4096, token_count: 1234",
    "tokens: 1,2,3,4,5,6,7,8",
    "token = a.token,b.token;c.token",
    "Set-Cookie: theme=dark; Path=/; Max-Age=31536000; SameSite=Lax",
    "Cookie: consent=accepted; theme=dark",
    "e.password=t.password,n.secret=r;return",
]


def test_a_look_alike_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Examples are placeholders, references, types, signatures, hashes, images and minified code."""
    check_untouched(UNTOUCHED, stars, plain)
