"""Secrets in lists of arguments: the same commands that a shell gets in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from sessiond.redact import Redactor
from sessiond.redact.arguments import ARGUMENT_TRIGGER, without_separators
from sessiond.redact.prefilter import may_hold_secret
from support.masking import check_untouched, nest

VALUE = "k8Jd-2mQ_z9Lp4.x"
COMMANDS = {
    "mysql": ["mysql", "-u", "root", "-p{v}", "db"],
    "curl": ["curl", "-s", "-u", "admin:{v}", "https://example.com"],
    "curl, joined": ["curl", "-uadmin:{v}", "https://example.com"],
    "curl --user": ["curl", "--user", "admin:{v}", "https://example.com"],
    "sshpass": ["sshpass", "-p", "{v}", "ssh", "root@example.com"],
    "sshpass, joined": ["sshpass", "-p{v}", "ssh", "root@example.com"],
    "option": ["--password", "{v}"],
    "option with =": ["app", "--password={v}", "--verbose"],
    "option, long name": ["app", "--registry-auth-token", "{v}", "--verbose"],
    "token": ["gh", "auth", "login", "--token", "{v}"],
    "key": ["app", "--api-key", "{v}"],
    "redis-cli": ["redis-cli", "-h", "cache", "-a", "{v}", "ping"],
    "docker login": ["docker", "login", "-u", "me", "-p", "{v}", "registry.example.com"],
    "mongosh": ["mongosh", "-u", "a", "-p", "{v}"],
    "zip": ["zip", "-P", "{v}", "a.zip", "b"],
    "ldapsearch": ["ldapsearch", "-D", "cn=a", "-w", "{v}"],
    "htpasswd": ["htpasswd", "-b", "file", "user", "{v}"],
    "smbclient": ["smbclient", "//h/s", "-U", "user%{v}"],
    "git config": ["git", "config", "--global", "user.password", "{v}"],
    "npm config": ["npm", "config", "set", "//r.example.com/:_authToken", "{v}"],
    "openssl": ["openssl", "rsa", "-passin", "pass:{v}"],
}
WRITTEN: dict[str, Callable[[list[str]], str]] = {
    "JSON": json.dumps,
    "compact JSON": lambda words: json.dumps(words, separators=(",", ":")),
    "indented JSON": lambda words: json.dumps(words, indent=2),
    "JSON in JSON": lambda words: json.dumps({"args": json.dumps(words)}),
    "Python": repr,
    "Python, a line each": lambda words: "[\n" + "".join(f"    {word!r},\n" for word in words) + "]",
    "YAML": lambda words: "command:\n" + "".join(f"  - {word}\n" for word in words),
    "YAML, not indented": lambda words: "command:\n" + "".join(f"- {word}\n" for word in words),
    "YAML, quoted": lambda words: "command:\n" + "".join(f'  - "{word}"\n' for word in words),
    "YAML, in one line": lambda words: "command: [" + ", ".join(words) + "]",
    "YAML with line numbers": lambda words: "".join(f"{n:6d}→  - {word}\n" for n, word in enumerate(words, 7)),
    "Go": lambda words: "exec.Command(" + json.dumps(words)[1:-1] + ").Run()",
    "JavaScript": lambda words: f"spawn({words[0]!r}, [" + ", ".join(map(repr, words[1:])) + "])",
    "Rust": lambda words: f'Command::new("{words[0]}")' + "".join(f'.arg("{word}")' for word in words[1:]),
    "Rust, a line each": lambda words: f'Command::new("{words[0]}")' + "".join(f'\n  .arg("{w}")' for w in words[1:]),
    "Lisp": lambda words: "(" + " ".join(f'"{word}"' for word in words) + ")",
    "plist": lambda words: "<array>\n" + "".join(f"  <string>{word}</string>\n" for word in words) + "</array>",
    "XML in one line": lambda words: "<a>" + "".join(f"<arg>{word}</arg>" for word in words) + "</a>",
    "/proc/PID/cmdline": lambda words: "exec\0" + "\0".join(words) + "\0",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_secret_in_a_list_of_arguments_is_masked(command: str, stars: Redactor, plain: Redactor) -> None:
    """The value is masked and nothing else, in each way to write a list, at each depth of JSON, by both scanners."""
    words, wrong = COMMANDS[command], []
    for form, write in WRITTEN.items():
        if form == "YAML, in one line" and command == "smbclient":
            continue  # a percent sign begins a directive there
        text, expected = (
            "see\n" + write([word.format(v=value) for word in words]) + "\nend\n" for value in (VALUE, "*" * len(VALUE))
        )
        for depth in (1, 2) if "\0" in text else (0, 1, 2):
            masked = stars.mask(nest(text, depth)).data
            again = stars.mask(masked).data
            if not masked == again == nest(expected, depth):
                wrong.append((form, masked, again))
        if not may_hold_secret(text):
            wrong.append((form, text, "is passed over by the prefilter"))
        if plain.mask(nest(text, 1)) != stars.mask(nest(text, 1)):
            wrong.append((form, text, "is masked differently by the plain scanner"))
    assert not wrong, "\n".join(map(repr, wrong))


UNTOUCHED = [
    '["mysql", "-u", "root", "-p", "app_production"]',
    '["app", "--password", "--username", "--database-name"]',
    '["app", "--password-file", "/run/secrets/x9"]',
    '["app", "--token", "$TOKEN", "--key", "${API_KEY}"]',
    '["docker", "run", "-p", "8080:80", "-u", "1000:1000", "nginx:1.27.3-alpine"]',
    '["ssh", "-p", "2222", "-u", "deploy-user1", "host3.example.com"]',
    '["mkdir", "-p", "/var/lib/app2/data"]',
    '["tar", "-xzf", "a.tgz", "-C", "/opt/tool-1.2.3"]',
    '["python", "-u", "main.py", "--workers", "Gunicorn2.Worker"]',
    '["psql", "-U", "app2", "-w", "production-Db2"]',
    '["git", "config", "user.name", "Ada Lovelace2"]',
    '["git", "config", "credential.helper", "store"]',
    '["--token", "token", "--secret", "mySecretName"]',
    'parser.add_argument("-p", "--password", help="the password of user2")',
    'parser.add_argument("--token", default=os.environ["GH_TOKEN2"])',
    "@click.option('-u', '--user', 'user_name2')",
    'case "-p", "--password":\n  config.Password2 = next()',
    'if arg in ("-p", "--password"): value9 = next(args)',
    "- --token: the token of version2\n- --user: a name-2-of-it\n",
    "use -p, -u, --token, and --password-stdin2 or so",
    '"build": "tsc -p tsconfig.build2.json", "test": "jest -w 4"',
    "complete -c app -l token -l password -x9",
    '["curl", "-u", "admin", "https://h.example.com:8443/a"]',
    '["curl", "-u", "admin:$PASS", "https://example.com"]',
    '{"args": ["-p", "package1:subPackage2"], "password": null}',
    '["cargo", "test", "-p", "sessiond-core2", "--features", "tls_v13"]',
    '["npm", "publish", "--access", "public2", "--tag", "next-14"]',
    '["openssl", "x509", "-pubkey", "-in", "cert2.pem"]',
    '["kubectl", "get", "secret", "--namespace", "prod-eu1", "-o", "name"]',
    "| `-p` | `--password` | the password2 |",
]


def test_a_list_without_a_secret_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Examples are ports, paths, packages, declarations of options, and lists of options in prose."""
    check_untouched(UNTOUCHED, stars, plain)


def test_a_long_list_is_read_once() -> None:
    """Each part of the data is in one view, however many options are in it, so the work does not grow quadratically."""
    data = b'{"args": [' + b'"-p", "x", ' * 5000 + b'"--token", "y"]}'
    marks = [found.end() for found in re.finditer(ARGUMENT_TRIGGER.encode(), data)]
    spent: list[int] = []
    views = list(without_separators(data, marks, spent.append))
    assert len(marks) == 5001
    assert sum(len(view.text) for view in views) <= len(data)
    assert sum(spent) < len(data) // 10


def test_a_list_ends_with_its_record(stars: Redactor) -> None:
    """An option at the end of a record has nothing to do with the next record."""
    data = b'{"c": ["app", "--token",\n{"a": "k8Jd-2mQ_z9Lp4.x"}\n'
    assert stars.mask(data).data is data
