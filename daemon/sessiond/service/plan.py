"""The plan of a service: command, environment and state directory."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import sys
from collections.abc import Mapping

import msgspec

from sessiond.atomic import atomic_write
from sessiond.errors import ServiceError
from sessiond.sources import find_variables

COMMON_VARIABLES = (
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Variables that affect where tools keep their sessions and how the endpoint is reached."""
SECRETS = ("SESSIOND_TOKEN",)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The values for rendering the unit or the plist."""

    command: tuple[str, ...]
    """Absolute path of the program and its arguments, including `run`."""
    state_dir: str
    environment: dict[str, str] = {}
    """Variables of the caller that the service needs; never a secret."""
    left_out: tuple[str, ...] = ()
    """Names of variables that are not copied because they may contain a secret."""


def make_plan(environ: Mapping[str, str], state_dir: str, config_file: str | None) -> Plan:
    """Return the plan of a service that runs this program. `config_file` is the file of `--config`, if any.

    The service gets the caller's variables that affect where tools keep their sessions and how the endpoint is
    reached. A service manager does not read shell profiles, so without them the service would watch other directories
    than `sessiond run`.
    """
    wanted = [name for name in (*find_variables(), *COMMON_VARIABLES) if environ.get(name)]
    wanted += sorted(name for name in environ if name.startswith("SESSIOND_") and name not in SECRETS)
    environment: dict[str, str] = {}
    left_out = [name for name in SECRETS if environ.get(name)]
    for name in wanted:
        value = environ[name]
        # The address of a proxy may contain a password; control characters could end a line of the unit.
        if "@" in value or not value.isprintable():
            left_out.append(name)
        else:
            environment[name] = value
    command = (*program(environ), "run")
    if config_file:
        command = (*command, "--config", os.path.abspath(config_file))
    return Plan(command=command, state_dir=state_dir, environment=environment, left_out=tuple(left_out))


def program(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the absolute path of this program; links of pipx and uv are kept, so it survives an upgrade."""
    name = sys.argv[0]
    if os.path.basename(name) == "sessiond":
        found = name if os.path.dirname(name) else shutil.which(name, path=environ.get("PATH"))
        if found and os.access(found, os.X_OK):
            return (os.path.abspath(found),)
    return (sys.executable, "-P", "-m", "sessiond")


def packaged(name: str) -> str:
    """Return the text of a packaged file: `sessiond.service`, `io.sessiond.plist`, `config.example.toml`.

    Raises: ServiceError if the file is missing.
    """
    inside = importlib.resources.files("sessiond") / "share" / name
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    # In an editable installation the files are in the repository.
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    for folder in ("systemd", "launchd", ""):
        path = os.path.join(source, folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return file.read()
    raise ServiceError(f"{name} is missing from this installation", hint="reinstall sessiond")


def write(path: str, text: str, *, mode: int = 0o644) -> bool:
    """Write a file whole or not at all; False where it holds that text already."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    atomic_write(path, text.encode(), mode=mode)
    return True
