"""One property, one test: the cases that it must hold for are a loop within it."""

import functools
import inspect
import shutil

import pytest


def each(names: str, cases):
    """Return a decorator that runs a test for each case in turn; the first that fails is named.

    `names` are parameters of the test, by commas; a case is a tuple of their values, or the one value itself.
    After each case `monkeypatch` is undone, `caplog` cleared, and what came into `tmp_path` removed.
    """
    keys, cases = names.replace(",", " ").split(), list(cases)
    assert cases, "there is no case"

    def repeat(test):
        signature = inspect.signature(test)
        values = [value for name, value in signature.parameters.items() if name not in keys]
        if "request" not in signature.parameters:
            values.append(inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD))

        @functools.wraps(test)
        def run(request, **fixtures):
            folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
            before = set(folder.iterdir()) if folder else set()
            if "request" in signature.parameters:
                fixtures["request"] = request
            for case in cases:
                given = dict(zip(keys, case if len(keys) > 1 else [case], strict=True))
                with pytest.MonkeyPatch.context() as patch:
                    own = {"monkeypatch": patch} if "monkeypatch" in fixtures else {}
                    try:
                        test(**fixtures | own | given)
                    except BaseException as error:  # pytest's "did not raise" is no Exception
                        error.add_note(f"case: {given}")
                        raise
                if "caplog" in fixtures:
                    fixtures["caplog"].clear()
                for path in set(folder.iterdir()) - before if folder else ():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

        run.__signature__ = signature.replace(parameters=values)
        return run

    return repeat
