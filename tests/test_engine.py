import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from toys import Counter, Number, Wish

from mome import engine, store
from mome.plan import make_plan


def wait_until(is_so, seconds=30):
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.05)


def test_what_is_missing_is_built_once_in_one_thread_each_and_found_again(own_home, tmp_path):
    log = tmp_path / "log"
    parts = tuple(Number(value, seconds=0.3, log=str(log)) for value in (1, 2, 3, 4))
    top = Number(10, parts=parts, log=str(log))
    engine.build({"all": [top], "again": Number(1, seconds=0.3)}, workers=2)
    assert top.open() == 20
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(value for value, _, _ in lines) == ["1", "10", "2", "3", "4"]
    assert {threads for _, threads, _ in lines} == {"1"} and len({pid for _, _, pid in lines}) == 2
    assert str(os.getpid()) not in {pid for _, _, pid in lines}
    engine.build(top, workers=2)
    assert len(log.read_text().splitlines()) == 5


def test_a_recipe_that_fails_or_builds_is_named_with_its_reason_and_what_does_not_need_it_goes_on(own_home):
    bad, refused, asking = Number(1, act="raise"), Number(2, act="refuse"), Number(6, act="build")
    with pytest.raises(engine.BuildFailed) as error:
        engine.build([Number(3, parts=(bad,)), refused, Number(4, parts=(Number(5),)), asking], workers=2)
    text = str(error.value)
    assert bad.name in text and "ArithmeticError: nine does not go into four (toys.py:" in text
    assert "value=9 is not allowed here" in text and f"not tried, since {bad.name} failed" in text
    assert f"{Number(106).name} (number) is not built, and a task only looks" in text
    assert len(error.value.failures) == 4 and Number(4, parts=(Number(5),)).open() == 9


def test_what_is_optional_may_fail_and_what_it_alone_is_made_from_too(own_home, capsys):
    wish = Wish(1, parts=(Number(2, act="raise"),))
    engine.build([Wish(3, act="raise"), wish, Number(4, parts=())], workers=1)
    assert Number(4).open() == 4 and not wish.is_there
    assert "without wish: not tried" in capsys.readouterr().err
    with pytest.raises(engine.BuildFailed, match="not tried"):  # something cannot do without
        engine.build([wish, Number(5, parts=(Number(2, act="raise"),))], workers=1)
    assert engine.find_excused(make_plan(wish)) == {wish.name, wish.parts[0].name}
    assert engine.find_excused(make_plan([wish, wish.parts[0]])) == {wish.name}


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


def test_what_another_command_builds_is_waited_for_and_then_found(own_home, tmp_path):
    counter, others = Counter(3, log=str(tmp_path / "log")), [Number(value) for value in range(4)]
    lock = FileLock(store.lock_of(counter.name).lock_file, thread_local=False)
    lock.acquire()

    def release():
        wait_until(lambda: all(other.is_there for other in others))  # it does not keep their place
        lock.release()

    waiter = threading.Thread(target=release)
    waiter.start()
    engine.build([counter, *others], workers=1)
    waiter.join()
    assert counter.open() == 3


def start_main(code, **environment):
    environment = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


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
    assert (store.unfinished_of(Counter(2000).name) / "checkpoint.safetensors").exists()


def test_in_a_notebook_an_interrupt_is_one_sentence_and_no_traceback():
    assert engine.Stopped("stopped with 1 of 2 built")._render_traceback_() == ["stopped with 1 of 2 built"]


def test_workers_elsewhere_share_the_store_or_are_refused(own_home, tmp_path, monkeypatch):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster:
        address = cluster.scheduler_address
        engine.build(Number(1), scheduler=address)
        assert Number(1).open() == 1
        monkeypatch.setattr(engine, "hash_package", lambda: "0" * 12)
        with pytest.raises(ValueError, match="runs other code of mome"):
            engine.build(Number(2), scheduler=address)


def test_a_worker_that_does_not_see_the_store_is_refused(own_home, monkeypatch):
    class Client:
        class scheduler:
            address = "tcp://nowhere:1"

        def run(self, function, path):
            read = Path(path).read_text() if self.place == "elsewhere" else ""
            return {"tcp://there:2": (read, self.place, engine.hash_package())}

    for Client.place in ("elsewhere", str(store.store_dir())):  # another MOME_HOME; another disk
        with pytest.raises(ValueError, match=r"tcp://there:2 does not see .*store"):
            engine.check_workers(Client())
    monkeypatch.setattr(Client, "run", lambda *_: {})
    with pytest.raises(ValueError, match="has no workers"):
        engine.check_workers(Client())


@pytest.mark.parametrize(("given", "gpus"), [("", []), ("-1", []), ("3", ["3"]), ("a, 1", ["a", "1"])],
                         ids=["empty", "none", "one", "named"])
def test_the_gpus_are_those_that_the_user_shows(monkeypatch, given, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert engine.list_gpus() == gpus


@pytest.mark.parametrize("name", ["MOME_WORKERS", "MOME_WORKERS_PER_GPU"])
@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_a_number_of_workers_that_is_none_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}='{value}'"):
        engine.open_cluster(engine.count_workers())


def test_there_is_a_worker_a_core_where_no_affinity_is_known(monkeypatch):
    monkeypatch.delenv("MOME_WORKERS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert engine.count_workers() == os.cpu_count()


@pytest.mark.parametrize(("given", "seen"), [({}, ["0", "1", "0", "1", "", "", ""]),
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
