"""What is to be installed: which program, in which surroundings, writing where."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import sys
from collections.abc import Mapping

import msgspec

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
"""Variables that decide where tools keep their sessions, beside their own, and how the endpoint is reached."""
SECRETS = ("SESSIOND_TOKEN",)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the unit or the plist is rendered with."""

    command: tuple[str, ...]
    """Absolute path of the program and its arguments, `run` among them."""
    state_dir: str
    environment: dict[str, str] = {}
    """Variables of the caller that the service needs too; never a secret."""
    left_out: tuple[str, ...] = ()
    """Variables that are set and hold a secret, so that they can't be written into a unit."""


def make_plan(environ: Mapping[str, str], state_dir: str, config_file: str | None) -> Plan:
    """Plan a service that runs this program as it runs now. `config_file` is the file of `--config`, if any.

    The service gets the caller's variables that decide where tools keep their sessions and how the endpoint is
    reached. A service manager does not know what a shell's profile sets, so without them the service would watch other
    directories than `sessiond run`.
    """
    wanted = [name for name in (*find_variables(), *COMMON_VARIABLES) if environ.get(name)]
    wanted += sorted(name for name in environ if name.startswith("SESSIOND_") and name not in SECRETS)
    environment: dict[str, str] = {}
    left_out = [name for name in SECRETS if environ.get(name)]
    for name in wanted:
        value = environ[name]
        # A proxy's address may hold its password; control characters would end a line of the unit.
        if "@" in value or not value.isprintable():
            left_out.append(name)
        else:
            environment[name] = value
    command = (*program(environ), "run")
    if config_file:
        command = (*command, "--config", os.path.abspath(config_file))
    return Plan(command=command, state_dir=state_dir, environment=environment, left_out=tuple(left_out))


def program(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Name this program by an absolute path that an upgrade keeps: links of pipx and uv are not resolved."""
    name = sys.argv[0]
    if os.path.basename(name) == "sessiond":
        found = name if os.path.dirname(name) else shutil.which(name, path=environ.get("PATH"))
        if found and os.access(found, os.X_OK):
            return (os.path.abspath(found),)
    return (sys.executable, "-P", "-m", "sessiond")


def packaged(name: str) -> str:
    """Read a file that comes with the package: `sessiond.service`, `io.sessiond.plist`, `config.example.toml`.

    Raises: ServiceError where the installation is not whole.
    """
    inside = importlib.resources.files("sessiond") / "share" / name
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    # An editable installation has the files where the repository has them.
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    for folder in ("systemd", "launchd", ""):
        path = os.path.join(source, folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return file.read()
    raise ServiceError(f"{name} is missing from this installation", hint="install sessiond again")


def write(path: str, text: str, *, mode: int = 0o644) -> bool:
    """Write a file whole or not at all; False where it holds that text already."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "w") as file:
        file.write(text)
    os.replace(temporary, path)
    return True
