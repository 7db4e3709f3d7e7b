import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import psutil
import pytest
from papermill.exceptions import PapermillExecutionError

from mome import execute, runs, sweep
from mome.__main__ import main
from tests.toy import write_notebook


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sweep, "prepare", lambda parameters: None)  # the toy needs no data


@pytest.fixture
def toy(tmp_path):
    return write_notebook(tmp_path)


def plan_toy(toy, out, **grid):
    return sweep.plan_sweep({"notebooks": [{"notebook": str(toy), "grid": grid}]}, out)


def squares(folder):
    return sorted(json.loads(path.read_text())["metrics"]["square"] for path in folder.glob("*/metrics.json"))


def executions(log):
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def test_a_grid_is_the_product_of_its_values_and_each_run_has_a_folder_of_its_own(toy, tmp_path):
    planned = plan_toy(toy, tmp_path / "out", x=[1, 2], seed=[0, 1, 2], act=["work"])[1]
    assert [(run.given["x"], run.given["seeds"]) for run in planned] == [(x, [seed]) for x in (1, 2) for seed in (0, 1, 2)]
    assert len({run.folder for run in planned}) == 6
    assert planned[0].title == "09_toy x=1 seeds=[0]"


def test_a_default_written_out_is_the_same_run_and_another_value_or_another_code_is_not(toy, tmp_path):
    name = plan_toy(toy, tmp_path, seed=[0])[1][0].folder
    assert plan_toy(toy, tmp_path, seeds=[[0]], x=[1])[1][0].folder == name
    assert plan_toy(toy, tmp_path, seeds=[[0]], x=[2])[1][0].folder != name
    toy.write_text(toy.read_text().replace("else 0.2", "else 0.1"))
    assert plan_toy(toy, tmp_path, seed=[0])[1][0].folder != name


def test_the_same_plan_finds_the_same_folder_without_being_told(toy):
    assert plan_toy(toy, None, x=[1, 2])[0] == plan_toy(toy, None, x=[2, 1])[0]
    assert plan_toy(toy, None, x=[1, 2])[0] != plan_toy(toy, None, x=[1, 3])[0]


def test_values_are_read_with_commas_between_and_lists_in_brackets():
    assert sweep.read_grid(["alpha=0,0.25", "losses=[forward_kl],[jsd, skew_kl]", "scale=smoke", "overrides={context: 32}"]) == {
        "alpha": [0, 0.25], "losses": [["forward_kl"], ["jsd", "skew_kl"]], "scale": ["smoke"], "overrides": [{"context": 32}]}


def test_a_notebook_comes_after_those_that_it_needs(tmp_path):
    first, second = write_notebook(tmp_path, "08_first"), write_notebook(tmp_path, "07_second")
    _, planned = sweep.plan_sweep({"notebooks": [{"notebook": str(second), "needs": [str(first)], "grid": {"x": [1, 2]}}, {"notebook": str(first)}]}, tmp_path)
    assert [(run.notebook.stem, run.stage) for run in planned] == [("08_first", 0), ("07_second", 1), ("07_second", 1)]


@pytest.mark.parametrize(("words", "said"), [
    (["03", "-p", "alhpa=0,1"], ["'alhpa'", "alphas"]),
    (["03", "-p", "alpha=0,1.5"], ["alphas=1.5", "[0, 1]"]),
    (["03", "-p", "alpha=0,0"], ["2 equal runs"]),
    (["03", "-p", "alpha=0", "-p", "alphas=[1]"], ["'alphas'", "twice"]),
    (["03", "-p", "alpha=0", "-p", "alpha=1"], ["'alpha'", "twice"]),
    (["03", "-p", "alphas=0.5"], ["alphas=0.5", "list"]),
    (["03", "-p", "alpha"], ["'alpha'", "NAME=V"]),
    (["03", "-p", "alpha=[0"], ["alpha", "YAML"]),
    (["03", "-p", "out=here"], ["'out'", "--out"]),
    (["03", "--jobs", "0"], ["jobs=0"]),
    (["03", "--backend", "spark"], ["'spark'", "loky, dask, ray"]),
    (["0"], ["notebook='0'", "03_kd_alpha"]),
    (["nowhere.ipynb"], ["'nowhere.ipynb'", "does not exist"]),
    (["nowhere.yaml"], ["'nowhere.yaml'", "does not exist"]),
    (["bad.yaml"], ["notebooks"]),
    (["odd.yaml"], ["'notbooks'"]),
    (["circle.yaml"], ["circle"]),
    (["needs.yaml"], ["05_catastrophic_forgetting", "no notebooks of this sweep"]),
    (["two.yaml"], ["'alpha'", "a value and a grid"]),
    (["unused.yaml"], ["'temprature'"]),
    (["code.yaml"], ["YAML"]),
    (["deep.yaml"], ["YAML"]),
    (["itself.yaml"], ["aliases"]),
    (["laughs.yaml"], ["aliases"]),
    (["03", "-p", f"alpha={','.join(str(n / 1000) for n in range(1000))}", "-p", f"seed={','.join(map(str, range(1000)))}"], ["1,000,000 runs"])])
def test_a_bad_sweep_exits_with_code_2_and_one_line_before_anything_runs(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "execute_run", None)
    for name, text in {"bad": "[1, 2]", "odd": "notbooks: []\nnotebooks: [{notebook: '03'}]",
                       "circle": "notebooks: [{notebook: '03', needs: ['02']}, {notebook: '02', needs: ['03']}]",
                       "needs": "notebooks: [{notebook: '03', needs: ['05']}]",
                       "two": "notebooks: [{notebook: '03', parameters: {alpha: 1}, grid: {alpha: [0, 1]}}]",
                       "unused": "notebooks: [{notebook: '03'}]\nparameters: {temprature: 2.0}",
                       "deep": "notebooks: " + 5000 * "[", "itself": "notebooks: &a [*a]",
                       "laughs": "\n".join(["a: &a0 []", *(f"a{n}: &a{n} [{','.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 30))]),
                       "code": "notebooks: !!python/object/apply:os.system ['touch hacked']"}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in said), error
    assert not (tmp_path / "hacked").exists()


def test_the_example_of_a_sweep_can_be_planned():
    _, planned = sweep.plan_sweep(sweep.read_sweep(runs.repository() / "notebooks/sweep.yaml"))
    assert Counter((run.notebook.stem[:2], run.stage) for run in planned) == {("02", 0): 1, ("03", 1): 9, ("05", 1): 2}


def test_a_dry_run_shows_every_run_and_starts_none(toy, tmp_path, capsys):
    assert main(["sweep", str(toy), "-p", "x=1,2", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2 runs, 2 to run" in said
    assert "x=2" in said
    assert "no earlier run" in said
    assert "GB free" in said
    assert not (tmp_path / "out").exists()


def test_more_memory_than_there_is_is_said_with_the_plan(toy, tmp_path, monkeypatch):
    folder, planned = plan_toy(toy, tmp_path / "out", x=[1, 2])
    assert sweep.run_sweep(folder, planned[:1]) == {"complete": 1}
    path = planned[0].folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"peak_gigabytes": 3.0}))
    monkeypatch.setattr(sweep.psutil, "virtual_memory", lambda: SimpleNamespace(available=4e9))
    assert "careful" not in sweep.describe_plan(planned, 1, False)
    assert "up to 3.0 GB of memory each, and 4.0 GB are there for 2" in sweep.describe_plan(planned, 2, False)


def test_runs_go_once_in_pinned_threads_and_are_found_the_next_time_failed_ones_wait_to_be_asked_for(toy, tmp_path, capsys):
    out, log = tmp_path / "out", tmp_path / "log"
    command = ["sweep", str(toy), "-p", "x=1,2", "-p", "act=work,raise once", "-p", f"log={log}", "--out", str(out), "--jobs", "2", "--keep-going"]
    assert main(command) == 1
    assert sorted(executions(log).values()) == [1, 1, 1, 1]
    assert {line.split()[1] for line in log.read_text().splitlines()} == {str(max(1, os.cpu_count() // 2))}
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "2 complete, 2 failed, 0 to run" in said
    assert "cell 5: ArithmeticError: only this once" in said
    assert sum(executions(log).values()) == 4
    assert main([*command, "--retry-failed"]) == 0
    assert sorted(executions(log).values()) == [1, 1, 2, 2]
    assert squares(out) == [1, 1, 4, 4]
    events = [entry["event"] for entry in sweep.Ledger(out / "ledger.jsonl").read()]
    assert Counter(events) == {"sweep": 3, "end": 3, "complete": 4, "failed": 2}
    assert "9 to run" not in (report := (out / "report.html").read_text())
    assert "http" not in report.replace("http-equiv", "")


def test_a_failure_keeps_further_runs_from_starting_unless_asked_to_go_on(toy, tmp_path):
    folder, planned = plan_toy(toy, tmp_path / "out", act=["raise", "work"], x=[1, 2])
    assert sweep.run_sweep(folder, planned, jobs=1) == {"failed": 1, "new": 3}
    assert sweep.run_sweep(folder, planned, jobs=1, keep_going=True) == {"complete": 2, "failed": 2}


def test_a_kernel_that_dies_is_replaced_and_one_that_always_dies_is_given_up_until_the_next_command(toy, tmp_path, capsys):
    log = tmp_path / "log"
    folder, planned = plan_toy(toy, tmp_path / "out", act=["die once", "die always"], log=[str(log)])
    for attempt in (1, 2):
        assert sweep.run_sweep(folder, planned, jobs=2, keep_going=True) == {"complete": 1, "interrupted": 1}
        assert [executions(log)[run.folder.name] for run in planned] == [2, attempt * execute.KERNEL_STARTS]
        assert "memory may have run out" in capsys.readouterr().err


def test_a_cell_that_ends_without_a_word_was_stopped_when_the_sweep_was_and_is_lost_else(toy, tmp_path, monkeypatch):
    def end(path, executing, *_):
        executing.touch()
        raise PapermillExecutionError(2, 1, "", "CellExecutionError", "", [])

    monkeypatch.setattr(execute, "run_kernel", end)
    with pytest.raises(KeyboardInterrupt):
        execute.execute_notebook(toy, tmp_path / "stopped", {}, 1, is_stopped=lambda: True)
    with pytest.raises(execute.KernelLost, match="The same command"):
        execute.execute_notebook(toy, tmp_path / "lost", {}, 1, is_stopped=lambda: False)
    assert not (tmp_path / "lost/failure.json").exists()


def test_a_kernel_that_neither_works_nor_heeds_the_interrupt_is_killed_when_the_sweep_is_stopped(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "IDLE_LOOKS", 1)
    with pytest.raises(KeyboardInterrupt, match="stopped with its kernel"):
        execute.execute_notebook(toy, tmp_path / "run", {"act": "deaf"}, 1, is_stopped=(tmp_path / "run/deaf").exists)
    assert not [process for process in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(process.cmdline())]
    assert execute.run_state(tmp_path / "run") == "interrupted"


def test_a_full_disk_fails_the_run_and_leaves_it_to_be_tried_again(toy, tmp_path):
    folder, planned = plan_toy(toy, tmp_path / "out", act=["full"])
    assert sweep.run_sweep(folder, planned) == {"failed": 1}
    assert "No space left" in execute.read_failure(planned[0].folder)["message"]


def start_sweep(toy, out, log, *words):
    code = "import sys; from mome import sweep; sweep.prepare = lambda parameters: None; from mome.__main__ import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, "sweep", str(toy), "-p", f"log={log}", "--out", str(out), *words], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition, seconds=60):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited in vain"
        time.sleep(0.05)


def is_alive(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_interrupts_the_kernels_as_a_person_would_and_the_same_command_goes_on(toy, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    words = ["-p", "act=wait", "-p", "x=1,2,3", "--jobs", "2"]
    process = start_sweep(toy, out, log, *words)
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "goes on from here" in error
    assert len(list(out.glob("*/waited"))) == 2  # the cells' own `finally` has run
    assert not any(is_alive(line.split()[2]) for line in log.read_text().splitlines())
    assert not list(out.glob("*/metrics.json"))
    for path in list(out.glob("*/config.json")):
        path.with_name("waited").touch()
    process = start_sweep(toy, out, log, "-p", "act=wait", "-p", "x=1,2", "--jobs", "2")
    assert process.wait(timeout=60) == 0, process.stderr.read()
    assert squares(out) == [1, 4]


@pytest.mark.parametrize("victim", ["parent", "kernel", "worker"])
def test_after_kill_9_the_same_command_completes_with_the_same_results(toy, tmp_path, victim):
    out, log = tmp_path / "out", tmp_path / "log"
    words = ["-p", "x=1,2,3,4", "-p", "act=linger", "--jobs", "2"]
    process = start_sweep(toy, out, log, *words)
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
    kernel = log.read_text().split()[-1]
    with open(f"/proc/{kernel}/stat") as file:
        worker = int(file.read().rpartition(")")[2].split()[1])
    os.kill({"parent": process.pid, "kernel": int(kernel), "worker": worker}[victim], signal.SIGKILL)
    process.wait(timeout=90)
    assert start_sweep(toy, out, log, *words).wait(timeout=90) == 0
    assert squares(out) == [1, 4, 9, 16]


def test_two_sweeps_at_once_share_the_work_and_run_nothing_twice(toy, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    both = [start_sweep(toy, out, log, "-p", "x=1,2,3,4") for _ in range(2)]
    assert [process.wait(timeout=90) for process in both] == [0, 0]
    assert squares(out) == [1, 4, 9, 16]
    assert set(executions(log).values()) == {1}


def test_a_cluster_of_two_dask_workers_in_processes_of_their_own_runs_a_sweep(toy, tmp_path):
    distributed = pytest.importorskip("distributed")
    out, log = tmp_path / "out", tmp_path / "log"
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        folder, planned = plan_toy(toy, out, x=[1, 2, 3], log=[str(log)])
        assert sweep.run_sweep(folder, planned, jobs=2, backend="dask", address=cluster.scheduler_address) == {"complete": 3}
    assert squares(out) == [1, 4, 9]
    assert set(executions(log).values()) == {1}


def test_a_backend_that_is_not_installed_says_what_to_install(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    folder, planned = plan_toy(toy, tmp_path / "out", x=[1])
    with pytest.raises(ValueError, match="pip install"):
        sweep.run_sweep(folder, planned, backend="ray")


def test_a_torn_line_of_the_ledger_spoils_no_other(tmp_path):
    ledger = sweep.Ledger(tmp_path / "ledger.jsonl")
    ledger.write("first", n=1)
    with open(ledger.path, "ab") as file:
        file.write(b'\n{"event": "torn", "n"')
    ledger.write("second", n=2)
    with open(ledger.path, "ab") as file:
        file.write(b"\xff\xfe\n[3]\n")
    assert [entry["event"] for entry in ledger.read()] == ["first", "second"]


def test_a_ledger_that_cannot_be_written_does_not_stop_the_sweep(toy, tmp_path, capsys):
    folder, planned = plan_toy(toy, tmp_path / "out", x=[1])
    (folder / "ledger.jsonl").mkdir(parents=True)
    assert sweep.run_sweep(folder, planned) == {"complete": 1}
    assert capsys.readouterr().err.count("ledger cannot be written") == 1


def test_a_clock_set_back_neither_mixes_two_runs_nor_repeats_one(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda *_: "20200101-000000")
    first = sweep.default_out("smoke")
    first.mkdir(parents=True)
    assert sweep.default_out("smoke") != first
    folder, planned = plan_toy(toy, tmp_path / "out", x=[1])
    sweep.run_sweep(folder, planned)
    for path in planned[0].folder.iterdir():
        os.utime(path, (4e9, 4e9))
    log = [path.read_bytes() for path in planned[0].folder.glob("metrics.json")]
    assert sweep.run_sweep(folder, planned) == {"complete": 1}
    assert [path.read_bytes() for path in planned[0].folder.glob("metrics.json")] == log


def test_runs_are_listed_filtered_and_compared_damaged_ones_as_such(toy, tmp_path, capsys):
    folder, planned = plan_toy(toy, tmp_path / "out", x=[1, 2], act=["work", "raise"])
    sweep.run_sweep(folder, planned, jobs=2, keep_going=True)
    (folder / "torn").mkdir()
    (folder / "torn/config.json").write_text('{"note')
    table = runs.read_runs([folder])
    assert Counter(table.state) == {"complete": 2, "failed": 2, "damaged": 1}
    compared = runs.compare_runs(runs.select_runs(table, {"state": "complete"}))
    assert sorted(zip(compared.x, compared.square, strict=True)) == [("1", 1), ("2", 4)]
    assert "act" not in compared
    assert main(["runs", str(folder), "--where", "x=2", "--where", "state=failed"]) == 0
    said = capsys.readouterr().out
    assert "nine does not go into four" in said
    assert said.count("09_toy-") == 2
    assert main(["runs", str(folder), "--where", "y=2"]) == 2
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "nine does not go into four" in page
    assert main(["report", str(tmp_path)]) in (0, 2)
    assert main(["report", str(tmp_path / "home")]) == 2


@pytest.mark.parametrize("command", [["sweep", "03", "-p", "scale=smoke", "-p", "corpus=mini", "--out", "/proc/nowhere"],
                                     ["run", "--scale", "smoke", "--corpus", "mini", "--out", "/proc/nowhere/x"]])
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_built(command, tmp_path, capsys):
    assert main(command) == 2
    assert "/proc/nowhere" in capsys.readouterr().err
    assert not (tmp_path / "home/data").exists()


@pytest.mark.parametrize(("words", "said"), [
    (["twin"], ["what='twin'", "teacher, student, PLE"]), (["teacher", "--scale", "big"], ["scale='big'"]), (["PLE", "--seed", "-1"], ["seed=-1"]),
    (["student", "--overrides", "{context: 1}"], ["context=1", "2"]), (["student", "--languages", "en,en"], ["repeats"])])
def test_training_one_model_checks_what_it_is_given(words, said, capsys):
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in said), error
