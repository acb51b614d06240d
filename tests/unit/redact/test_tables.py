"""Values whose name is in the header of their column: CSV, tables in text, and INSERT statements of SQL."""

from __future__ import annotations

import pytest

from sessiond.redact import Redactor
from sessiond.redact.tables import columns_of_secrets
from support.masking import VALUES, check_form, check_untouched, nest

TABLES = {
    "CSV": "name,password,email\nada,{v},ada@example.com\nbob,{v},bob@example.com",
    "CSV, first": "password,name\n{v},ada\n{v},bob",
    "CSV, last": "name,url,username,password\nexample.com,https://example.com/login,ada,{v}",
    "CSV, quotes": '"name","password","email"\n"ada","{v}","ada@example.com"\n"bob","{v}","b"',
    "CSV, semicolons": "name;api_key\nada;{v}\nbob;{v}",
    "CSV, two names": "name,db_password,api_token,city\nada,{v},{v},Paris",
    "psql": " name | password \n------+----------\n ada  | {v}\n bob  | {v}\n(2 rows)",
    "mysql": "+------+----------+\n| name | password |\n+------+----------+\n| ada  | {v} |\n+------+----------+",
    "Markdown": "| name | password | city |\n|---|---|---|\n| ada | {v} | Paris |\n| bob | {v} | Rome |",
    "sqlite": "name|password\nada|{v}",
    "INSERT": "INSERT INTO t (a, password, c) VALUES ('x', '{v}', 'z');",
    "INSERT, rows": (
        "insert into `users` (`id`, `name`, `password`) values\n(1, 'Ada, the first', '{v}'),\n(2, 'O''Hara', '{v}');"
    ),
    "INSERT, calls": "INSERT INTO app.users (id, \"api_key\", at) VALUES (uuid(1, 2), '{v}', now()), (NULL, '{v}', 7);",
}
UNTOUCHED = [
    "name,password,email\nada,required,ada@example.com",
    "name,password\n\nThe names and the passwords, v2 of them",
    "def login(user,password,host):\n    return user,password,connect2(host)",
    "f(user,password,\n  a1b2c3,d4e5f6)",
    " name | password \n------+----------\n ada  | ${PASS1}\n",
    "| Name | Password |\n|---|---|\n| text | varchar |",
    "| option | token |\n|---|---|\n| --max | 4096 |",
    "token,count\nthe,12345678\nof,2345678",
    "INSERT INTO t (a, password) VALUES (?, ?);",
    "INSERT INTO t (a, password) VALUES ($1, :password2)",
    "INSERT INTO t (a, b) VALUES ('x1y2z3a4', 'q1w2e3r4');",
    "INSERT INTO t (a, password) SELECT a, b FROM old2",
]


@pytest.mark.parametrize("name", TABLES)
def test_a_cell_below_the_name_of_a_secret_is_masked(name: str, stars: Redactor, plain: Redactor) -> None:
    """The other columns stay, and what a program adds before each line."""
    check_form(TABLES[name], stars, plain)
    for value in VALUES:  # nothing is around it
        text, expected = (TABLES[name].format(v=some) for some in (value, "*" * len(value)))
        for depth in (0, 1):
            assert stars.mask(nest(text, depth)).data == nest(expected, depth)


def test_a_look_alike_is_left_alone(stars: Redactor, plain: Redactor) -> None:
    """Examples are words, types, numbers, templates, parameters of a query and code."""
    check_untouched(UNTOUCHED, stars, plain)


def test_each_row_is_read_once() -> None:
    """A header in a row of another table begins none: a walk from each over all rows would be quadratic."""
    data = b"name,password\n" * 300 + b"end"
    spent: list[int] = []
    marks = [at + 14 for at in range(0, 300 * 14, 14)]
    views = list(columns_of_secrets(data, marks, spent.append))
    assert len(views) == 1
    assert sum(spent) <= 300 * 6
