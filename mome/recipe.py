"""A recipe: a thing declared as plain data, named by its values, built once, opened by whoever reads it."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from mome import store
from mome.checks import is_number
from mome.values import Values


@dataclasses.dataclass(frozen=True)
class Recipe(Values):
    """What is to be built, as a frozen dataclass: its fields are the values that it uses, no others.

    A field that is a recipe, or a tuple of recipes, is a parent, built before. `name` is `<kind>-<hash>` of
    kind, format, fields and the parents' names; a field made by `location` says where something lies and is
    left out. `format` is raised when code changes what a kind is: old folders stay, but are no longer found.
    """

    format: ClassVar[int] = 1
    device: ClassVar[str] = "cpu"  # "gpu": takes a GPU where there is one
    goes_on: ClassVar[bool] = False  # a build goes on from what an interrupted one left in its folder
    only_reads: ClassVar[bool] = False  # takes parents of which a bundle left out what nobody reads
    is_optional: ClassVar[bool] = False  # when it cannot be built, what needs it is built all the same
    shown: ClassVar[tuple[str, ...]] = ()  # the fields that its title names

    def build(self, folder: Path) -> dict | None:
        """Fill an empty folder, or go on from the checkpoint in it; return notes for the manifest."""
        raise NotImplementedError

    def open(self):
        """Return what a reader gets. Raises NotBuilt when it is not there."""
        raise NotImplementedError

    def work(self) -> float:
        """Return about how many floating-point operations a build takes, to tell minutes beforehand."""
        return 6e10

    def size(self) -> float:
        """Return about how many bytes the built folder has."""
        return 1e6

    @classmethod
    def kind(cls) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    @functools.cached_property
    def name(self) -> str:
        return f"{self.kind()}-{store.content_hash([self.kind(), self.format, self.plain_fields()])}"

    @property
    def title(self) -> str:
        """A few words for people: what stands in plans and progress lines."""
        words = (show(name, getattr(self, name)) for name in self.shown)
        return " ".join([self.kind().replace("_", " "), *filter(None, words)])

    def plain_fields(self) -> dict:
        """Return the fields as JSON values, parents as their names, locations left out."""
        return {field.name: to_plain(getattr(self, field.name)) for field in dataclasses.fields(self)
                if not field.metadata.get("is_location")}

    def parents(self) -> dict[str, Recipe]:
        """Return {field, or field.number: recipe}, in the order of the fields."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            parts = enumerate(value) if isinstance(value, tuple) else ()
            found |= {field.name: value, **{f"{field.name}.{place}": part for place, part in parts}}
        return {label: value for label, value in found.items() if isinstance(value, Recipe)}

    @property
    def is_there(self) -> bool:
        return store.is_there(self.name)

    @property
    def is_whole(self) -> bool:
        """True when it is there with all that others are made from: a bundle leaves out large weights."""
        return store.is_whole(self.name)

    @property
    def folder(self) -> Path:
        """The built folder, checked; NotBuilt when it is not there."""
        return store.find(self.name)

    @property
    def manifest(self) -> dict:
        return store.read_manifest(self.folder)

    @property
    def notes(self) -> dict:
        return self.manifest["notes"]

    def keep(self) -> Path:
        """Build this recipe into the store, or find it; its parents must be there."""
        parents = {label: parent.name for label, parent in self.parents().items()}
        about = {"kind": self.kind(), "format": self.format, "title": self.title, "work": self.work(),
                 "fields": self.plain_fields(), "parents": parents}
        return store.keep(self.name, about, self.build, self.goes_on)


@dataclasses.dataclass(frozen=True)
class Table(Recipe):
    """A recipe whose result is a table, or several: `tabulate` returns a DataFrame, or a dict of them."""

    def tabulate(self):
        raise NotImplementedError

    def build(self, folder: Path) -> None:
        tables = self.tabulate()
        for name, table in (tables if isinstance(tables, dict) else {"table": tables}).items():
            table.to_parquet(folder / f"{name}.parquet")

    def open(self):
        """Return the table, or {name: table}."""
        import pandas as pd

        tables = {path.stem: pd.read_parquet(path) for path in sorted(self.folder.glob("*.parquet"))}
        return tables["table"] if list(tables) == ["table"] else tables


def show(name: str, value) -> str:
    """Return a field's value in a title: numbers with their name, defaults such as 0 left out."""
    if isinstance(value, Recipe):
        return f"of {value.title}"
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return (f"{name} {value:g}" if is_number(value) else str(value)) if value else ""


def location(default: str = ""):
    """Return a field that says where something lies, not what it is: it stays out of the name."""
    return dataclasses.field(default=default, metadata={"is_location": True}, compare=False)


def to_plain(value, name: Callable = lambda recipe: recipe.name):
    """Return a field's value as JSON values, recipes by their names."""
    if isinstance(value, Recipe):
        return name(value)
    if isinstance(value, Values):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [to_plain(item, name) for item in value] if isinstance(value, tuple) else value


def collect(needs) -> list[Recipe]:
    """Return the recipes within any nesting of dicts, lists and tuples, each once, in order."""
    found: dict[str, Recipe] = {}
    for _, recipe in walk_needs(needs):
        found.setdefault(recipe.name, recipe)
    return list(found.values())


def walk_needs(needs, keys: tuple = ()) -> Iterator[tuple[tuple, Recipe]]:
    """Yield (keys of the dicts that hold it, a tuple's parts each, recipe); ValueError for what is none."""
    if isinstance(needs, Recipe):
        yield keys, needs
    elif isinstance(needs, dict):
        for key, value in needs.items():
            yield from walk_needs(value, keys + (key if isinstance(key, tuple) else (key,)))
    elif isinstance(needs, list | tuple | None):
        for value in needs or ():
            yield from walk_needs(value, keys)
    else:
        raise ValueError(f"needs hold {needs!r}, which is no recipe; give recipes in dicts and lists")


def list_ancestors(recipes: list[Recipe], is_end: Callable = lambda recipe: False) -> Iterator[Recipe]:
    """Yield the recipes and what they are made from, once, parents first; none behind one that `is_end`."""
    done: set[str] = set()

    def walk(recipe: Recipe) -> Iterator[Recipe]:
        if recipe.name in done:
            return
        done.add(recipe.name)
        for parent in [] if is_end(recipe) else recipe.parents().values():
            yield from walk(parent)
        yield recipe

    for recipe in recipes:
        yield from walk(recipe)


def write_spec(recipe: Recipe) -> str:
    """Return a recipe with all its parents as JSON, each once, named where used: what travels to a worker."""
    nodes = {}
    for node in list_ancestors([recipe]):
        values = {field.name: to_plain(getattr(node, field.name), lambda parent: {"recipe": parent.name})
                  for field in dataclasses.fields(node)}
        nodes[node.name] = {"class": f"{type(node).__module__}:{type(node).__qualname__}", "fields": values}
    return json.dumps(nodes, ensure_ascii=False)


def read_spec(text: str) -> Recipe:
    """Return the recipe that `write_spec` wrote; ValueError for what is no recipe, or one of other code."""
    made: dict[str, Recipe] = {}

    def resolve(value):
        if isinstance(value, dict) and set(value) == {"recipe"}:
            return made[value["recipe"]]
        return [resolve(item) for item in value] if isinstance(value, list) else value

    for name, node in json.loads(text).items():
        module, _, qualname = node["class"].partition(":")
        kind = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
        if not (isinstance(kind, type) and issubclass(kind, Recipe)):
            raise ValueError(f"{node['class']} is no recipe")
        recipe = made[name] = kind(**{field: resolve(value) for field, value in node["fields"].items()})
        if recipe.name != name:
            raise ValueError(f"{name} is {recipe.name} here; both sides must run the same version of mome")
    return recipe
