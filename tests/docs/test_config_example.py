"""config.example.toml is complete, and its defaults are the program's."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from sessiond.config import Config, SourceSettings, load
from sessiond.config.check import keys
from sessiond.config.lines import key_lines

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SETTING = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)


def test_as_it_is_it_changes_nothing() -> None:
    loaded = load(str(EXAMPLE), {})
    assert loaded.warnings == ()
    assert msgspec.structs.replace(loaded.config, sources={}) == Config()


def test_uncommented_it_says_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(SETTING.sub("", EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")
    config = load(str(file), {}).config
    assert config == Config(sources={"claude-code": SourceSettings()})


def test_every_key_is_in_it_and_explained() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = key_lines(SETTING.sub("", text))
    for path, _ in keys():
        line = found.get(tuple("claude-code" if part == "*" else part for part in path))
        assert line is not None, f"{'.'.join(path)} is missing"
        assert lines[line - 2].startswith("# "), f"{'.'.join(path)} is not explained"
