"""What would be built: what is there and missing, minutes, disk. Nothing is built, torch is not loaded."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from statistics import median

from mome import store
from mome.board import format_seconds
from mome.config import store_dir
from mome.provenance import find_gpus
from mome.recipe import Recipe, collect, list_ancestors

FLOPS_PER_SECOND, GPU_FLOPS_PER_SECOND = 1.1e11, 3e13  # of a core, of a GPU, for kinds not built here yet
SECONDS_PER_TASK = 0.3
SECONDS_TO_START = 8.0  # the cluster, and the libraries in its workers


@dataclass
class Plan:
    """Recipes that are there and that are missing, parents first, with the seconds that each may take."""

    there: list[Recipe]
    missing: list[Recipe]
    seconds: dict[str, float]
    wanted: list[Recipe]  # what was asked for by itself

    def sum_seconds(self, recipes: list[Recipe]) -> float:
        return sum(self.seconds[recipe.name] for recipe in recipes)

    @cached_property
    def chain(self) -> list[Recipe]:
        """The critical path through what is missing: the longest chain of parents, first to last."""
        chains: dict[str, list[Recipe]] = {}
        for recipe in self.missing:
            before = [chains[parent.name] for parent in recipe.parents().values() if parent.name in chains]
            chains[recipe.name] = [*max(before, key=self.sum_seconds, default=[]), recipe]
        return max(chains.values(), key=self.sum_seconds, default=[])

    def priority(self) -> dict[str, float]:
        """Return {name: seconds from the start of that recipe to the end of all that waits for it}."""
        after: dict[str, float] = {}
        for recipe in reversed(self.missing):
            after[recipe.name] = after.get(recipe.name, 0.0) + self.seconds[recipe.name]
            for parent in recipe.parents().values():
                after[parent.name] = max(after.get(parent.name, 0.0), after[recipe.name])
        return after

    def wall(self, workers: int) -> float:
        """Return about how many seconds a build takes with so many workers, each at one recipe at a time.

        As the engine works: of what is ready, that comes first which the longest chain waits for.
        """
        first, children = self.priority(), {recipe.name: [] for recipe in self.missing}
        waits: dict[str, int] = {}
        for recipe in self.missing:
            parents = {parent.name for parent in recipe.parents().values()} & children.keys()
            waits[recipe.name] = len(parents)
            for name in parents:
                children[name].append(recipe.name)
        ready, running, now = [(-first[name], name) for name in waits if not waits[name]], [], 0.0
        heapify(ready)
        while ready or running:
            while ready and len(running) < workers:
                name = heappop(ready)[1]
                heappush(running, (now + self.seconds[name], name))
            now, done = heappop(running)
            for name in children[done]:
                waits[name] -= 1
                if not waits[name]:
                    heappush(ready, (-first[name], name))
        return SECONDS_TO_START + now if self.missing else 0.0


def make_plan(needs) -> Plan:
    """Return what is there and missing of the needs and, where one is missing, of what it is made from."""
    wanted, rates, has_gpu, seconds = collect(needs), measure_rates(), bool(find_gpus()), {}
    lacking = find_lacking(wanted)
    recipes = list(list_ancestors(wanted, is_end=lambda recipe: recipe.name not in lacking))
    there = [recipe for recipe in recipes if recipe.name not in lacking]
    missing = [recipe for recipe in recipes if recipe.name in lacking]
    for recipe in missing:
        is_on_gpu = has_gpu and recipe.device == "gpu"
        usual = 1 / (GPU_FLOPS_PER_SECOND if is_on_gpu else FLOPS_PER_SECOND)
        seconds[recipe.name] = SECONDS_PER_TASK + recipe.work() * rates.get((recipe.kind(), is_on_gpu), usual)
    return Plan(there, missing, seconds, wanted)


def find_lacking(wanted: list[Recipe]) -> set[str]:
    """Return the names of what is not there, and of those parents of it of which a bundle left a part out."""
    missing = [recipe for recipe in wanted if not recipe.is_there]
    notebooks = [recipe for recipe in missing if recipe.only_reads]
    asked = [part for recipe in missing for part in (
        recipe.parents().values() if recipe.only_reads else [recipe])]
    found = list_ancestors([part for part in asked if not part.is_there], lambda recipe: recipe.is_whole)
    return {recipe.name for recipe in [*notebooks, *found] if recipe.only_reads or not recipe.is_whole}


def measure_rates() -> dict[tuple[str, bool], float]:
    """Return {(kind, whether on a GPU): seconds per operation} as this store's own builds took them, median.
    """
    found: dict[tuple[str, bool], list[float]] = {}
    for _, manifest in store.list_manifests():
        if manifest.get("work") and manifest.get("seconds") and not manifest.get("is_resumed"):
            key = manifest["kind"], bool((manifest.get("machine") or {}).get("gpu"))
            found.setdefault(key, []).append(manifest["seconds"] / manifest["work"])
    return {key: median(values) for key, values in found.items()}


def describe_plan(plan: Plan, workers: int) -> str:
    """Return the plan in words, a line per kind of what is missing."""
    if not plan.missing:
        return f"nothing to build: all {len(plan.there)} are there"
    lines = [f"{len(plan.there)} there, {len(plan.missing)} to build"]
    for kind in dict.fromkeys(recipe.kind() for recipe in plan.missing):
        recipes = [recipe for recipe in plan.missing if recipe.kind() == kind]
        titles = list(dict.fromkeys(recipe.title for recipe in recipes))
        some = ", ".join(titles[:3]) + (f", and {len(titles) - 3} more" if len(titles) > 3 else "")
        time = format_seconds(plan.sum_seconds(recipes))
        lines.append(f"  {len(recipes):3d} {kind:20s} {time:>8s}  {some}")
    nearest = next(folder for folder in [store_dir(), *store_dir().parents] if folder.exists())
    disk, free = sum(recipe.size() for recipe in plan.missing) / 1e9, shutil.disk_usage(nearest).free / 1e9
    chain, longest = " > ".join(recipe.title for recipe in plan.chain), plan.sum_seconds(plan.chain)
    lines += [f"about {plan.wall(workers) / 60:.1f} minutes with {workers} worker{'s' * (workers > 1)}; "
              f"about {disk:.2f} GB of disk, {free:.0f} GB are free",
              f"critical path ({format_seconds(longest)}): {chain}"]
    return "\n".join(lines)
