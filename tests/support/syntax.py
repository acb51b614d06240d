"""The syntax trees of modules, for tests that read code; each module is parsed and walked once."""

from __future__ import annotations

import ast
from functools import cache


@cache
def parse(source: str) -> ast.Module:
    """Return the tree of a module. Tests share it and don't change it."""
    return ast.parse(source)


@cache
def nodes(source: str) -> list[tuple[ast.AST, str]]:
    """Return the nodes of a module in the order of the text, each with the `Class.function` that it is in."""
    found: list[tuple[ast.AST, str]] = []

    def visit(node: ast.AST, inside: str) -> None:
        for child in ast.iter_child_nodes(node):
            found.append((child, inside))
            visit(child, within(child, inside) if isinstance(child, ast.FunctionDef | ast.ClassDef) else inside)

    visit(parse(source), "")
    return found


def within(node: ast.FunctionDef | ast.ClassDef, inside: str) -> str:
    """Return the name of a definition that is in another one."""
    return f"{inside}.{node.name}" if inside else node.name
