"""The recipes: how a session is put where its tool looks for it. A module is named after its tool and has RECIPE."""

from __future__ import annotations

import importlib
import pkgutil

from sessiond.sources.plan import Recipe


def restorable_tools() -> list[str]:
    """Return the tools whose sessions can be restored."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def find_recipe(tool: str) -> Recipe | None:
    """Return the recipe of a tool; None if there is none."""
    if tool not in restorable_tools():
        return None
    recipe: Recipe = importlib.import_module(f"{__name__}.{tool.replace('-', '_')}").RECIPE
    return recipe
