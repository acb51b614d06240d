"""The recipes: how a session is put where its tool looks for it. A module is named after its tool and has RECIPE."""

from __future__ import annotations

import importlib
import pkgutil

from sessiond.sources import find_sources
from sessiond.sources.plan import Recipe

NAMES = {"continue": "continue_dev"}
"""Tools whose name can't be a module's: `continue` is a keyword."""


def restorable_tools() -> list[str]:
    """Return the tools whose sessions can be restored."""
    tools = {module: tool for tool, module in NAMES.items()}
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(tools.get(name) or name.replace("_", "-") for name in names)


def find_recipe(tool: str) -> Recipe | None:
    """Return the recipe of a tool; None if there is none."""
    if tool not in restorable_tools():
        return None
    module = NAMES.get(tool) or tool.replace("-", "_")
    recipe: Recipe = importlib.import_module(f"{__name__}.{module}").RECIPE
    return recipe


def reason_without_recipe(tool: str) -> str:
    """Return why the sessions of a tool can't be restored, for the user."""
    databases = {source.tool for source in find_sources() if hasattr(source, "sessions")}
    if tool in databases:
        return f"{tool} keeps them in a database, into which only {tool} itself may write"
    return f"it has not been shown yet that {tool} continues a session that another program has written"
