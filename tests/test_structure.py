import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import mome

ROOT = Path(mome.__file__).parent
# Floors from the top down: what stands on one imports from its own floor and from those below.
FLOORS = [["cli", "__main__"], ["playground"], ["runs"], ["bench"], ["recipes"], ["evaluate", "figures"],
          ["models"], ["train", "router"], ["distill"], ["data"], ["engine"], ["plan"], ["recipe"],
          ["store", "board", "scales", "progress", "weights"], ["values", "languages"],
          ["provenance", "tracker"], ["config", "checks", "exercises"]]
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def room_of(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def floor_of(room):
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def list_imports(path, *, is_top=False):
    nodes = TREES[path].body if is_top else ast.walk(TREES[path])
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_go_only_downwards():
    for path in FILES:
        if path.name == "__init__.py" and path.parent == ROOT:
            continue
        for name in list_imports(path):
            parts = name.split(".")
            if parts[0] != "mome" or parts[1:] in ([], ["__version__"]):
                continue
            is_below = floor_of(room_of(path)) <= floor_of(parts[1])
            assert is_below, f"{path.relative_to(ROOT)} imports {name}, which is above it"


def test_wings_do_not_import_one_another_in_a_circle():
    rooms = {room for floor in FLOORS for room in floor}
    imported = defaultdict(set)
    for path in FILES:
        names = [name.split(".") for name in list_imports(path)]
        imported[room_of(path)] |= {parts[1] for parts in names if parts[0] == "mome" and parts[1:]}
    graph = {room: imported[room] & rooms - {room} for room in rooms}
    assert set(TopologicalSorter(graph).static_order()) == rooms  # raises CycleError, which names the circle


def test_recipes_and_what_plans_load_no_torch():
    torch_free = ["values", "recipe", "plan", "engine", "store", "board", "scales", "progress", "config",
                  "checks", "languages", "recipes", "cli"]
    heavy = {"torch", "transformers", "datasets", "sklearn", "accelerate", "pandas", "matplotlib",
             "papermill", "distributed"}
    for path in FILES:
        is_choices = path.name == "__init__.py" and room_of(path) != "models"
        if room_of(path) in torch_free or is_choices:
            found = {name.split(".")[0] for name in list_imports(path, is_top=True)} & heavy
            assert not found, f"{path.relative_to(ROOT)} loads {found} when it is imported"


def test_no_name_stands_twice():
    places = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_only_the_command_line_the_board_and_exercises_print():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert room_of(path) in ("cli", "board", "exercises"), f"{path.relative_to(ROOT)} prints"


def test_what_windows_lacks_is_used_only_where_it_is_asked_for():
    lacking = {"resource", "fcntl", "pwd", "grp", "termios", "pty", "posix", "fork", "sched_getaffinity",
               "nice", "getuid", "geteuid", "setsid", "killpg", "getpgid", "statvfs", "mkfifo", "uname",
               "chown", "SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGPIPE"}
    for path, tree in TREES.items():
        guards = [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp | ast.Try)]
        asked = {node for guard in guards for node in ast.walk(guard)}
        for node in set(ast.walk(tree)) - asked:
            names = {getattr(node, "module", None), *(part.name for part in getattr(node, "names", [])
                                                      if isinstance(part, ast.alias))}
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("os", "signal"):
                names = {node.attr}
            assert not names & lacking, f"{path.relative_to(ROOT)} needs {names & lacking}"


def test_nothing_is_pickled():
    for path, tree in TREES.items():
        found = {name.split(".")[0] for name in list_imports(path)}
        found &= {"pickle", "dill", "cloudpickle", "joblib", "shelve"}
        assert not found, f"{path.relative_to(ROOT)} imports {found}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "torch":
                assert node.attr not in ("load", "save"), f"{path.relative_to(ROOT)} calls torch.{node.attr}"


def test_files_stay_narrow_and_short_enough_to_read():
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert max(map(len, lines), default=0) <= 110, path
        assert len(lines) <= 300 or room_of(path) == "figures", path
