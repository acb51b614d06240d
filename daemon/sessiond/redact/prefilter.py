"""A cheap test for text that may hold a secret.

Loading the rules takes a quarter of a second, far more than `status` and `ls` may use. Commands and the log therefore
load them only for text that fails this test. It may be wrong in one direction only: text that a built-in rule masks
always fails it; some harmless text does too.
"""

from __future__ import annotations

import re

PASSWORD_WORDS = (
    "mdp", "contraseña", "wachtwoord", "hasło", "haslo", "heslo", "lösenord", "adgangskode", "salasana",
    "jelszó", "parola", "lozinka", "şifre", "sifre", "пароль", "κωδικός", "סיסמה", "كلمة المرور", "密码", "密碼",
    "口令", "密钥", "パスワード", "비밀번호", "암호",
)  # fmt: skip
"""Words for a password in languages other than English, which rules have as well (words.py). In lower case."""
_UUID = re.compile(
    r"(?:(?<![A-Za-z0-9_-])|(?<=-[0-9]{2}-))[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![\w-])"
)
"""An id. Keys that end in a UUID have a prefix, which the condition before it excludes."""
_TOKEN = re.compile(r"[A-Za-z0-9_.~+=%-]{16,}")
_DIRECTORIES = (
    "workspaceStorage|emptyWindowChatSessions|rooveterinaryinc|cloudworkstations|SharedClientCache|2BBY89MBSN"
)
"""Long names in the paths of tools' roots: `status --json` lists all roots, of most tools on every machine."""
_PART = rf"(?:[A-Za-z]{{1,15}}[0-9]{{0,4}}|[0-9]{{1,4}}[A-Za-z]{{1,3}}[0-9]{{0,2}}|[0-9]{{1,10}}|{_DIRECTORIES})"
_WORDS = re.compile(rf"[_.~+=%-]*(?:{_PART}(?:[_.~+=%-]+{_PART})*)?[_.~+=%-]*")
"""Words and numbers with separators, as in names of files, branches and models."""
_SIGNS = (
    "private key", "$2", "$apr1$", "$1$", "$5$", "$6$", "$argon2", "\\u", "\x1b", "heroku", "cookie", "sshpass",
    "redis-cli", "login", "identified", "mysql", "7z ", "echo ", "htpasswd", '"kty', "hooks.zapier", "webhook",
    ":5432:", ":5433:", ":6432:", ":\\/", "%3a", "sig=", "signature=", "code_verifier=", "hvs.", "hvb.", "hvr.",
    "sm_pat_", "sm_aat_", "sm_sat_", "securestring", "requirepass", "masterauth", "auth-pass", "psk", "lftp",
    "openssl", "net use", "sqlcmd", "bcp ", "tsql ", "ipmitool", "mosquitto_", "unzip ", "cqlsh", "rdesktop", "winrm",
    "psexec", "rabbitmqctl", "snmp", "sqlplus", "winexe", "rpcclient", "> auth ", "ugfzc3dvcmq6",
    'send "', "send --", "sendline", '"value', "value:", "domain\"", "httponly", "hostonly", "samesite",
    "true\t", "false\t", "&#", "&gt", "&quot",
    "&apos", "&amp", "%253a", "put-parameter", "config set", "config:set", "set-env", "env:set", "env set", "env add",
    "variable", "appsettings", "kv set", "kv put", "var put", "etcdctl", "chamber write", "ansible-vault", "printf",
    "add-mask", "bindpw", "rootpw", "schtasks", "pscp", "psftp", "plink", "putty", "rar ", "signtool", "winrs", "conan",
    "nuget", "pdftk", "security ", "cryptsetup", "oracle:", "sqlldr", "expdp", "impdp", "rman target", "sql> conn",
    "sudo ", "runas", "mnemonic", "phrase", "seed", "stringdata", "l2tp", "pptp", "pppd", ': eap "', "xauth", "unseal",
    "@tcp(", "@unix(", "_pat ", "random_password", "userid=", ".dmp", "@//", ":1521/",
)  # fmt: skip
"""Text in which a value may be a plain word, or is as short as one. In lower case."""
_OPTION = re.compile(
    r"[\s\"'>,\[]-(?:[pPuUawb]|-(?:proxy-)?user\b)|kind[\s\\\"':]{2,12}Secret\b|:[0-9]{4,5}:[\w*-]{1,63}:"
    r"|\*[\s\\]{1,4}\"[^\s]{6,}\"[\s\\]{1,4}\*"
)
_ADDRESS = r"[^\s/@]{0,80}:[^\s]{0,128}@|[^\s/@]{30,255}@|[^\s]{0,400}[?&;]\w{0,40}="
_NAMES = (
    "pass",
    "pw",
    "secret",
    "token",
    "key",
    "cred",
    "salt",
    "pin_code",
    "pincode",
    "auth",
    "bearer",
    "pat=",
    "pat:",
    "kennwort",
    "senha",
    *PASSWORD_WORDS,
)
_ASSIGNED = (
    r"(?:PASS\w{0,6}|PWD?|SECRET|TOKEN|KEY|CREDENTIALS?|SALT|PAT)[\"'\s]{0,6}[=:]"
    r"|(?i:pass|pwd|secret|token|key|credential|salt)\w{0,20}[\"'`\]]{0,2}\s{0,3}[:=]{1,2}>?\s{0,3}[\"'`]"
    r"|[?&;]\s?\w{0,40}="
)
"""A name that is assigned a value which may be any text."""
_VALUE = r"[^\s\"'`<>{}()\[\],;|]{4,}"
_PLAIN = r"[^\w]*(?:[^\W\d_]?[a-z]{0,12}|[A-Z]{1,12}|[0-9]{1,5})[.:?!/…\\_-]*"
"""A word or a small number, with punctuation: never the value of a setting that a rule masks."""


_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")


def may_hold_secret(text: str) -> bool:
    """Return whether a built-in rule could find a secret in a text."""
    if "\x1b" not in text:
        return _may_hold_secret(text)
    # Every line of a command in a terminal has colours. The rules see a value through them, and also one that begins
    # or ends at a colour: both readings must be harmless.
    return any(_may_hold_secret(_COLOUR.sub(gap, text)) for gap in ("", " "))


def _may_hold_secret(text: str) -> bool:
    if len(text) < 8:
        return False
    lowered = text.lower()
    if any(sign in lowered for sign in _SIGNS) or _OPTION.search(text):
        return True
    at = text.find("://")
    while at >= 0:
        if re.compile(_ADDRESS).match(text, at + 3):
            return True
        at = text.find("://", at + 3)
    text = _UUID.sub("", text)
    if any(not _WORDS.fullmatch(found) for found in _TOKEN.findall(text)):
        return True
    lowered = text.lower()
    named = [found + len(name) for name in _NAMES if (found := lowered.find(name)) >= 0]
    if not named:
        return False
    return re.search(_ASSIGNED, text) is not None or any(
        not _is_plain(value) for value in re.compile(_VALUE).findall(text, min(named))
    )


def _is_plain(value: str) -> bool:
    return len(value) < 100 and all(re.fullmatch(_PLAIN, part) for part in re.split(r"[/.:_…-]", value))
