"""The mutations that can be made in a source file: each is one small change of its text.

Nothing is changed that no test could or should notice: docstrings, annotations, `__all__`, imports for type checking,
assertions, log calls, options of classes and decorators, and the numbers that modules name as constants (sizes and
times that were chosen, of which another by one would be as good).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from mutants.operators import (
    ARITHMETIC,
    COMPARISONS,
    SQL,
    SQL_CHANGES,
    TWINS,
    is_choice,
    is_log,
    is_string,
    is_type,
)


class Change(NamedTuple):
    """A mutation: the characters from `start` to `end` of the file become `text`; `line` counts from 1."""

    line: int
    last: int
    function: str
    start: int
    end: int
    text: str


class Finder(ast.NodeVisitor):
    """Collects the changes of one file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.changes: list[Change] = []
        self._offsets = [0]
        self._lines = source.splitlines(keepends=True)
        for line in self._lines:
            self._offsets.append(self._offsets[-1] + len(line))
        self._names: list[str] = []
        self._statement: ast.stmt | None = None

    # Where things are

    def _at(self, line: int, column: int) -> int:
        """Return the place in the text of a line and its column, which is in UTF-8."""
        return self._offsets[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._span(node)
        return self.source[start:end]

    def _add(self, start: int, end: int, text: str) -> None:
        if self.source[start:end] == text:
            return
        line = self.source.count("\n", 0, start) + 1
        first = self._statement.lineno if self._statement else line
        last = self.source.count("\n", 0, end) + 1
        self.changes.append(Change(min(first, line), last, ".".join(self._names), start, end, text))

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace an operator between two operands."""
        start, end = self._span(left)[1], self._span(right)[0]
        words = r"\s+".join(re.escape(word) for word in old.split())
        found = re.search(rf"(?<![\w<>=!*/]){words}(?![\w<>=*/])", self.source[start:end])
        if found:
            self._add(start + found.start(), start + found.end(), new)

    # Visitors

    def visit(self, node: ast.AST) -> None:
        """Visit a node; remember the statement that it is in."""
        if isinstance(node, ast.stmt):
            before, self._statement = self._statement, node
            super().visit(node)
            self._statement = before
        else:
            super().visit(node)

    def _block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the body only: bases, options and decorators are declarations."""
        self._names.append(node.name)
        self._block(node.body)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Visit the body and the defaults."""
        self._names.append(node.name)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        self._block(node.body)
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Visit the value only; a number that a module or class names is a choice."""
        if node.value is not None and not is_choice(node.value, self._in_function()):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Mutate the value, and leave the assignment out where what it sets outlives the function."""
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if names & {"__all__", "__slots__", "TYPE_CHECKING"} or is_choice(node.value, self._in_function()):
            return
        if self._in_function() and any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._remove(node)
        self.visit(node.value)

    def _in_function(self) -> bool:
        return bool(self._names) and self._names[-1][:1] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def _remove(self, node: ast.stmt) -> None:
        self._add(*self._span(node), "pass")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Turn the operator round, and leave the statement out."""
        self._remove(node)
        change = ARITHMETIC.get(type(node.op))
        if change and not isinstance(node.value, ast.List | ast.Tuple | ast.ListComp):
            self._between(node.target, node.value, change[0] + "=", change[1] + "=")
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Leave a call out."""
        value = node.value
        if isinstance(value, ast.Constant) or is_log(value):
            return
        if isinstance(value, ast.Call | ast.Yield | ast.YieldFrom):
            self._remove(node)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        """Leave it out."""
        self._remove(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave it out; the text of an error is not mutated."""
        self._remove(node)

    def visit_Break(self, node: ast.Break) -> None:
        """Go on instead."""
        self._add(*self._span(node), "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        """End the loop instead."""
        self._add(*self._span(node), "break")

    def visit_Return(self, node: ast.Return) -> None:
        """Return None instead, or not at all."""
        if node.value is None:
            self._remove(node)
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value in (None, True, False)):
            self._add(*self._span(node.value), "None")
        self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Assertions state what the type checker cannot know."""

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Imports are not mutated."""

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_If(self, node: ast.If | ast.While) -> None:
        """Turn the condition round, unless one of its operators is turned round anyway."""
        if re.search("TYPE_CHECKING|__name__|sys.platform|sys.version", self._text(node.test)):
            return
        self._condition(node.test)
        self.visit(node.test)
        self._block(node.body)
        self._block(node.orelse)

    visit_While = visit_If  # noqa: N815

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Turn the condition round."""
        self._condition(node.test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        if isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.BoolOp | ast.Subscript):
            self._add(*self._span(test), f"not ({self._text(test)})")

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Swallow the exception."""
        if not (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)) and not all(
            isinstance(statement, ast.Expr) and is_log(statement.value) for statement in node.body
        ):
            self._add(self._span(node.body[0])[0], self._span(node.body[-1])[1], "pass")
        self._block(node.body)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Leave a `not` out."""
        if isinstance(node.op, ast.Not):
            self._add(*self._span(node), f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Mutate each operator."""
        operands = [node.left, *node.comparators]
        for (left, right), operator in zip(pairwise(operands), node.ops, strict=True):
            self._between(left, right, *COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Mutate each operator."""
        change = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._between(left, right, *change)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Mutate the operator where it is one of numbers or sets."""
        sides = (node.left, node.right)
        listed = any(isinstance(side, ast.JoinedStr | ast.List | ast.Tuple) or is_string(side) for side in sides)
        types = isinstance(node.op, ast.BitOr) and any(is_type(side) for side in sides)
        if type(node.op) in ARITHMETIC and not listed and not types:
            self._between(node.left, node.right, *ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Mutate a number by one, turn a truth value round, and mutate the operators of SQL."""
        if node.value is True or node.value is False:
            self._add(*self._span(node), str(not node.value))
        elif isinstance(node.value, int) and re.fullmatch(r"\d[\d_]*", self._text(node)):
            self._add(*self._span(node), str(node.value + 1))
        elif isinstance(node.value, str):
            self._sql(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Mutate the operators of SQL, but not the text."""
        self._sql(node)

    def _sql(self, node: ast.expr) -> None:
        start, end = self._span(node)
        text = self.source[start:end]
        if not SQL.search(text) or text.startswith('"""') or "CREATE " in text:
            return
        for pattern, new in SQL_CHANGES:
            for found in re.finditer(pattern, text):
                self._add(start + found.start(), start + found.end(), new)

    def visit_Call(self, node: ast.Call) -> None:
        """Swap neighbouring arguments of the same kind; exchange min and max, any and all."""
        if isinstance(node.func, ast.Name) and node.func.id in TWINS:
            self._add(*self._span(node.func), TWINS[node.func.id])
        for left, right in pairwise(node.args):
            if type(left) is type(right) and isinstance(left, ast.Name | ast.Attribute):
                (start, middle), (after, end) = self._span(left), self._span(right)
                kept = self.source[middle:after]
                self._add(start, end, self._text(right) + kept + self._text(left))
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in ("strict", "daemon"):
                self.visit(keyword.value)


def changes(source: str) -> Iterator[Change]:
    """Iterate over all changes of a source text, in its order; some may be no valid Python (see `is_valid`)."""
    finder = Finder(source)
    for statement in ast.parse(source).body:
        finder.visit(statement)
    yield from sorted(set(finder.changes), key=lambda change: (change.start, change.end, change.text))


def apply(source: str, change: Change) -> str:
    """Return the mutated text."""
    return source[: change.start] + change.text + source[change.end :]


def is_valid(source: str) -> bool:
    """Return whether this is Python: a `continue` outside of a loop is not, for instance."""
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True
