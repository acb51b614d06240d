"""FrozenRecord: frozen records that cost no import."""

from __future__ import annotations

import pytest

from sessiond.frozen_record import FrozenRecord, parse_object, to_json


class Inner(FrozenRecord):
    name: str


class Outer(FrozenRecord):
    first: int
    inner: list[Inner] = []  # noqa: RUF012
    last: str | None = None


class Wider(Outer):
    more: bool = False


def test_records_are_made_by_keywords_compared_by_content_and_immutable() -> None:
    made = Outer(first=1)
    assert made == Outer(first=1, inner=[], last=None) != Outer(first=2)
    assert made != Wider(first=1)
    assert repr(made) == "Outer(first=1, inner=[], last=None)"
    assert made.replace(last="x") == Outer(first=1, last="x")
    with pytest.raises(AttributeError):
        made.first = 2  # type: ignore[misc]
    assert len({Inner(name="x"), Inner(name="x")}) == 1


def test_each_record_has_its_own_defaults() -> None:
    Outer(first=1).inner.append(Inner(name="x"))
    assert Outer(first=1).inner == []
    assert Wider(first=1).more is False


@pytest.mark.parametrize("facts", [{}, {"first": 1, "second": 2}])
def test_a_missing_or_unknown_argument_is_an_error(facts: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Outer(**facts)


def test_records_survive_json_in_the_same_order() -> None:
    made = Outer(first=1, inner=[Inner(name="é\udc80")], last="x")
    text = to_json(made)
    assert text == '{"first":1,"inner":[{"name":"é\udc80"}],"last":"x"}'
    found = parse_object(text)
    assert Outer.from_json(found, inner=[Inner.from_json(each) for each in found["inner"]]) == made


def test_fields_of_another_version_are_left_out() -> None:
    assert Outer.from_json({"first": 1, "later": True}) == Outer(first=1)


@pytest.mark.parametrize(
    "found", [[], None, {}, {"first": "1"}, {"first": True}, {"first": 1, "last": 2}, {"first": None}]
)
def test_a_value_of_another_type_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="Outer"):
        Outer.from_json(found)


@pytest.mark.parametrize("text", ["[]", "", "{", b"\xff"])
def test_json_that_is_not_an_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_object(text)
