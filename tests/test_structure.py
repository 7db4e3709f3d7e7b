import ast
from pathlib import Path

import mome

MODULES = ["config", "artifacts", "hub", "corpus", "clean", "tokenizer", "data", "router", "models", "distill", "targets", "train", "moe", "evaluate",
           "probes", "plots", "recipes", "modular", "continual", "export", "execute", "runs", "sweep", "bench", "__main__"]
FOLDER = Path(mome.__file__).parent


def imports_of(name):
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "mome":
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mome."):
            yield node.module.removeprefix("mome.")


def test_modules_import_only_those_above_them():
    assert sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__") == sorted(MODULES)
    for place, name in enumerate(MODULES):
        for imported in imports_of(name):
            assert MODULES.index(imported) < place, f"{name} imports {imported}, which stands below it"


def test_no_module_prints_or_pickles():
    for name in MODULES:
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print" or name in ("sweep", "__main__"), f"{name} prints"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", *(["joblib"] if name != "sweep" else [])} & set(names), f"{name} can pickle"
            if isinstance(node, ast.Attribute):
                assert node.attr != "load" or getattr(node.value, "id", "") != "torch", f"{name} calls torch.load"
