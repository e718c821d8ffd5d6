"""Attributes that a value is put into, and that get back exactly what they held."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["MISSING", "Attribute", "Replaced"]

#: what an attribute holds that is inherited, or is not there
MISSING = object()


class Attribute(NamedTuple):
    """An attribute of a module or a class."""

    owner: Any
    name: str

    def value(self) -> Any:
        """Return what the owner itself holds."""
        return vars(self.owner).get(self.name, MISSING)

    def put(self, value: Any) -> None:
        if value is MISSING:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, value)


class Replaced(NamedTuple):
    """An attribute, what it held before, and what it holds now."""

    place: Attribute
    before: Any
    ours: Any

    @classmethod
    def by(cls, place: Attribute, ours: Any) -> Replaced:
        found = cls(place, place.value(), ours)
        place.put(ours)
        return found

    def undo(self) -> None:
        """Put back what was there; what somebody else has put there since is theirs, and stays."""
        if self.place.value() is self.ours:
            self.place.put(self.before)
