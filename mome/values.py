"""Plain data with a type for every field: equal values become equal, whatever form they are written in."""

import dataclasses
import functools
import numbers
import types
import typing

from mome.checks import is_finite, is_number


@dataclasses.dataclass(frozen=True)
class Values:
    """A frozen dataclass whose fields are cast by their annotations when it is made.

    Lists become tuples, mappings sorted pairs, 2 becomes 2.0 in a float field; a bool is refused where a
    number is asked for. `check` raises ValueError for what the types allow and the thing does not.
    """

    def __post_init__(self):
        for name, annotation in field_types(type(self)).items():
            object.__setattr__(self, name, cast(name, getattr(self, name), annotation))
        self.check()

    def check(self) -> None:
        """Raise ValueError for values that are not allowed."""


# {type: (its name in words, whether a value will do, how it is kept)}
PLAIN = {bool: ("True or False", lambda value: isinstance(value, bool), bool),
         int: ("a whole number", lambda value: is_number(value, numbers.Integral) or (
             is_finite(value) and value == int(value)), int),  # 1e3 is one
         float: ("a finite number", is_finite, lambda value: float(value) + 0.0),  # -0.0 is 0.0
         str: ("a text", lambda value: isinstance(value, str), str),
         type(None): ("None", lambda value: value is None, lambda value: value)}


@functools.cache
def field_types(kind: type) -> dict[str, object]:
    """Return {field: its annotation} of a dataclass, annotations resolved."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def cast(name: str, value, annotation):
    """Return `value` in the form that the annotation asks for; ValueError names field, value and form."""
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for option in options:
            try:
                return cast(name, value, option)
            except ValueError:
                continue
    elif origin is tuple:
        value = sorted(value.items(), key=str) if isinstance(value, dict) else value
        if isinstance(value, list | tuple):
            kinds = options[:1] * len(value) if options[-1] is Ellipsis else options
            if len(value) == len(kinds):
                return tuple(cast(name, item, kind) for item, kind in zip(value, kinds, strict=True))
    elif annotation in PLAIN:
        _, will_do, keep = PLAIN[annotation]
        if will_do(value):
            return keep(value)
    elif isinstance(value, annotation):
        return value
    elif isinstance(value, dict) and issubclass(annotation, Values):
        return annotation(**value)
    raise ValueError(f"{name}={value!r} is not allowed; it must be {describe_type(annotation)}")


def describe_type(annotation) -> str:
    """Return a type in words, for error messages."""
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe_type, options))
    if origin is tuple:
        inner = " and ".join(dict.fromkeys(describe_type(option) for option in options if option is not ...))
        return f"a list, each {inner}" if options[-1] is Ellipsis else f"{len(options)} values, {inner}"
    return PLAIN[annotation][0] if annotation in PLAIN else f"a {annotation.__name__}"
