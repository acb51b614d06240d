"""Frozen records for the modules that `sessiond status` imports.

All other modules use msgspec's Structs. Importing msgspec, with uuid, decimal, typing and more, takes as long as all
else in the 100 ms that `status` may take.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # as in `typing`, which is not imported for it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Callable[[type], type]:
        """Return a decorator that does nothing: only type checkers use the real one."""
        return lambda cls: cls


_JSON = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list, "None": type(None)}
"""The types that JSON has, by their names in annotations."""
_JSON_ENCODER = json.JSONEncoder(default=vars, ensure_ascii=False, separators=(",", ":"))


@dataclass_transform(kw_only_default=True, frozen_default=True)
class FrozenRecord:
    """A record with named fields: declared like a dataclass, created with keywords, immutable."""

    _types: ClassVar[dict[str, frozenset[type]]] = {}
    """The types of JSON that each field may have."""
    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _copied: ClassVar[dict[str, Any]] = {}
    """Those defaults that each record has a copy of."""

    def __init_subclass__(cls) -> None:
        """Collect the declared fields. With `from __future__ import annotations`, annotations are text."""
        declared = cls.__annotations__
        kinds = {name: [kind.partition("[")[0] for kind in declared[name].split(" | ")] for name in declared}
        cls._types = cls._types | {
            name: frozenset(_JSON[kind] for kind in kinds[name] if kind in _JSON) for name in kinds
        }
        cls._names = tuple(cls._types)
        cls._defaults = cls._defaults | {name: cls.__dict__[name] for name in declared if name in cls.__dict__}
        cls._copied = {name: default for name, default in cls._defaults.items() if isinstance(default, list | dict)}

    def __init__(self, **fields: Any) -> None:
        if tuple(fields) == self._names:  # the common case: the state of hundreds of roots
            self.__dict__.update(fields)
            return
        if fields.keys() != self._types.keys():
            missing = self._types.keys() - self._defaults.keys() - fields.keys()
            unknown = fields.keys() - self._types.keys()
            if missing or unknown:
                raise TypeError(f"{type(self).__name__}: missing {sorted(missing)}, unknown {sorted(unknown)}")
            copies = {name: default.copy() for name, default in self._copied.items()}
            fields = self._defaults | copies | fields
        self.__dict__.update({name: fields[name] for name in self._types})  # in the order of the declaration

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def replace(self, **fields: Any) -> Self:
        """Return a copy with these fields replaced."""
        return type(self)(**(self.__dict__ | fields))

    @classmethod
    def from_json(cls, found: object, **fields: Any) -> Self:
        """Return a record from decoded JSON. Unknown members, of other versions, are ignored; `fields` are added.

        Raises: ValueError if it is not an object, lacks a member or has one of another type.
        """
        if not isinstance(found, dict):
            raise ValueError(f"{cls.__name__} is not an object")
        types = cls._types
        if fields:
            found = found | fields
        fields = {name: found[name] for name in types if name in found}
        for name, value in fields.items():
            if type(value) not in types[name] and not isinstance(value, FrozenRecord):
                raise ValueError(f"{cls.__name__}.{name} is of type {type(value).__name__}")
        if len(fields) == len(types):  # the common case, and `status` reads hundreds
            made = cls.__new__(cls)
            made.__dict__.update(fields)
            return made
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(str(error)) from error


def to_json(answer: FrozenRecord | Mapping[str, Any]) -> str:
    """Return a record as one line of JSON, with the members in the order of their declaration."""
    return _JSON_ENCODER.encode(answer)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return a decoded JSON object. Raises: ValueError if it is not an object."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
