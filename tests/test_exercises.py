"""Every exercise of the notebooks: unsolved it fails, solved it passes, and plausible errors fail."""

import ast
import re
from collections import defaultdict

import nbformat
import pytest

from mome import exercises
from mome.config import notebook_paths, repository

MARK = re.compile(r"(exercise|check|solution|wrong):(\d\d\.\d)")


def read_marked(path):
    """Return {exercise: {"exercise", "check", "solution" or "wrong": [code]}} by the tags of a notebook."""
    marked = defaultdict(lambda: defaultdict(list))
    for cell in nbformat.read(path, 4).cells:
        for tag in cell.metadata.get("tags", []):
            if found := MARK.fullmatch(tag):
                marked[found[2]][found[1]].append(cell.source)
    return marked


NOTEBOOKS = {path: read_marked(path) for path in notebook_paths(is_numbered=True)}
SOLUTIONS = {path: read_marked(repository() / "notebooks/solutions" / path.name)
             for path in NOTEBOOKS if (repository() / "notebooks/solutions" / path.name).exists()}
CASES = [(path, name) for path, marked in NOTEBOOKS.items() for name in marked]
case = pytest.mark.parametrize("path, name", CASES, ids=[name for _, name in CASES])


def is_solved(name, *cells):
    """Return whether the exercise's check holds, after cells were executed in a namespace of their own."""
    space = {"__name__": "__main__"}
    exercises.solved.pop(name, None)
    for cell in cells:
        exec(compile(cell, f"exercise {name}", "exec"), space)
    return exercises.solved[name]


@case
def test_a_check_fails_unsolved_passes_the_solution_and_refuses_each_plausible_error(path, name, capsys):
    here, there = NOTEBOOKS[path][name], SOLUTIONS[path][name]
    (stub,), (check,), (solution,) = here["exercise"], here["check"], there["solution"]
    assert not is_solved(name, stub, check)
    assert is_solved(name, stub, solution, check), capsys.readouterr().out
    assert there["wrong"]
    for wrong in there["wrong"]:
        capsys.readouterr()
        assert not is_solved(name, stub, wrong, check), wrong
        said = capsys.readouterr().out
        assert f"Exercise {name}: not yet. " in said and "Error:" not in said, said  # words, no accident


@case
def test_an_exercise_says_how_long_and_how_hard_it_is_and_folds_its_hint(path, name):
    cells = nbformat.read(path, 4).cells
    tags = [cell.metadata.get("tags", []) for cell in cells]
    at = next(number for number, found in enumerate(tags) if f"exercise:{name}" in found)
    assert tags[at + 1] == [f"check:{name}"]
    text = cells[at - 1].source
    head = rf"^### Exercise {name}: .+ \(\d+ minutes, (easy|medium|hard)\)$"
    assert re.search(head, text, re.MULTILINE), text
    assert "<details><summary>Hint</summary>" in text


@pytest.mark.parametrize("path", [path for path, marked in NOTEBOOKS.items()
                                  if marked and path.stem[:2] != "00"], ids=lambda path: path.stem)
def test_a_chapter_has_three_to_five_exercises_and_one_planted_bug(path):
    assert 3 <= len(NOTEBOOKS[path]) <= 5
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
    assert len(re.findall(r"^### Exercise \d\d\.\d: find the bug", text, re.MULTILINE)) == 1
    assert set(SOLUTIONS[path]) == set(NOTEBOOKS[path])


def test_a_check_goes_on_whatever_an_answer_does_and_says_what_was_asserted(capsys):
    for error in (AssertionError("counts twice"), ZeroDivisionError("by zero")):
        with exercises.check("00.1"):
            raise error
        assert exercises.solved["00.1"] is False
    with exercises.check("00.1"):
        assert True
    assert exercises.solved["00.1"] is True
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 00.1: not yet. counts twice", "Exercise 00.1: not yet. ZeroDivisionError: by zero",
        "Exercise 00.1: solved."]


def list_names(source):
    """Return what a cell's code reads, and what it binds for good: {name: the import's or None}."""
    tree, imports = ast.parse(source), {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "")
            imports |= {name.asname or name.name: (module, name.name) for name in node.names}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    stored |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {node.id for node in names} - stored, dict.fromkeys(stored) | imports


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_exercise_takes_a_name_that_the_chapter_reads_later(path):
    chapter, taken = {}, set()
    for cell in (cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"):
        read, bound = list_names(cell.source)
        if any(MARK.fullmatch(tag) for tag in cell.metadata.get("tags", [])):
            taken |= {name for name, what in bound.items() if name in chapter and (
                what is None or chapter[name] != what)}
        else:
            assert not read & taken, cell.source
            chapter, taken = chapter | bound, taken - set(bound)
