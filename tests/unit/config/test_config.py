"""The configuration: its files, its values, and errors that name the file, the key, the line and a suggestion."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from sessiond.config import Config, Token, load, read_token, state_dir
from sessiond.config.lines import key_lines
from sessiond.config.units import parse_duration, parse_size
from sessiond.directories import config_file
from sessiond.errors import ConfigError
from support.program import SOURCE


def write(tmp_path: Path, text: str, name: str = "config.toml") -> str:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)


def refused(tmp_path: Path, text: str, **environ: str) -> ConfigError:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file, {"HOME": "/home/ada", **environ})
    assert caught.value.exit_code == 78
    return caught.value


def test_all_is_default_without_a_file(tmp_path: Path) -> None:
    """C1: a missing config is no error."""
    code = "import os\nfrom sessiond.config import load\nprint(load(None, os.environ))"
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": SOURCE}
    answer = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "files=(), warnings=(), origins={}" in answer.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the places of Linux")
def test_the_places_are_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere/config")
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere/state")
    assert config_file() == "/somewhere/config/sessiond/config.toml"
    assert state_dir(Config()) == "/somewhere/state/sessiond"
    assert state_dir(Config(state_dir="/srv/x")) == "/srv/x"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs is asked")
@pytest.mark.parametrize("base", ["", "/xdg"])
def test_the_places_are_those_of_platformdirs(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", base)
    monkeypatch.setenv("XDG_STATE_HOME", base)
    assert config_file() == os.path.join(platformdirs.user_config_dir("sessiond"), "config.toml")
    assert state_dir(Config()) == platformdirs.user_state_dir("sessiond")


def test_a_directory_of_parts_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.d").write_text("")
    with pytest.raises(ConfigError, match=r"config\.d: can't be read: not a directory"):
        load(write(tmp_path, ""), {})


def test_a_named_file_has_to_exist(tmp_path: Path) -> None:
    for file, environ in ((str(tmp_path / "none.toml"), {}), (None, {"SESSIOND_CONFIG": str(tmp_path / "none.toml")})):
        with pytest.raises(ConfigError, match=r"none\.toml: can't be read: no such file"):
            load(file, environ)


def test_files_then_the_environment_win(tmp_path: Path) -> None:
    file = write(tmp_path, 'rescan = 10\nidle_after = 20\n[endpoint]\nurl = "https://one.example"\ntimeout = 5\n')
    two = write(tmp_path, '[endpoint]\nurl = "https://two.example"\n', "config.d/20-two.toml")
    one = write(tmp_path, 'idle_after = "21s"\n[endpoint]\nurl = "https://three.example"\n', "config.d/10-one.toml")
    write(tmp_path, "not toml", "config.d/notes.txt")
    loaded = load(file, {"SESSIOND_RESCAN": "1h30m"})
    assert loaded.files == (file, one, two)
    assert loaded.config.endpoint.url == "https://two.example"
    assert loaded.config.endpoint.timeout == 5
    assert loaded.config.idle_after == 21
    assert loaded.config.rescan == 5400
    assert loaded.origins == {
        "rescan": "SESSIOND_RESCAN",
        "idle_after": f"{one}:1",
        "endpoint.url": f"{two}:2",
        "endpoint.timeout": f"{file}:5",
    }


def test_the_environment_is_read_by_the_settings_type(tmp_path: Path) -> None:
    environ = {
        "HOME": "/home/ada",
        "SESSIOND_STATE_DIR": "~/state",
        "SESSIOND_MACHINE_ID": "7",
        "SESSIOND_ENDPOINT__ALLOW_INSECURE_HTTP": "Yes",
        "SESSIOND_ENDPOINT__TIMEOUT": "2.5",
        "SESSIOND_OUTBOX__MAX_BYTES": "2 GiB",
        "SESSIOND_LOG__LEVEL": "debug",
        "SESSIOND_SOURCES__CLAUDE_CODE__ENABLED": "off",
        "SESSIOND_SOURCES__CODEX__ROOTS": "/a:~/b",
        "SESSIOND_SOURCES__CURSOR__ROOTS": '["/c:d"]',
    }
    config = load(write(tmp_path, ""), environ).config
    assert config.state_dir == "/home/ada/state"
    assert config.machine_id == "7"
    assert config.endpoint.allow_insecure_http is True
    assert config.endpoint.timeout == 2.5
    assert config.outbox.max_bytes == 2 << 30
    assert config.log.level == "debug"
    assert config.sources["claude-code"].enabled is False
    assert config.sources["codex"].roots == ["/a", "/home/ada/b"]
    assert config.sources["cursor"].roots == ["/c:d"]


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    """C8. Variables that are not settings are known too."""
    environ = dict.fromkeys(("SESSIOND_ENPOINT__URL", "SESSIOND_ENDPOINT__", "SESSIOND_TOKEN", "SESSIOND_CONFIG"), "x")
    warnings = load(write(tmp_path, ""), {**environ, "SESSIOND_QQQ": "", "SESSIONS": ""}).warnings
    assert warnings == (
        'SESSIOND_ENDPOINT__ is not a setting: did you mean "SESSIOND_ENDPOINT__URL"?',
        'SESSIOND_ENPOINT__URL is not a setting: did you mean "SESSIOND_ENDPOINT__URL"?',
        "SESSIOND_QQQ is not a setting",
    )


@pytest.mark.parametrize(
    ("text", "line", "key", "message", "hint"),
    [
        ('[endpoint]\n\nulr = "x"\n', 3, "endpoint.ulr", "unknown key", 'did you mean "url"?'),
        ("[enpoint]\n", 1, "enpoint", "unknown key", 'did you mean "endpoint"?'),
        ('url = "https://x"\n', 1, "url", "unknown key", 'did you mean "endpoint.url"? it belongs in [endpoint]'),
        ("[log]\nrescan = 5\n", 2, "log.rescan", "unknown key", "above the first [table]"),
        ("zzz = 1", 1, "zzz", "unknown key", "known keys: archive, backfill, backlog, endpoint"),
        ('[endpoint]\ntoken = "SENTINEL"', 2, "endpoint.token", "unknown key", "endpoint.token_file"),
        ('[log]\nlevel = "Info"', 2, "log.level", 'expected one of "debug", "info"', 'did you mean "info"?'),
        ("endpoint.timeout = 0", 1, "endpoint.timeout", "expected seconds above 0", None),
        ("endpoint.timeout = nan", 1, "endpoint.timeout", "expected seconds above 0", None),
        ("endpoint.timeout = inf", 1, "endpoint.timeout", "got the number inf", None),
        ('rescan = "soon"', 1, "rescan", '"1h30m", "2d"; got text "soon"', None),
        ("rescan = true", 1, "rescan", "got true", None),
        ("[outbox]\nmax_bytes = 5", 2, "outbox.max_bytes", "expected bytes, at least 1 MiB", None),
        ("machine_id = 5", 1, "machine_id", "got the number 5", None),
        ('machine_id = "a\\nb"', 1, "machine_id", "on one line", None),
        ('machine_id = ".."', 1, "machine_id", "segment between slashes", None),
        ('machine_id = "a/./b"', 1, "machine_id", "segment between slashes", None),
        ('machine_id = "a/"', 1, "machine_id", "segment between slashes", None),
        ('machine_id = "a\\n"', 1, "machine_id", "on one line", None),
        ("endpoint = 5", 1, "endpoint", "expected a table; got the number 5", "write [endpoint]"),
        ("[[endpoint]]", 1, "endpoint", "expected a table; got a list", None),
        ("state_dir = 1979-05-27", 1, "state_dir", "got a date or time", None),
        ('state_dir = "here"', 1, "state_dir", 'starts with "/" or "~/"', None),
        ('[sources.codex]\nroots = [\n  "/a",\n  5,\n]', 4, "sources.codex.roots[1]", "expected a path", None),
        (
            '[sources.codex]\nroots = "/a"',
            2,
            "sources.codex.roots",
            "expected a list of values that are each a path",
            None,
        ),
        ('[sources."codex"]\nenabld = true', 2, "sources.codex.enabld", "unknown key", 'did you mean "enabled"?'),
        ('[sources."a b"]\nenabled = 1', 2, 'sources."a b".enabled', "expected true or false", None),
    ],
)
def test_an_error_names_the_line_the_key_and_what_was_meant(
    tmp_path: Path, text: str, line: int, key: str, message: str, hint: str | None
) -> None:
    """C2."""
    error = refused(tmp_path, text)
    assert (error.file, error.line, error.key) == (str(tmp_path / "config.toml"), line, key)
    assert str(error).startswith(f"{tmp_path}/config.toml:{line}: {key}: ")
    assert message in str(error)
    assert not str(error).endswith(".")
    assert (hint or "") in (error.hint or "")
    assert "SENTINEL" not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nb = \n", 2, "not valid TOML: invalid value at column 5"),
        ("a = 1\na = 2\n", 2, "not valid TOML"),
        ("a = 1\n[endpoint", 2, "not valid TOML"),
        ('a = """\nx\n', 3, "not valid TOML"),
        ("url = https://x\n", 1, "not valid TOML: invalid value at column 7"),
    ],
)
def test_a_syntax_error_names_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    """C2."""
    error = refused(tmp_path, text)
    assert error.line == line
    assert message in str(error)
    assert "(at" not in str(error)


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """A RecursionError would end a running daemon, which reads each edit."""
    error = refused(tmp_path, "rescan = " + "[" * 5000)
    assert str(error) == f"{tmp_path}/config.toml: is nested too deeply"


def test_a_file_that_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"config\.toml:2: is not UTF-8"):
        load(str(file), {})
    with pytest.raises(ConfigError, match="is a directory"):
        load(str(tmp_path), {})
    file.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="too large"):
        load(str(file), {})


def test_files_from_other_editors_are_read(tmp_path: Path) -> None:
    """They may have a byte order mark and CRLF line ends."""
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbfrescan = 5\r\n\r\n[log]\r\nlevel = 'debug'\r\n")
    loaded = load(str(file), {})
    assert loaded.origins == {"rescan": f"{file}:1", "log.level": f"{file}:4"}


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "", SESSIOND_OUTBOX__MAX_BYTES="lots")
    assert error.key == "SESSIOND_OUTBOX__MAX_BYTES"
    assert 'got text "lots"' in str(error)
    assert refused(tmp_path, "", SESSIOND_ENDPOINT__URL="http://x.example").key == "SESSIOND_ENDPOINT__URL"


def test_an_error_shows_no_control_characters(tmp_path: Path) -> None:
    """S10."""
    error = refused(tmp_path, '[log]\nlevel = "\\u001b[2J\\u0007"')
    assert str(error).isprintable()
    odd = refused(tmp_path, "", SESSIOND_LOG__LEVEL="\udcff\x1b")
    assert str(odd).isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://sync.example.org",
        "https://sync.example.org:8443/base/",
        "https://[2001:db8::1]",
        "http://localhost:8787",
        "http://127.0.0.1",
        "http://127.9.9.9:1",
        "http://[::1]:80/",
    ],
)
def test_safe_addresses_are_taken(tmp_path: Path, url: str) -> None:
    assert load(write(tmp_path, f'endpoint.url = "{url}"'), {}).config.endpoint.url == url


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("http://sync.example.org", "plain http to sync.example.org", "https://sync.example.org"),
        ("http://127.0.0.1.example.org", "plain http", "https"),
        ("http://10.0.0.1", "plain http", "allow_insecure_http"),
        ("https://ada:SENTINEL@example.org", "user name or password", "token_file"),
        ("http://SENTINEL@localhost", "user name or password", "token_file"),
        ("sync.example.org", 'starts with "https://"', 'did you mean "https://sync.example.org"?'),
        ("ftp://sync.example.org", 'starts with "https://"', "https://sync.example.org"),
        ("https://", 'starts with "https://"', None),
        ("https://x:99999", "is not a valid address", None),
        ("https://[::1", "is not a valid address", None),
        ("https://x.example/ y", "a space", None),
        ("https://x.example/?token=SENTINEL", '"?"', None),
    ],
)
def test_unsafe_addresses_are_refused(tmp_path: Path, url: str, message: str, hint: str | None) -> None:
    """S5. An address with a password in it is not repeated."""
    error = refused(tmp_path, f'\n[endpoint]\nurl = "{url}"')
    assert (error.key, error.line) == ("endpoint.url", 3)
    assert message in str(error)
    assert (hint or "") in (error.hint or "")
    assert "SENTINEL" not in f"{error} {error.hint}"


def test_plain_http_is_taken_when_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path, '[endpoint]\nurl = "http://nas.lan"\nallow_insecure_http = true')
    assert load(file, {}).config.endpoint.url == "http://nas.lan"


@pytest.mark.parametrize("root", ["/", "~", "~/state", "~/state/x/..", "~/state/spool", ""])
def test_a_root_around_or_inside_the_state_directory_is_refused(tmp_path: Path, root: str) -> None:
    """C6."""
    error = refused(tmp_path, f'state_dir = "~/state"\n[sources.codex]\nroots = ["/srv/a", "{root}"]')
    assert (error.key, error.line) == ("sources.codex.roots[1]", 3)


def test_an_unknown_tool_is_named_where_tools_are_known(tmp_path: Path) -> None:
    file = write(tmp_path, "[sources.claud-code]\nenabled = false")
    assert "claud-code" in load(file, {}).config.sources
    with pytest.raises(ConfigError, match=r":1: sources.claud-code: unknown tool") as caught:
        load(file, {}, tools=("claude-code", "codex"))
    assert caught.value.hint == 'did you mean "claude-code"?'


def test_a_config_that_others_can_change_is_a_warning(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    os.chmod(file, 0o666)
    assert load(file, {}).warnings == (f"every user of this machine can change {file}: chmod o-w {file}",)


# --- units ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("45", 45),
        (" 2 H ", 7200),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512 MB", 512_000_000),
        ("512MiB", 512 << 20),
        ("512M", 512_000_000),
        ("2g", 2_000_000_000),
        ("1.5 kB", 1500),
        ("7", 7),
        ("7 B", 7),
        ("1 TiB", 1 << 40),
        ("3Ki", 3072),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "-5", "1e9", "5 parsecs", "1h30", "ib", "5 ib", "１０ MB x", "9" * 5000 + " q"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)
    with pytest.raises(ValueError):
        parse_size(text)


# --- lines ---

TOML = '''\
# [not] = "a key"
top = 1
"quoted key" = """
[inside] # no table
x = 1"""
a.b . "c.d" = { e = [1,
  2 # ] }
  , "]"], f = '}' }

[table]   # [x]
list = [
  "one",
  """two
  """,
  [ "three" ],
]
when = 1979-05-27 07:32:00 # later
[table.sub]
x = \'\'\'it''s\'\'\'
[[many]]
n = 1
[many.deep]
k = 2
[[many]]
n = "\\"]"
[[many.more]]
z = 0
'''


def test_keys_are_found_on_their_lines() -> None:
    """Keys are in tables, dotted or quoted, and near multi-line strings, inline tables, lists and arrays of tables."""
    tomllib.loads(TOML)
    assert key_lines(TOML) == {
        ("top",): 2,
        ("quoted key",): 3,
        ("a",): 6,
        ("a", "b"): 6,
        ("a", "b", "c.d"): 6,
        ("a", "b", "c.d", "e"): 6,
        ("a", "b", "c.d", "e", 0): 6,
        ("a", "b", "c.d", "e", 1): 7,
        ("a", "b", "c.d", "e", 2): 8,
        ("a", "b", "c.d", "f"): 8,
        ("table",): 10,
        ("table", "list"): 11,
        ("table", "list", 0): 12,
        ("table", "list", 1): 13,
        ("table", "list", 2): 15,
        ("table", "list", 2, 0): 15,
        ("table", "when"): 17,
        ("table", "sub"): 18,
        ("table", "sub", "x"): 19,
        ("many",): 20,
        ("many", 0): 20,
        ("many", 0, "n"): 21,
        ("many", 0, "deep"): 22,
        ("many", 0, "deep", "k"): 23,
        ("many", 1): 24,
        ("many", 1, "n"): 25,
        ("many", 1, "more"): 26,
        ("many", 1, "more", 0): 26,
        ("many", 1, "more", 0, "z"): 27,
    }


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """List the paths of a parsed TOML value."""
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found |= paths(inner, (*path, name))
    return found


words = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
values = st.recursive(
    words | st.integers(-9, 9) | st.booleans() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(words, values, max_size=4), st.booleans())
def test_every_key_of_any_toml_is_found(table: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(table, multiline_strings=multiline)
    found = key_lines(text)
    assert set(found) == paths(tomllib.loads(text))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


@given(st.text(st.sampled_from("[]{}=.,#\"'\\\n ab1"), max_size=40))
def test_the_search_for_keys_ends_for_any_text(text: str) -> None:
    """The search ends for every text, even one that tomllib refuses."""
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(key_lines(text)) == paths(parsed)


# --- the token ---


def token_file(tmp_path: Path, content: str = "SENTINEL-token\n", mode: int = 0o600) -> Config:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    return msgspec.convert({"endpoint": {"token_file": str(file)}}, Config)


def test_the_token_comes_from_the_environment_then_systemd_then_the_file(tmp_path: Path) -> None:
    config = token_file(tmp_path, "from-file\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "token").write_text("from-systemd\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"), "SESSIOND_TOKEN": "from-environment"}
    assert read_token(config, environ) == Token("from-environment")
    del environ["SESSIOND_TOKEN"]
    assert read_token(config, environ) == Token("from-systemd")
    assert read_token(config, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) is not None
    assert read_token(config, {}) == Token("from-file")
    assert read_token(Config(), {}) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_token_that_others_can_read_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    """C5."""
    with pytest.raises(ConfigError, match=r"endpoint\.token_file: other users may read") as caught:
        read_token(token_file(tmp_path, mode=mode), {})
    assert caught.value.hint == f"run: chmod 600 {tmp_path}/token"


def test_a_token_file_that_is_none_is_refused(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo, 0o600)
    for path, message in (
        (fifo, "not a regular file"),
        (str(tmp_path / "none"), "no such file"),
        ("/dev/null", "not a regular file"),
        (str(tmp_path), "not a regular file"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_token(msgspec.convert({"endpoint": {"token_file": path}}, Config), {})


@pytest.mark.parametrize("content", ["", " \n", "SENTINEL two", "SENTINEL\x00", "SENTINEL" * 2000, "SENTINEL\nX: y"])
def test_a_file_without_a_proper_token_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    """A line break in a token would start another header."""
    with pytest.raises(ConfigError) as caught:
        read_token(token_file(tmp_path, content), {})
    assert "SENTINEL" not in f"{caught.value!r} {caught.value.hint}"


def test_a_token_is_hard_to_print() -> None:
    """S3."""
    token = Token("SENTINEL")
    assert "SENTINEL" not in f"{token} {token!r} {token!s} {[token]} {vars(type(token))}"
    assert token.reveal() == "SENTINEL"
    assert token != "SENTINEL"
    assert not math.isnan(hash(token))
    with pytest.raises(TypeError):
        msgspec.json.encode(token)


def test_a_token_in_the_place_of_its_file_is_not_repeated(tmp_path: Path) -> None:
    error = refused(tmp_path, '[endpoint]\ntoken_file = "SENTINEL"')
    assert "SENTINEL" not in f"{error} {error.hint}"
