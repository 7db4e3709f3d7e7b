"""A trained model by what people call it: a name in the store, or a notebook and words of its needs."""

import json
import shlex
from dataclasses import dataclass, field

from mome.recipe import Recipe, collect, list_ancestors, walk_needs
from mome.runs.grid import format_value, list_points
from mome.runs.needs import read_needs
from mome.store import NotBuilt, list_manifests
from mome.values import is_number

DENSE, UNROUTED = ("teacher", "student", "stage", "session"), ("moe", "modular_stage")
ALONE = ("expert", "added_expert")
MODELS = ("routed_moe", *DENSE, *ALONE, *UNROUTED)
SHOWN = 30  # lines of a list in an error


@dataclass
class Arm:
    """A model among a notebook's needs: the keys under which they hold it, and whether they score it."""

    recipe: Recipe
    keys: list[tuple] = field(default_factory=list)
    is_scored: bool = False

    @property
    def seed(self) -> int:
        return getattr(self.recipe, "seed", None) or getattr(getattr(self.recipe, "model", None), "seed", 0)

    def list_words(self, names_seed: bool) -> list[str]:
        """Return what it may be called by; its seed as a mere number unless `seed 0` is said."""
        named = {format_value(key) for keys in self.keys for key in self.other_keys(keys)}
        languages = "+".join(getattr(self.recipe, "languages", ()))
        words = [*named, self.recipe.title, self.recipe.kind(), languages, f"seed {self.seed}"]
        return [*map(str.casefold, words), *([] if names_seed else [f"{self.seed}"])]

    def other_keys(self, keys: tuple) -> list:
        """Return the keys without the seed, which is the last number that equals it."""
        places = [place for place, key in enumerate(keys) if is_number(key) and key == self.seed]
        return [key for place, key in enumerate(keys) if place not in places[-1:]]

    @property
    def is_whole(self) -> bool:
        """Whether no other key is a number than 1, which is the whole budget."""
        others = [list(filter(is_number, self.other_keys(keys))) for keys in self.keys or [()]]
        return any(set(numbers) <= {1} for numbers in others)

    def __str__(self) -> str:
        keys = self.other_keys(self.keys[0]) if self.keys else []
        name = self.recipe.name + ("" if self.recipe.is_there else ", not built")
        return f"{':'.join([*map(format_value, keys), f'seed {self.seed}'])}: {self.recipe.title} ({name})"


def find_arm(text: str, parameters: dict) -> str:
    """Return the name of the trained model that `03:alpha 0.5:seed 0` means: a notebook, words of its needs.

    Each word is a key, a title, `seed 0` or a part of those, and equals one rather than being part of one.
    Where several are left, the scored ones are meant, and those of the whole budget. Raises ValueError, with
    a list of them, for words that fit none or several models, NotBuilt for a model that is not built.
    """
    notebook, *words = (word.strip() for word in text.split(":"))
    words = [word.casefold() for word in words if word]
    spec = {"notebooks": [{"notebook": notebook}], "parameters": parameters}
    (path, values, _), = list_points(spec)
    arms = fitting = list_arms(read_needs(path, values))
    names_seed = any(word.startswith("seed ") for word in words)
    for word in words:
        called = {arm.recipe.name: arm.list_words(names_seed) for arm in fitting}
        exact = [arm for arm in fitting if called[arm.recipe.name].count(word) >= words.count(word)]
        fitting = exact or [arm for arm in fitting if any(word in other for other in called[arm.recipe.name])]
    meant = [arm for arm in fitting if arm.is_scored] or fitting
    meant = [arm for arm in meant if arm.is_whole] or meant
    if len(meant) != 1:
        raise ValueError(f"model={text!r} fits {len(fitting) or 'none'} of the models of {path.stem}; write "
                         "one of these, or its name in the store:\n"
                         f"{list_lines(fitting or [arm for arm in arms if arm.keys] or arms)}")
    recipe = meant[0].recipe
    if not recipe.is_there:
        options = " ".join(f"-p {shlex.quote(f'{name}={spell_value(value)}')}"
                           for name, value in parameters.items())
        raise NotBuilt(f"{recipe.title} ({recipe.name}) is not built; build it with its notebook: "
                       f"python -m mome run --only {path.stem} {options}".strip())
    return recipe.name


def spell_value(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def list_arms(needs) -> list[Arm]:
    """Return the models that needs hold or are made from, each once."""
    arms: dict[str, Arm] = {}
    for recipe in list_ancestors(collect(needs)):
        if recipe.kind() in MODELS:
            arms[recipe.name] = Arm(recipe)
    for recipe in collect(needs):
        if recipe.kind() == "scores" and recipe.model.name in arms:
            arms[recipe.model.name].is_scored = True
    for keys, recipe in walk_needs(needs):
        if recipe.name in arms and keys and keys not in arms[recipe.name].keys:
            arms[recipe.name].keys.append(keys)
    return list(arms.values())


def find_stored(text: str) -> str:
    """Return the name of the model in the store that begins so; ValueError for none, with what there is."""
    there = {path.name: manifest for path, manifest in list_manifests()}
    models = {name: manifest["title"] for name, manifest in there.items() if manifest["kind"] in MODELS}
    models = dict(sorted(models.items(), key=lambda each: (MODELS.index(there[each[0]]["kind"]), each[1])))
    found = [name for name in models if name.startswith(text)]
    if len(found) == 1 or text in found:
        return text if text in found else found[0]
    lines = [f"{models[name]} ({name})" for name in found or models]
    if found:
        raise ValueError(f"model={text!r} begins the names of {len(found)} models; write more of one:\n"
                         f"{list_lines(lines)}")
    other = "; it is no model" if text in there else ""
    raise ValueError(
        f"model={text!r} is not in the store{other}. Give a name or its beginning, a notebook and words such "
        f"as '04:JEET:seed 0', or a saved model's folder. `python -m mome train` builds one model, "
        f"`python -m mome run` those of the notebooks. There are:\n{list_lines(lines) or '  none'}")


def list_lines(items) -> str:
    more = [f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return "\n".join(f"  {item}" for item in [*items[:SHOWN], *more])
