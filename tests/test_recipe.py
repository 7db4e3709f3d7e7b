import json
from dataclasses import dataclass, field, replace

import pytest
from toys import Number, Wish

from mome.recipe import Recipe, collect, list_ancestors, location, read_spec, write_spec
from mome.scales import Shape


@dataclass(frozen=True)
class Thing(Recipe):
    number: float = 1.0
    names: tuple[str, ...] = ("a",)
    shape: Shape = field(default_factory=lambda: Shape(1, 1, 8))
    parent: Recipe | None = None
    parts: tuple[Recipe, ...] = ()
    where: str = location()


def test_a_name_is_the_kind_and_a_hash_that_every_field_a_parent_s_change_and_the_format_change(monkeypatch):
    thing = Thing()
    assert thing.name.startswith("thing-") and len(thing.name) == len("thing-") + 12
    others = [Thing(2), Thing(names=["b"]), Thing(shape=Shape(2, 1, 8)), Thing(parent=Number(1)),
              Thing(parent=Number(2)), Thing(parts=[Number(1)]), Thing(parts=[Number(1), Number(2)]),
              Thing(parts=[Number(2), Number(1)])]
    assert len({thing.name, *(other.name for other in others)}) == 1 + len(others)
    assert Thing(parent=Thing(parent=Number(1))).name != Thing(parent=Thing(parent=Number(2))).name
    before = Thing().name
    monkeypatch.setattr(Thing, "format", 2)
    assert Thing().name != before
    assert Number(1).name.partition("-")[2] != Wish(1).name.partition("-")[2]


def test_the_form_of_a_value_and_where_a_thing_lies_do_not_change_its_name():
    assert Thing(2).name == Thing(2.0).name
    assert Thing(names=["a"]).name == Thing(names=("a",)).name
    assert Thing(where="/here").name == Thing(where="/there").name


def test_parents_are_the_recipes_among_the_fields_and_needs_and_ancestors_come_once_parents_first():
    thing = Thing(parent=Number(1), parts=(Number(2), Number(3)))
    found = {label: parent.value for label, parent in thing.parents().items()}
    assert found == {"parent": 1, "parts.0": 2, "parts.1": 3}
    needs = {"a": [Number(1), (Number(2), None)], "b": {"c": Number(1.0)}}
    assert [recipe.value for recipe in collect(needs)] == [1, 2]
    with pytest.raises(ValueError, match="'x', which is no recipe"):
        collect(["x"])
    shared = Number(1)
    top = Number(4, parts=(Number(2, parts=(shared,)), Number(3, parts=(shared,))))
    assert [recipe.value for recipe in list_ancestors([top])] == [1, 2, 3, 4]


def test_a_recipe_travels_as_json_and_comes_back_equal():
    thing = Number(4, parts=(Number(2, parts=(Number(1),)), Number(1)), log="/tmp/log")
    text = write_spec(thing)
    assert read_spec(text) == thing and read_spec(text).name == thing.name
    assert read_spec(text).log == "/tmp/log"  # where it lies travels, though it is in no name
    assert len(json.loads(text)) == 3  # a shared parent travels once


def test_what_is_no_recipe_or_of_other_code_does_not_come_back(monkeypatch):
    with pytest.raises(ValueError, match="pathlib:Path is no recipe"):
        read_spec(json.dumps({"x-1": {"class": "pathlib:Path", "fields": {}}}))
    text = write_spec(Number(1))
    monkeypatch.setattr(Number, "format", 2)
    with pytest.raises(ValueError, match="same version"):
        read_spec(text)


def test_a_kept_recipe_is_built_once_and_its_manifest_says_what_it_is(own_home, tmp_path):
    part, log = Number(1), tmp_path / "log"
    thing = replace(Number(2, parts=(part,)), log=str(log))
    part.keep()
    assert not thing.is_there
    thing.keep()
    thing.keep()
    assert thing.is_there and thing.open() == 3 and len(log.read_text().splitlines()) == 1
    manifest = thing.manifest
    assert manifest["kind"] == "number" and manifest["fields"]["value"] == 2
    assert manifest["notes"] == {"total": 3.0}
    assert manifest["parents"] == {"parts.0": part.name} and "log" not in manifest["fields"]
