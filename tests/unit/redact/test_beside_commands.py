"""Secrets in commands and files of databases, Windows, mail, networks, clusters and routers, and below a prompt."""

from __future__ import annotations

import re

import pytest

from sessiond.redact import Redactor
from sessiond.redact.examples import expand
from sessiond.redact.prefilter import may_hold_secret
from support.masking import AROUND, check, check_form, check_untouched, nest

ORACLE = {
    "JDBC": "jdbc:oracle:thin:ada/{v}@db.example.com:1521:orcl",
    "JDBC, service": "url=jdbc:oracle:thin:ada/{v}@//db.example.com:1521/orcl",
    "JDBC, OCI": "jdbc:oracle:oci:ada/{v}@tns",
    "sqlplus, quotes": 'sqlplus "ada/{v}@db"',
    "sqlldr": "sqlldr userid=ada/{v} control=x.ctl",
    "sqlldr, first": "sqlldr ada/{v}@db control=x.ctl",
    "expdp": "expdp ada/{v} schemas=x",
    "impdp": "impdp userid=ada/{v}@db schemas=x",
    "rman": "rman target ada/{v}@db",
    "connect": "SQL> connect ada/{v}@db",
    "conn": "SQL> conn ada/{v}",
    "exp": "exp ada/{v}@db file=x.dmp",
    "imp": "imp userid=ada/{v} full=y",
    "sql": "sql ada/{v}@//db.example.com/xe",
    "sql, silent": "sql -s ada/{v}@db:1521/xe",
}
WINDOWS = {
    "reg": r"reg add HKLM\X /v DefaultPassword /t REG_SZ /d {v} /f",
    "reg, quotes": r'reg.exe add "HKLM\SOFTWARE\Windows NT\Winlogon" /v ProxyPassword /d "{v}" /f',
    "reg, order": r"REG ADD HKLM\X /f /v Password /t REG_SZ /d {v}",
    "reg query": "    DefaultPassword    REG_SZ    {v}",
    "PowerShell": r'Set-ItemProperty -Path "HKLM:\X" -Name DefaultPassword -Value "{v}"',
    "setx": 'setx /M DB_PASSWORD "{v}"',
    "net user": "net user ada {v}",
    "secure string": "ConvertTo-SecureString -AsPlainText -Force -String '{v}'",
    "secure string, order": 'ConvertTo-SecureString -AsPlainText "{v}" -Force',
    "unattended": "<AdministratorPassword>\n  <Value>{v}</Value>\n</AdministratorPassword>",
    "runas": "echo {v} | runas /user:ada cmd",
    "ODBC": "Driver={{PostgreSQL}};Server=db;UID=ada;PWD={{{v}}};",
}
STDIN = {
    "sudo, two options": "echo '{v}' | sudo -kS apt update",
    "sudo, long option": 'echo "{v}" | sudo --stdin ls',
    "sudo, printf": "printf '%s\\n' '{v}' | sudo -S ls",
    "sudo, here": "sudo -S ls <<< {v}",
    "sudo, here first": 'sudo -S <<< "{v}" apt update',
    "su": "echo '{v}' | su - ada -c ls",
    "passwd": "echo '{v}' | passwd --stdin ada",
    "htpasswd": "echo '{v}' | htpasswd -i file ada",
}
NETWORK = {
    "fetchmail": "user 'ada' with pass \"{v}\"",
    "fetchmail, no quotes": "user ada password {v} is ada",
    "msmtp": "host smtp.example.com\nuser ada@example.com\npassword {v}",
    "mbsync": "Host imap.example.com\nUser ada\nPass {v}\nSSLType IMAPS",
    "mbsync, quotes": 'User ada\nPass "{v}"\nSSLType IMAPS',
    "offlineimap": "remotepass = {v}",
    "prefix": "smtppass={v}",
    "pgpass, other port": "db.example.com:6543:app:ada:{v}",
    "WEP": '  wep_key0="{v}"',
    "nmcli": "nmcli con modify x wifi-sec.psk {v}",
    "NetworkManager": "[wifi-security]\nkey-mgmt=wpa-psk\npsk={v}",
    "CHAP": '"ada" * "{v}" *',
    "CHAP, server": "ada\tl2tpd\t{v}\t*",
    "IPsec": ': PSK "{v}"',
    "IPsec, peers": '%any %any : PSK "{v}"',
    "IPsec, EAP": 'ada : EAP "{v}"',
    "IPsec, XAUTH": 'ada : XAUTH "{v}"',
}
CLUSTER = {
    "Terraform": 'resource "random_password" "db" {{\n    id          = "none"\n    result      = "{v}"\n}}',
    "Terraform, console": 'random_password.db.result = "{v}"',
    "Terraform, state": '"type": "random_password", "list": [{{"attributes": {{\n"id": "none", "result": "{v}"}}}}]',
    "stringData": "kind: Secret\nmetadata:\n  name: x\nstringData:\n  db: {v}\n  other: {v}",
    "stringData, quotes": 'apiVersion: v1\nkind: Secret\nstringData:\n  db: "{v}"',
    "stringData, sorted": "apiVersion: v1\nstringData:\n  db: {v}\nkind: Secret",
    "JSON": '{{"apiVersion": "v1", "stringData": {{"db": "{v}"}}, "kind": "Secret"}}',
}
DEVICES = {
    "enable": "enable secret 0 {v}",
    "enable, no type": "enable password {v}",
    "enable, level": "enable secret level 5 {v}",
    "user": "username ada password {v}",
    "user, privilege": "username ada privilege 15 secret 0 {v}",
    "community": "snmp-server community {v} RO",
    "community, last": "snmp-server community {v}",
    "trap": "snmp-server host 10.0.0.1 version 2c {v}",
    "SNMP 3": "snmp-server user ada grp v3 auth sha {v} priv aes 128 {v}",
    "TACACS": "tacacs-server key {v}",
    "TACACS, host": "tacacs-server host 10.0.0.1 key {v}",
    "RADIUS": "radius-server key {v}",
    "RADIUS, set": 'set system radius-server 10.0.0.1 secret "{v}"',
    "ISAKMP": "crypto isakmp key {v} address 0.0.0.0",
    "PSK": " pre-shared-key {v}",
    "PSK, ASA": " ikev1 pre-shared-key {v}",
    "PSK, side": " pre-shared-key local {v}",
    "PSK, Junos": 'set security ike policy p pre-shared-key ascii-text "{v}"',
    "PSK, VyOS": "set vpn ipsec peer x authentication pre-shared-secret '{v}'",
    "OSPF": "ip ospf message-digest-key 1 md5 {v}",
    "BGP": "neighbor 10.0.0.1 password {v}",
    "PPP": "ppp chap password 0 {v}",
    "key chain": "  key-string {v}",
    "HSRP": "standby 1 authentication md5 key-string {v}",
    "NTP": "ntp authentication-key 1 md5 {v}",
    "WPA": "wpa-psk ascii 0 {v}",
    "LDAP": "ldap-login-password {v}",
    "Junos": "login user ada authentication plain-text-password {v}",
    "Junos, SNMP": "set snmp community {v} authorization read-only",
    "FortiGate, PSK": "    set psksecret {v}",
    "FortiGate": '    edit "admin"\n        set password {v}\n    next',
    "FortiGate, old": "    set passwd {v}",
    "Huawei": "local-user ada password cipher {v}",
    "OpenWrt": "option key '{v}'",
    "OpenWrt, uci": "uci set wireless.default_radio0.key='{v}'",
}
PROMPTS = {
    "key": "Enter passphrase for key '/home/ada/.ssh/id_rsa':\n{v}",
    "sudo": "[sudo] password for ada:\n{v}",
    "key of an API": "API key:\n{v}",
}
FORMS = {
    f"{kind}: {name}": form
    for kind, forms in {
        "Oracle": ORACLE,
        "Windows": WINDOWS,
        "stdin": STDIN,
        "network": NETWORK,
        "cluster": CLUSTER,
        "device": DEVICES,
        "prompt": PROMPTS,
    }.items()
    for name, form in forms.items()
}
SHAPED = {
    "Vault, unseal": "Unseal Key 1: [<B43>=]",
    "Vault, hidden": "Unseal Key 2 (will be hidden): [<B44>]",
    "Vault, recovery": "Recovery Key 1: [<B44>]",
    "Vault, command": "vault operator unseal [<B44>]",
    "Vault, hex": "vault operator unseal [<H66>]",
    "minisign": "[RWRTY0Iy<B204>]",
    "signify": "[RWRCSwAAACo<B129>]",
    "Kubernetes": "kind: Secret\nmetadata:\n  name: db\ntype: Opaque\ndata:\n  db: [<B21>7==]\n  other: [<B31>7]",
    "Kubernetes, sorted": "apiVersion: v1\ndata:\n  db: [<B21>7==]\nkind: Secret\nmetadata:\n  name: db",
    "WireGuard, made": "wg genkey\n[<B42>A=]",
    "WireGuard, read": "echo [<B42>A=] | wg pubkey",
    "Cisco 7": "username ada password 7 [09<X12>]",
    "Cisco 7, privilege": "username ada privilege 15 password 7 [09<X14>]",
    "Cisco 7, line": "line vty 0 4\n password 7 [05<X10>]\n login",
    "Cisco 7, server": " address ipv4 10.0.0.1\n key 7 [13<X10>]",
    "Cisco 7, OSPF": "ip ospf authentication-key 7 [09<X12>]",
    "Junos": 'secret "[$9$<A20>]"; ## SECRET-DATA',
    "FortiGate": "    set password ENC [<B42>==]",
    "FortiGate, PSK": "    set psksecret ENC [<B44>]",
    "Palo Alto": "<pre-shared-key><key>[-AQ==<B43>=]</key></pre-shared-key>",
    "community of words": "snmp-server community [Acme-m0nitor] RO",
}
"""What is in square brackets is masked."""
SEED = "drift oval copper tiny shrug lamp voyage unit carbon merit sunny walnut"
SEEDS = ['mnemonic: "{}"', "MNEMONIC='{}'", "seed phrase: {}", "Your recovery phrase is: {}", '"seedPhrase": "{}"']


@pytest.mark.parametrize("name", FORMS)
def test_a_password_is_masked_in_commands_and_files(name: str, stars: Redactor, plain: Redactor) -> None:
    """Line numbers, signs of a diff, quotes and colours change nothing."""
    check_form(FORMS[name], stars, plain)


@pytest.mark.parametrize("name", SHAPED)
def test_a_key_with_a_form_of_its_own_is_masked(name: str, stars: Redactor, plain: Redactor) -> None:
    """The form is known, or what is before it."""
    for seed in range(3):
        marked = expand(SHAPED[name], seed)
        text = re.sub(r"[\[\]]", "", marked)
        expected = re.sub(r"\[([^\]]*)\]", lambda match: "*" * len(match[1]), marked)
        for around in AROUND.values():
            check(stars, f"see\n{around(text)}\nend\n", f"see\n{around(expected)}\nend\n")
        assert plain.mask(nest(text, 1)) == stars.mask(nest(text, 1))
        assert may_hold_secret(text)


@pytest.mark.parametrize("form", SEEDS)
def test_the_words_of_a_wallet_are_masked(form: str, stars: Redactor) -> None:
    """Twelve to twenty-four words in lower case, and nothing behind them."""
    for words in (SEED, f"{SEED} {SEED}"):
        text = form.format(words)
        masked = stars.mask(nest(f"see\n{text}\nend\n", 1)).data.decode()
        assert not any(word in masked for word in words.split())
        assert may_hold_secret(text)


@pytest.mark.parametrize("form", ["Recovery Key: {}", "Password:\n    {}", "RecoveryPassword : {}"])
def test_a_recovery_key_is_masked(form: str, stars: Redactor) -> None:
    """BitLocker prints eight groups of six digits. Outside of a string, a number stays one."""
    key = expand("-".join(["<D6>"] * 8), form)
    text = form.format(key)
    assert stars.mask(text.encode()).findings
    for depth in (1, 2):
        assert stars.mask(nest(text, depth)).data == nest(form.format("*" * len(key)), depth)
    assert may_hold_secret(text)


UNTOUCHED = [
    "jdbc:oracle:thin:@db.example.com:1521/orcl2",
    "jdbc:oracle:thin:ada/${PASS}@db.example.com:1521:orcl",
    "sqlplus /nolog",
    "sqlplus ada@db",
    "sqlplus ada/$PASS@db",
    "sqlldr control=load2/x1.ctl log=a1/b2.log",
    "expdp directory=u01/dump2 dumpfile=x.dmp",
    "npm exec org/package@latest",
    "exp lib/x9y8z7@v1 tables2",
    "imp lib/x9y8z7w6 as file",
    "sql ada/x9y8z7w6.sql",
    "sql ada/$PASS@//db:1521/xe",
    "set password for x2y3z4",
    "set passwd sha512",
    "set passwd $PASSWD1",
    'resource "random_password" "db" {\n  length = 16\n}\noutput "x" {\n  result      = "a1b2c3d4e5"\n}',
    '"type": "random_password", "name": "db"}, {"type": "random_id", "result": "a1b2c3d4e5"}',
    "value = random_password.db.result",
    "see sql scripts/part@next",
    r"reg add HKLM\X /v DefaultUserName /d ada2024x",
    r"reg add HKLM\X /v DefaultPassword /d %PASS%",
    r"reg add HKLM\X /v PasswordExpiryWarning /t REG_DWORD /d 14",
    "net user ada /delete",
    "net user ada * /add",
    "echo $PASS | sudo -S ls",
    'echo "$(cat x1)" | sudo -S ls',
    "sudo -S ls < file2",
    "echo done | su - ada",
    "passwordeval pass show mail/ada2",
    "user ada\npasswordeval gpg2 -d x1.gpg",
    "the user has no password OAuth2.0",
    "user x\npass 12 of 14 tests",
    "localhost:8080:app:ada:handler",
    "src/a.py:1234:56:name:value2x",
    "app.py:1023:module:class:method1a2b3",
    "key_mgmt=WPA-PSK\nproto=RSN",
    " * @param x2 * y",
    "ada * required *",
    "Unseal Key (will be hidden): ",
    "vault operator unseal -migrate",
    "the unseal key 1: see page 42",
    "minisign -P RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
    "mnemonic: test test test test test test test test test test test junk",
    "seed phrase: write the words down on paper and keep them safe from all others there",
    "seed: 123456789012",
    "build 123456-234567-345678",
    "kind: ConfigMap\ndata:\n  db: a1b2c3d4e5",
    "kind: Secret\nmetadata:\n  name: x2-a1b2c3\n  namespace: team4",
    "kind: Secret\nstringData:\n  db: ${DB}\n  x: {{ .Values.db1 }}",
    "kind: ExternalSecret\nspec:\n  data:\n  - remoteRef: a1b2c3d4",
    "secretKeyRef:\n  kind: Secret\n  name: x1-a2b3c4",
    "enable secret scanning",
    "enable password policy v2",
    "username ada, password required2",
    "snmp-server community public RO",
    "snmp-server enable traps config2",
    "snmp-server location room-12",
    "tacacs-server key <key>",
    "pre-shared-key is required",
    "set password policy2",
    "set password ${PASS1}",
    "option key 'value'",
    "key-string <string>",
    "password 7 characters long",
    "key 7 of 12",
    "Password:\nstring",
    "API key:\nrequired for v2",
    "token:\n  type: string2",
    "Enter the password:\n$PASS1",
    "API key:\n550e8400-e29b-41d4-a716-446655440000",
    "secret:\n    secretName: my-secret",
    "123456-123456-123456-123456",
    "WPA-PSK AES256",
    "password for ada:\nPermission denied2",
]


def test_a_look_alike_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Examples are prose, code, references, templates, public keys, names of files and plain words."""
    check_untouched(UNTOUCHED, stars, plain)
