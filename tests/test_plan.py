import subprocess
import sys

import pytest
from toys import Counter, Number

from mome import plan as planning
from mome import store
from mome.plan import describe_plan, make_plan


def diamond():
    left, right = Number(2, parts=(Number(1),)), Number(3, parts=(Number(1),))
    return Number(4, parts=(left, right))


def values(recipes):
    return [recipe.value for recipe in recipes]


def test_a_plan_holds_what_is_missing_parents_first_each_once_and_no_parent_of_what_is_there(own_home):
    assert values(make_plan([diamond(), Number(1)]).missing) == [1, 2, 3, 4]
    Number(1).keep()
    Number(2, parts=(Number(1),)).keep()
    found = make_plan(diamond())
    assert values(found.there) == [2, 1] and values(found.missing) == [3, 4]


def test_the_critical_path_is_the_longest_chain_and_comes_first(own_home, monkeypatch):
    monkeypatch.setattr(Number, "work", lambda self: {1: 1e10, 2: 5e11, 3: 1e9, 4: 1e9, 9: 1e11}[self.value])
    found = make_plan([diamond(), Number(9)])
    assert values(found.chain) == [1, 2, 4]
    priority = found.priority()
    order = sorted(found.missing, key=lambda recipe: -priority[recipe.name])
    assert values(order) == [1, 2, 9, 3, 4]


def test_a_build_takes_what_workers_take_that_always_choose_the_longest_chain(own_home, monkeypatch):
    monkeypatch.setattr(planning, "SECONDS_PER_TASK", 0)
    monkeypatch.setattr(planning, "SECONDS_TO_START", 5)
    monkeypatch.setattr(Number, "work", lambda self: self.value * planning.FLOPS_PER_SECOND)
    chain = Number(3, parts=(Number(4),))  # 7 seconds
    found = make_plan([Number(2), Number(6), chain])
    # Two workers: 4 and 6 first; at 4 the chain goes on to 7, at 6 the other takes 2 until 8.
    assert [found.wall(workers) for workers in (1, 2, 3, 8)] == [5 + 15, 5 + 8, 5 + 7, 5 + 7]
    assert make_plan([]).wall(2) == 0


def test_minutes_follow_what_this_store_took_for_the_kind(own_home, monkeypatch):
    before = make_plan(Number(2)).seconds[Number(2).name]
    monkeypatch.setattr(Number, "work", lambda self: 1e6)
    Number(1, seconds=0.2).keep()
    seconds = make_plan(Number(2)).seconds[Number(2).name]
    assert seconds == pytest.approx(0.2 + planning.SECONDS_PER_TASK, abs=0.1) and seconds != before


def test_minutes_follow_whole_builds_and_not_the_last_part_of_an_interrupted_one(own_home, tmp_path):
    log, before = str(tmp_path / "log"), make_plan(Counter(9)).seconds
    part = Counter(2, log=log)
    (store.prepare_aside(part.name, goes_on=True) / "checkpoint.safetensors").write_text("1")
    part.keep()
    assert make_plan(Counter(9)).seconds == before
    Counter(3, log=log).keep()
    assert make_plan(Counter(9)).seconds != before


def test_minutes_on_a_gpu_follow_what_was_built_on_one_for_what_takes_one(own_home, monkeypatch):
    def plan_seconds():
        return make_plan(Number(9)).seconds[Number(9).name] - planning.SECONDS_PER_TASK

    monkeypatch.setattr(Number, "work", lambda self: 6e13)
    here = plan_seconds()
    monkeypatch.setattr(planning, "find_gpus", lambda: "1 x H100")
    assert plan_seconds() == pytest.approx(here)
    monkeypatch.setattr(Number, "device", "gpu")
    assert plan_seconds() == pytest.approx(here * planning.FLOPS_PER_SECOND / planning.GPU_FLOPS_PER_SECOND)
    for gpu, seconds in (("", 7.0), ("1 x H100", 3.0)):
        built = Number(len(gpu))
        built.keep()
        path = built.folder / "manifest.json"
        manifest = store.read_json(path)
        store.write_json(path, manifest | {"seconds": seconds, "machine": {"gpu": gpu}})
    assert plan_seconds() == pytest.approx(3)
    monkeypatch.setattr(planning, "find_gpus", lambda: "")
    assert plan_seconds() == pytest.approx(7)


def test_a_plan_says_what_is_missing_how_long_it_takes_and_the_disk(own_home):
    text = describe_plan(make_plan(diamond()), 2)
    assert "0 there, 4 to build" in text and "4 number" in text and "minutes with 2 workers" in text
    assert "GB of disk" in text and "critical path" in text and not own_home.exists()
    Number(1).keep()
    assert describe_plan(make_plan(Number(1)), 2) == "nothing to build: all 1 are there"


def test_a_plan_of_the_whole_workbook_s_recipes_loads_no_torch(own_home):
    code = """
import sys
from mome.recipes.forgetting import make_moe_stages, score_stages
from mome.recipes.modular import MOE_VARIANTS, RoutedMoE
from mome.recipes.setting import open_setting
from mome.recipes.switches import Switches, find_added
from mome.plan import describe_plan, make_plan
setting = open_setting("smoke", "mini", ["en", "fr", "de", "py"])
needs = [Switches.of(setting, variant, 0, [8]) for variant in MOE_VARIANTS], find_added(setting, "es")
describe_plan(make_plan([*needs, score_stages(setting, make_moe_stages(setting, "PLE", ["en", "fr"]))]), 2)
loaded = {"torch", "transformers", "datasets", "sklearn"} & set(sys.modules)
assert not loaded, f"a plan loaded {loaded}, which only builds need"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
