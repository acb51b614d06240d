"""FrozenRecord: frozen records between modules, where `sessiond status` looks at them.

Elsewhere they are msgspec's Structs. Its import, with what it draws in (uuid, decimal, typing and more), takes as long
as all else in the 100 ms that `status` has.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # as in `typing`, which is not imported for it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Callable[[type], type]:
        """Say nothing: only a type checker asks what a subclass looks like."""
        return lambda made: made


@dataclass_transform(kw_only_default=True, frozen_default=True)
class FrozenRecord:
    """A record of named facts: declared like a dataclass, made by keywords, never changed."""

    _types: ClassVar[dict[str, frozenset[str]]] = {}
    """The names of the types that each fact may have."""
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        """Learn what is declared; with `from __future__ import annotations` all of it is text."""
        declared = cls.__annotations__
        types = {name: frozenset(kind.partition("[")[0] for kind in declared[name].split(" | ")) for name in declared}
        cls._types = cls._types | types
        cls._defaults = cls._defaults | {name: cls.__dict__[name] for name in declared if name in cls.__dict__}

    def __init__(self, **facts: Any) -> None:
        if not (facts.keys() <= self._types.keys() <= facts.keys() | self._defaults.keys()):
            missing = self._types.keys() - self._defaults.keys() - facts.keys()
            raise TypeError(
                f"{type(self).__name__}: missing {sorted(missing)}, unknown {sorted(facts - self._types.keys())}"
            )
        for name in self._types:
            self.__dict__[name] = facts[name] if name in facts else _own(self._defaults[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def replace(self, **facts: Any) -> Self:
        """Make another one, in which these facts are otherwise."""
        return type(self)(**(self.__dict__ | facts))

    @classmethod
    def from_json(cls, found: object, **facts: Any) -> Self:
        """Make one of what JSON held: unknown members, of another version, are left out; `facts` are made already.

        Raises: ValueError for what is no object, lacks a member or has one of another type.
        """
        if not isinstance(found, dict):
            raise ValueError(f"{cls.__name__} is no object")
        facts = {name: found[name] for name in cls._types if name in found} | facts
        for name, value in facts.items():
            kind = "None" if value is None else type(value).__name__
            if kind not in cls._types[name] and not isinstance(value, FrozenRecord):
                raise ValueError(f"{cls.__name__}.{name} is of type {kind}")
        try:
            return cls(**facts)
        except TypeError as error:
            raise ValueError(str(error)) from error


def to_json(answer: FrozenRecord | Mapping[str, Any]) -> str:
    """Write facts as one line of JSON, their members in the order in which they are declared."""
    return json.dumps(answer, default=vars, ensure_ascii=False, separators=(",", ":"))


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Read an object of JSON. Raises: ValueError for what is none."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _own(default: Any) -> Any:
    return default.copy() if isinstance(default, list | dict) else default
