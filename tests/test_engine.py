import itertools
import os
import platform
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from toys import Counter, Number, Wish, start_main, wait_until

from mome import engine, store
from mome.plan import make_plan


def test_what_is_missing_is_built_once_in_one_thread_each_and_found_again(own_home, tmp_path):
    log = tmp_path / "log"
    parts = tuple(Number(value, seconds=0.3, log=str(log)) for value in (1, 2, 3, 4))
    top = Number(10, parts=parts, log=str(log))
    engine.build({"all": [top], "again": Number(1, seconds=0.3)}, workers=2,
                 tracker="tensorboard")
    assert top.open() == 20
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(value for value, *_ in lines) == ["1", "10", "2", "3", "4"]
    assert {threads for _, threads, *_ in lines} == {"1"} and len({line[2] for line in lines}) == 2
    assert {line[4] for line in lines} == {"tensorboard"}  # a training in a worker would be followed
    assert str(os.getpid()) not in {line[2] for line in lines}
    engine.build(top, workers=2)
    assert len(log.read_text().splitlines()) == 5


def test_a_recipe_that_fails_or_builds_is_named_with_its_reason_and_what_does_not_need_it_goes_on(own_home):
    bad, refused, asking = Number(1, act="raise"), Number(2, act="refuse"), Number(6, act="build")
    others = [asking, Number(7, act="misread")]
    with pytest.raises(engine.BuildFailed) as error:
        engine.build([Number(3, parts=(bad,)), refused, Number(4, parts=(Number(5),)), *others], workers=2)
    text = str(error.value)
    assert bad.name in text and "ArithmeticError: nine does not go into four (toys.py:" in text
    assert f"({refused.name}): value=9 is not allowed; it must be a number in [0, 8];" in text
    assert "JSONDecodeError: Expecting property name" in text and "(decoder.py:" in text  # no word of ours
    assert f"not tried, since {bad.name} failed" in text
    assert f"{Number(106).name} (number) is not built, and a task only looks" in text
    assert len(error.value.failures) == 5 and Number(4, parts=(Number(5),)).open() == 9


def test_what_is_optional_may_fail_and_what_it_alone_is_made_from_too(own_home, capsys):
    environment = dict(os.environ)
    wish = Wish(1, parts=(Number(2, act="raise"),))
    engine.build([Wish(3, act="raise"), wish, Number(4, parts=())], workers=1)
    assert Number(4).open() == 4 and not wish.is_there
    assert "without wish: not tried" in capsys.readouterr().err
    assert dict(os.environ) == environment
    needs = [wish, Number(5, parts=(Number(2, act="raise"),)), Number(8, parts=(Wish(3, act="raise"),))]
    with pytest.raises(engine.BuildFailed, match="not tried") as error:  # something cannot do without
        engine.build(needs, workers=1)
    assert f"{Wish(3, act='raise').name} is not built" in str(error.value)  # what may lack a wish is tried
    assert engine.find_excused(make_plan(wish)) == {wish.name, wish.parts[0].name}
    assert engine.find_excused(make_plan([wish, wish.parts[0]])) == {wish.name}


def test_recipes_of_one_name_that_lie_in_different_places_are_different_tasks(own_home):
    client = SimpleNamespace(cluster=True, processing=dict, scheduler_info=lambda: {"workers": {}},
                             submit=lambda *_, key, **options: key)
    keys = [engine.submit_tasks(client, make_plan(Number(1, log=log))) for log in ("here", "there", "here")]
    assert keys[0] == keys[2] and keys[0].keys() == keys[1].keys() and keys[0] != keys[1]


def test_a_worker_that_is_killed_loses_nothing_but_its_step(own_home, tmp_path):
    log, counter = tmp_path / "log", Counter(80, log=str(tmp_path / "log"))
    aside = store.unfinished_of(counter.name)

    def kill():
        wait_until(lambda: (aside / "checkpoint.safetensors").exists()
                   and int((aside / "checkpoint.safetensors").read_text() or 0) > 20)
        os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    engine.build(counter, workers=2)
    killer.join()
    first, second = (line.split() for line in log.read_text().splitlines())
    assert first[1] == "0" and int(second[1]) > 20 and first[2] != second[2] and counter.open() == 80


def test_a_recipe_that_kills_its_worker_again_is_explained_as_memory(own_home, tmp_path, monkeypatch):
    monkeypatch.setitem(engine.SETTINGS, "distributed.scheduler.allowed-failures", 1)
    with pytest.raises(engine.BuildFailed, match=r"process died 2 times; memory may have run out"):
        engine.build([Number(1, act="die", log=str(tmp_path / "log")), Number(2)], workers=1)
    assert Number(2).open() == 2


def test_what_another_command_builds_is_waited_for_and_then_found(own_home, tmp_path, capsys):
    counter, others = Counter(3, log=str(tmp_path / "log")), [Number(value) for value in range(4)]

    def hold():
        with store.hold(counter.name):
            wait_until(lambda: all(other.is_there for other in others))  # it does not keep their place

    waiter = threading.Thread(target=hold)
    waiter.start()
    wait_until(lambda: store.is_locked(counter.name))
    engine.build([counter, *others], workers=1)
    waiter.join()
    assert counter.open() == 3
    said = capsys.readouterr().err
    assert f"on {platform.node()} (process {os.getpid()}); this command waits for it" in said


TWO = """
import os
from toys import Number
from mome import engine
if __name__ == "__main__":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    engine.build([Number(value, seconds=0.3, log={log!r}) for value in {values}], workers=1)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_two_commands_share_the_cores_and_take_turns(own_home, tmp_path):
    log, values = tmp_path / "log", [range(6), range(6, 12)]  # more than one may do before the other is awake
    mains = [start_main(TWO.format(log=str(log), values=list(part))) for part in values]
    assert [main.wait(timeout=60) for main in mains] == [0, 0]
    words = [line.split() for line in log.read_text().splitlines()]
    lines = sorted((float(started), int(value) < 6) for value, _, _, started in words)
    assert len(lines) == 12
    assert all(late - early >= 0.3 for (early, _), (late, _) in itertools.pairwise(lines))
    assert sum(one != other for (_, one), (_, other) in itertools.pairwise(lines)) > 2


MAIN = """
from toys import Counter
from mome import engine
if __name__ == "__main__":
    engine.build(Counter(2000, log={log!r}), workers=2)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_the_main_process_is_killed(own_home, tmp_path, number):
    log = tmp_path / "log"
    main = start_main(MAIN.format(log=str(log)))
    wait_until(lambda: log.exists() and log.read_text())
    family = psutil.Process(main.pid).children(recursive=True)
    assert len(family) >= 2
    main.send_signal(number)
    main.wait()
    wait_until(lambda: all(not process.is_running() or process.status() == "zombie" for process in family), 5)
    assert not store.is_locked(Counter(2000).name)  # nothing stays in the way of the next command


def test_an_interrupt_stops_within_seconds_with_a_sentence_and_the_same_command_goes_on(own_home, tmp_path):
    log = tmp_path / "log"
    main = start_main(MAIN.format(log=str(log)))
    wait_until(lambda: log.exists() and log.read_text())
    started = time.monotonic()
    main.send_signal(signal.SIGINT)
    errors = main.communicate(timeout=20)[1]
    assert time.monotonic() - started < 10
    assert "stopped with 0 of 1 built; what is finished is kept" in errors
    assert engine.Stopped("stopped")._render_traceback_() == ["stopped"]  # all that a notebook shows
    assert (store.unfinished_of(Counter(2000).name) / "checkpoint.safetensors").exists()


CLI = """
from toys import Number
from mome import engine
from mome.cli import run
from mome.cli.main import main
if __name__ == "__main__":
    run.run_command = lambda **_: engine.build(Number(1, seconds=60, log={log!r}), workers=1)
    main(["run"])
"""


def test_a_second_interrupt_ends_the_command_at_once(own_home, tmp_path):
    log = tmp_path / "log"
    main = start_main(CLI.format(log=str(log)))
    wait_until(lambda: log.exists() and log.read_text())
    family = psutil.Process(main.pid).children(recursive=True)
    main.send_signal(signal.SIGINT)
    time.sleep(0.5)
    main.send_signal(signal.SIGINT)
    assert main.wait(timeout=2) == -signal.SIGINT
    wait_until(lambda: all(not process.is_running() or process.status() == "zombie" for process in family), 5)


@pytest.mark.parametrize("name, value", [
    ("MOME_WORKERS", "0"), ("MOME_WORKERS", "two"), ("MOME_WORKERS_PER_GPU", "-1")])
def test_a_number_of_workers_that_is_none_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}='{value}'"):
        engine.open_cluster(engine.count_workers())


def test_there_is_a_worker_a_core_without_affinity_and_gpus_are_those_that_the_user_shows(monkeypatch):
    monkeypatch.delenv("MOME_WORKERS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert engine.count_workers() == os.cpu_count()
    for given, gpus in (("", []), ("-1", []), ("3", ["3"]), ("a, 1", ["a", "1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert engine.list_gpus() == gpus


@pytest.mark.parametrize("given, seen", [({}, ["0", "1", "0", "1", "", "", ""]),
                      ({"MOME_WORKERS_PER_GPU": "1"}, ["0", "1", "", "", "", "", ""])])
def test_a_gpu_has_as_many_workers_as_the_environment_says(monkeypatch, own_home, given, seen):
    for name, value in {"CUDA_VISIBLE_DEVICES": "0,1", **given}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("distributed.SpecCluster", lambda specs, scheduler, **options: specs)
    options = [spec["options"] for spec in engine.open_cluster(7).values()]
    assert [option["env"]["CUDA_VISIBLE_DEVICES"] for option in options] == seen
    assert [bool(option.get("resources")) for option in options] == [bool(gpu) for gpu in seen]


def test_the_version_of_the_code_follows_every_file_of_it(monkeypatch, tmp_path):
    for name in ("a.py", "wing/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(engine, "__file__", str(tmp_path / "engine.py"))
    hashes = set()
    for content in ("x = 1\n", "x = 2\n"):
        Path(tmp_path / "wing/b.py").write_text(content)
        hashes.add(engine.hash_package.__wrapped__())
    assert len(hashes) == 2


def test_recipes_are_built_here_without_a_cluster(own_home):
    top = Number(3, parts=(Number(1), Number(2)))
    engine.build_here(top)
    assert top.open() == 6 and not make_plan(top).missing
