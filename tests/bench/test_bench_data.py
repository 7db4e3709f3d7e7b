"""What benchmarks measure of a process."""

import sys
from types import SimpleNamespace

import psutil

from mome.bench.data import measure_peak


def test_the_peak_of_memory_is_in_bytes_and_at_least_what_is_held_now():
    before, block = measure_peak(), bytes(64_000_000)
    now = psutil.Process().memory_info().rss
    assert 0.9 * now <= measure_peak() <= max(before, 2 * now) + len(block)


def test_without_resource_the_peak_is_that_of_the_working_set_on_windows(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert measure_peak() == 123
