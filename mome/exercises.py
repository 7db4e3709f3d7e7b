"""Exercises of the notebooks: a check tells whether an answer holds, and the notebook goes on either way."""

from contextlib import contextmanager

solved: dict[str, bool] = {}  # of this kernel, by exercise


@contextmanager
def check(exercise: str):
    """Print whether what is asserted within holds of the answer; keep that in `solved`.

    Nothing is raised, so "Run all" and batch runs pass an exercise that nobody has solved. The words of an
    assertion tell what is wrong with the answer at hand, never what is right.
    """
    try:
        yield
    except Exception as error:  # an answer is anybody's code
        solved[exercise] = False
        words = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        print(f"Exercise {exercise}: not yet. {words.splitlines()[0] if words else ''}".rstrip())
    else:
        solved[exercise] = True
        print(f"Exercise {exercise}: solved.")
