"""Columns of a table: the cells below a header with the name of a secret, as `name: "cell"` for each row.

A rule expects a name beside its value. In CSV, in the output of `psql` and `mysql`, in Markdown and in an INSERT of SQL
the name is written once, and its values are in the rows below it. A view (layout.py) has the name before each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from sessiond.redact.layout import View
from sessiond.redact.lines import BREAK, line_end, line_start, openings, plain, prefix_length

_NAME = r"(?i:passw(?:or)?d|passphrase|secret|token|api_?key)"
TABLE_TRIGGER = (
    rf"{_NAME}\\*\"?[,;](?:\\*\"|[A-Za-z_])|[A-Za-z_\"][,;]\\*\"?{_NAME}\\*\"?(?:\\|\n|\r)"
    rf"|{_NAME}[ ]{{0,40}}\||\|[ ]*{_NAME}[ ]{{0,40}}(?:\\|\n|\r)|(?i:insert into )"
)
"""A name in a header: beside a comma or a semicolon without a space, or beside a line of a table; or an INSERT."""
_HEADER = re.compile(rb"(?i)[\w ]{0,24}(?:passw(?:or)?d|passphrase|secret|token|api_?key)")
_NAMED = re.compile(rb"[\w .*`/-]{0,48}")
_CELL = rb"[ ]*(?:\"([^\"]{0,400})\"?|([^%s\"]{0,400}))[ ]*(%s|$|(?=\"))"
_CELLS = {sign: re.compile(_CELL % (re.escape(sign), re.escape(sign))) for sign in (b"|", b",", b";")}
_QUOTE = re.compile(rb"\\+\"")
_END = re.compile(rb"\"[ ]*[}\]].*", re.DOTALL)
_RULE = re.compile(rb"[-+|: ]*")
_SPACE = rb"(?:\s|\\{1,8}[nrt])*"
_INSERT = re.compile(rb"(?i)[\w.`\"\[\]\\]{1,80}" + _SPACE + rb"\(([^()]{1,2000})\)" + _SPACE + rb"values?(?=[\s\\(])")
_COLUMN = re.compile(rb"[\s\\`\"\[nrt]*?([A-Za-z_]\w{0,63})[\s\\`\"\]]*(?:,|$)")
_ROW = re.compile(rb"(?:[\s+>#|,-]|\\{1,8}(?:[nrt]|u2192)|\xe2\x86\x92|[0-9]{1,7}(?=[\s\\|\xe2])){0,48}\(")
_VALUE = re.compile(
    rb"(?>" + _SPACE + rb")(?:N?'((?:[^'\n]|''){0,400}+)'(?>" + _SPACE + rb")"
    rb"|[^',()]{0,200}+(?:\([^()]{0,200}+\)(?>" + _SPACE + rb"))?)([,)])"
)
_MOST_ROWS, _MOST_BYTES = 400, 1 << 16
"""Rows and bytes below a header that are examined."""


Pair = tuple[tuple[int, int], tuple[int, int]]
"""Start and end of a name, and of a value below it."""


def columns_of_secrets(data: bytes, marks: Iterable[int], spend: Callable[[int], None]) -> Iterator[View]:
    """Iterate over views of the columns whose headers are around the marks, which are in order."""
    done = -1
    for mark in marks:
        spend(4)
        if mark <= done:
            continue  # in the header or a row of the last table
        pairs: list[Pair] = []
        if data[mark - 12 : mark].lower() == b"insert into ":
            done = _read_insert(data, mark, pairs, spend)
        else:
            done = _read_rows(data, mark - 1, pairs, spend)
        if pairs:
            yield _view(data, pairs)


def _view(data: bytes, pairs: list[Pair]) -> View:
    """Return a view in which the name of a column is before each of its cells."""
    texts: list[bytes] = []
    starts, origins, length = [], [], 0
    for name, cell in pairs:
        for (low, high), after in ((name, b': "'), (cell, b'"\n')):
            starts.append(length)
            origins.append(low)
            texts += (data[low:high], after)
            length += high - low + len(after)
    return View(b"".join(texts), starts, origins, 0, length)


def _read_rows(data: bytes, position: int, pairs: list[Pair], spend: Callable[[int], None]) -> int:
    """Add the cells below the names in the line around a position to `pairs`. Return where the last row ends."""
    low, end = line_start(data, position), line_end(data, position)
    head, follow = _plain(data[low:end]), BREAK.match(data, end)
    sign = next((sign for sign in (b"|", b",", b";") if sign in head), b"")
    if not sign or follow is None:
        return end
    line = _plain(data[follow.end() : line_end(data, follow.end())])
    cells = _heads(head, line, sign, (0, *openings(plain(data[low:end]))))
    # Cells are counted from the end of a line, because decoration before the first one may look like a cell.
    names = [
        (number - len(cells), (low + start, low + stop))
        for number, (start, stop) in enumerate(cells)
        if _HEADER.fullmatch(head, start, stop)
    ]
    limit, row, blank = low + _MOST_BYTES, end, False
    for _ in range(_MOST_ROWS if names else 0):
        found = BREAK.match(data, row)
        if found is None or found.end() > limit or data[row : row + 2] == b"\n{":
            break
        stop = line_end(data, found.end())
        line = _plain(data[found.end() : stop])
        start = _first(head, line)
        if _RULE.fullmatch(line, start):
            blank |= sign == b"|" and not line[start:].strip()
        else:
            spend(2)
            parts = _split(line, sign, start)
            if len(parts) < len(cells) - (sign == b"|") or (blank and sign not in line):
                break
            cells_below = ((name, parts[number]) for number, name in names if number + len(parts) >= 0)
            pairs += ((name, (found.end() + a, found.end() + b)) for name, (a, b) in cells_below if b > a)
        row = stop
    return row


def _heads(head: bytes, line: bytes, sign: bytes, begins: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return start and end of each cell of a header, or [] if `head` has none. `line` is the line below it.

    `begins`: where a header may begin, at the start of the line or of a JSON string in it.
    """
    for begin in begins:
        cells = _split(head, sign, begin + _first(line, head[begin:]))
        whole = bool(cells) and not head[cells[-1][1] :].strip(b' "' + sign)
        # Only a sign on both sides of its name distinguishes a single column from a choice in a grammar.
        lone = sign == b"|" and sum(high > low for low, high in cells) == 1 and not head.endswith(sign)
        if whole and not lone and all(_NAMED.fullmatch(head, *cell) for cell in cells[1:]):
            return cells
    return []


def _plain(line: bytes) -> bytes:
    """Return a line up to the end of its JSON string, in which escaped quotes are quotes."""
    if b"\\" in line:
        line = _QUOTE.sub(lambda found: b'"'.rjust(len(found[0])), line)
    return _END.sub(b"", plain(line)).rstrip(b"\x01 ")


def _first(before: bytes, line: bytes) -> int:
    """Return where the first cell of a line begins: after the decoration that the line before has too.

    A quote or a space at its end belongs to the cell.
    """
    return len(line[: prefix_length(before, line)].rstrip(b' "'))


def _split(line: bytes, sign: bytes, start: int) -> list[tuple[int, int]]:
    """Return start and end of each cell of a line, without its quotes and spaces."""
    cells: list[tuple[int, int]] = []
    match = _CELLS[sign].match
    while start < len(line) and (found := match(line, start)) is not None and found.end() > start:
        group = 1 if found[1] is not None else 2
        cells.append((found.start(group), found.start(group) + len(found[group].rstrip())))
        start = found.end()
        if found[3] != sign:
            break
    return cells


def _read_insert(data: bytes, position: int, pairs: list[Pair], spend: Callable[[int], None]) -> int:
    """Add the values of an INSERT that begins before a position to `pairs`. Return where its last row ends."""
    found = _INSERT.match(data, position)
    if found is None:
        return position
    columns = list(_COLUMN.finditer(data, found.start(1), found.end(1)))
    names = {number: column.span(1) for number, column in enumerate(columns) if _HEADER.fullmatch(column[1])}
    row, place = _ROW.match(data, found.end()) if names else None, found.end()
    while row is not None and row.end() < position + _MOST_BYTES:
        spend(2 + len(columns) // 4)
        place = row.end()
        for number in range(len(columns)):
            value = _VALUE.match(data, place)
            if value is None:
                return place
            place = value.end()
            if number in names and value[1]:
                pairs.append((names[number], value.span(1)))
        row = _ROW.match(data, place)
    return place
