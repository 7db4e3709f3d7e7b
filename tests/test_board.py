"""What a build says of the time that is left."""

import pytest

from mome import board
from mome.board import PRIOR_SECONDS, Board

PLANNED = {"data": 10.0, "teacher": 9_000.0, "student": 990.0}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, a list of its one time."""
    time = [0.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: time[0])
    return time


def test_what_is_left_is_the_plan_where_nothing_has_been_built_and_nothing_in_the_end(clock):
    shown = Board(PLANNED, wall=8_000.0)
    assert shown.estimate_left() == 8_000.0
    for name in PLANNED:
        shown.note({"name": name, "state": "running"})
        clock[0] += PLANNED[name]
        shown.note({"name": name, "state": "built"})
    assert shown.estimate_left() == pytest.approx(0)


def test_a_machine_faster_than_the_plan_is_noticed_within_its_first_long_training(clock):
    shown = Board(PLANNED, wall=10_000.0)
    shown.note({"name": "teacher", "title": "teacher", "state": "running"})
    shown.note({"name": "teacher", "done": 0, "total": 100, "note": ""})
    clock[0] += 9.0
    shown.note({"name": "teacher", "done": 10, "total": 100, "note": ""})  # 900 planned seconds in 9
    assert shown.estimate_left() == pytest.approx(9_100 * (PRIOR_SECONDS + 9) / (PRIOR_SECONDS + 900))


def test_neither_waiting_nor_steps_before_a_checkpoint_nor_what_others_built_count_as_speed(clock):
    shown = Board(PLANNED, wall=10_000.0)
    shown.note({"name": "data", "state": "built"})
    shown.note({"name": "teacher", "note": "waits for a core"})
    clock[0] += 500.0
    shown.note({"name": "teacher", "state": "running", "note": ""})
    shown.note({"name": "teacher", "done": 50, "total": 100, "note": ""})  # as its checkpoint says
    clock[0] += 900.0
    shown.note({"name": "teacher", "done": 60, "total": 100, "note": ""})
    assert shown.estimate_left() == pytest.approx(9_990 - 0.6 * 9_000)
