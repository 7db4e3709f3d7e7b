"""What a command took: memory and time of its process and of those below it."""

import json
import subprocess
import sys
import time

import pytest

from mome.provenance import find_commit
from mome.runs.meter import Meter, count_cpu_seconds, describe_meter

TAKE = "import time; taken = bytearray(b'x') * {0}; print('ready', flush=True); time.sleep(60)"


def test_the_peak_of_memory_holds_what_processes_below_took_and_outlasts_them():
    megabytes = 300
    meter = Meter(seconds=0.05)
    before = meter.measure()
    code = TAKE.format(megabytes * 10**6)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        process.kill()
    meter.ended.set()
    meter.thread.join()
    assert before + megabytes * 0.95e6 < meter.peak < before + (megabytes + 200) * 1e6


def test_core_seconds_are_those_of_processes_that_ended_below():
    before = count_cpu_seconds()
    code = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert count_cpu_seconds() - before > 0.4


def test_a_command_that_goes_on_adds_to_what_was_told_before(tmp_path):
    file = tmp_path / "command.json"
    before = {"minutes": 10.0, "cpu_minutes": 19.0, "peak_gb": 99.0, "seeds": [3]}
    file.write_text(json.dumps(before))
    told = Meter(seconds=0.05).stop(tmp_path, workers=2, scale="smoke")
    assert told == json.loads(file.read_text())
    assert told["minutes"] == pytest.approx(10, abs=0.1)
    assert (told["peak_gb"], told["scale"]) == (99, "smoke")
    assert told["commit"] == find_commit() and told["machine"]["cores"] >= 1
    line = describe_meter(told | {"minutes": 10.0, "cpu_minutes": 19.0, "memory": "PSS"})
    assert line == ("10.0 minutes with 2 workers, 19.0 core minutes (95 % of theirs), "
                    "peak of memory 99.0 GB (PSS)")
