"""What each notebook asks and would cost here: there already, or minutes. Nothing is built, no torch."""

from pathlib import Path

from mome.config import count_workers, notebook_paths
from mome.plan import Plan, make_plan
from mome.recipes.setting import open_setting
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters, declared_parameters
from mome.runs.report import find_heading


def tell_costs(given: dict) -> list[dict]:
    """Return a line for each numbered notebook, and one for all together: what it asks, what it costs here.

    `given` are a notebook's parameters, of which each takes those that it declares. Notebooks share what they
    build, so all together cost less than their sum. A line says why it cannot tell, such as of a corpus that
    is out of reach, which is looked for once.
    """
    lines, together, why = [], [], ""
    try:
        found = open_setting(given["scale"], given["corpus"], given["languages"], given["overrides"])
        given = given | {"corpus": found.corpus_name}
    except ValueError as error:
        why = f"cannot tell: {error}"
    for path in notebook_paths(is_numbered=True):
        cost = why or price_notebook(path, given, together)
        lines.append({"notebook": path.stem, "asks": find_heading(path), "costs here": cost})
    return [*lines, {"notebook": "all", "asks": "", "costs here": why or describe_cost(make_plan(together))}]


def price_notebook(path: Path, given: dict, together: list) -> str:
    """Return what a notebook costs, its needs added to those of `together`; or why that cannot be told."""
    known = declared_parameters(path)
    mine = {name: value for name, value in given.items() if name in known and name != "out"}
    try:
        needs = read_needs(path, check_parameters(path, mine, tell=lambda text: None))
    except ValueError as error:
        return f"cannot tell: {error}"
    together.append(needs)
    return describe_cost(make_plan(needs))


def describe_cost(plan: Plan) -> str:
    """Return whether all is there, else the minutes and how much is missing."""
    if not plan.missing:
        return "there already"
    minutes = plan.wall(count_workers()) / 60
    time = f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute"
    return f"{time}: {len(plan.missing)} of {len(plan.missing) + len(plan.there)} things to build"
