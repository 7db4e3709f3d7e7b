"""What each notebook asks and would cost here: there already, or minutes. Nothing is built, no torch."""

from mome.config import count_workers, notebook_paths
from mome.plan import Plan, make_plan
from mome.runs.needs import read_needs
from mome.runs.parameters import check_parameters, declared_parameters
from mome.runs.report import find_heading


def tell_costs(given: dict) -> list[dict]:
    """Return a line for each numbered notebook, and one for all together: what it asks, what it costs here.

    `given` are parameters, of which each notebook takes those that it declares. Notebooks share what they
    build, so all together cost less than their sum. Where a corpus is out of reach a line says so.
    """
    lines, together = [], []
    for path in notebook_paths(is_numbered=True):
        known = declared_parameters(path)
        mine = {name: value for name, value in given.items() if name in known and name != "out"}
        try:
            needs = read_needs(path, check_parameters(path, mine, tell=lambda text: None))
            cost = describe_cost(make_plan(needs))
            together.append(needs)
        except ValueError as error:
            cost = f"cannot tell: {error}"
        lines.append({"notebook": path.stem, "asks": find_heading(path), "costs here": cost})
    return [*lines, {"notebook": "all", "asks": "", "costs here": describe_cost(make_plan(together))}]


def describe_cost(plan: Plan) -> str:
    """Return whether all is there, else the minutes and how much is missing."""
    if not plan.missing:
        return "there already"
    minutes = plan.wall(count_workers()) / 60
    time = f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute"
    return f"{time}: {len(plan.missing)} of {len(plan.missing) + len(plan.there)} things to build"
