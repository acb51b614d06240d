"""Whether the machine runs on battery, and whether its network is metered.

The system is asked only while there is a backlog. If it does not know, the answer is no.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

SUPPLIES = "/sys/class/power_supply"
PATIENCE = 2.0
"""Timeout of a system command in seconds."""
NETWORK_MANAGER = "org.freedesktop.NetworkManager"
METERED = ("u 1", "u 3")
"""NMMetered: yes, and guessed yes (a phone's hotspot)."""
ON_BATTERY, ON_METERED = "on battery", "on a metered network"

Ask = Callable[[Sequence[str]], str]


def _ask(command: Sequence[str]) -> str:
    """Run a system command; return what it prints, or "" if it fails or does not exist."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - one of two fixed commands
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


class PowerAndNetwork:
    """Asks the system about power and network; any thread may use it."""

    def __init__(self, supplies: str = SUPPLIES, ask: Ask = _ask, platform: str = sys.platform) -> None:
        """`supplies` is the directory of power supplies on Linux; `ask` runs a command."""
        self._supplies, self._ask, self._platform = supplies, ask, platform

    def on_battery(self) -> bool:
        """Return whether the machine runs on battery alone."""
        if self._platform == "darwin":
            return "'Battery Power'" in self._ask(["pmset", "-g", "batt"]).partition("\n")[0]
        supplies = self._list()
        online = [supply["online"] != "0" for supply in supplies if supply["type"] in ("Mains", "USB", "Wireless")]
        states = [supply["status"] for supply in supplies if supply["type"] in ("Battery", "UPS")]
        # Just after the plug was pulled, some batteries still report "Full" or "Unknown". Then the plug decides.
        return not any(online) and ("Discharging" in states or bool(states and online))

    def on_metered(self) -> bool:
        """Return whether NetworkManager reports a metered network. It is not started for that."""
        if self._platform != "linux":
            return False
        path = "/" + NETWORK_MANAGER.replace(".", "/")
        property_of = [NETWORK_MANAGER, path, NETWORK_MANAGER, "Metered"]
        command = ["busctl", "--system", "--auto-start=no", f"--timeout={PATIENCE:.0f}", "get-property", *property_of]
        return self._ask(command).strip() in METERED

    def _list(self) -> list[dict[str, str]]:
        """Return the power supplies of the machine itself, without those of its devices (power_supply(5), `scope`)."""
        try:
            names = os.listdir(self._supplies)
        except OSError:
            return []
        found = [{key: self._read(name, key) for key in ("type", "online", "status", "scope")} for name in names]
        return [supply for supply in found if supply["scope"] != "Device"]

    def _read(self, name: str, key: str) -> str:
        try:
            with open(os.path.join(self._supplies, name, key), errors="replace") as file:
                return file.read(64).strip()
        except OSError:
            return ""
