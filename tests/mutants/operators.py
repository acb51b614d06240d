"""The replacement of each operator, and expressions that are not mutated."""

from __future__ import annotations

import ast
import re

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
SQL = re.compile(r"\b(SELECT|UPDATE|DELETE FROM|WHERE|ORDER BY|INSERT INTO)\b|\bIS (NOT )?NULL\b")
SQL_CHANGES = [
    (r" AND ", " OR "),
    (r" OR (?!IGNORE|REPLACE|ROLLBACK|ABORT|FAIL)", " AND "),
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r"\bmax\(", "min("),
    (r"\bmin\(", "max("),
    (r" DESC\b", ""),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bNOT IN\b", "IN"),
    (r"(?<! ON CONFLICT) = \?", " != ?"),
]
LOGS = re.compile(r"^(log|logger|self\._?log|_log)\.(debug|info|warning|error|exception|critical|log)$")


def is_string(node: ast.expr) -> bool:
    """Return whether this is a constant of text or bytes."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def is_type(node: ast.expr) -> bool:
    """Return whether this is a type by its name, as in `isinstance(x, A | B)`."""
    name = ast.unparse(node).rpartition(".")[2]
    return name == "None" or (name[:1].isupper() and not name.isupper())


def is_log(node: ast.expr) -> bool:
    """Return whether this is a log call."""
    return isinstance(node, ast.Call) and bool(LOGS.match(ast.unparse(node.func)))


def is_choice(node: ast.expr, in_function: bool) -> bool:
    """Return whether this is a number that a module or a class names, or several in one line."""
    numbers = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Tuple, ast.expr_context)
    return not in_function and all(
        isinstance(part, numbers) and not (isinstance(part, ast.Constant) and isinstance(part.value, str | bool))
        for part in ast.walk(node)
    )
