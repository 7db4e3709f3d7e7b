"""What the store knows of a model: what it was made from, and the scores of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mome import store
from mome.data import SPLITS
from mome.evaluate.scores import summarize
from mome.recipes.data import open_packed
from mome.recipes.scores import USES

KEPT = ("kind", "title", "fields", "parents", "notes", "created", "versions")
SCORED = ("language", "nats_per_token", "perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Origin:
    """What is known of a model: title, languages, scores as `list_scores`, what it was made from."""

    title: str
    languages: list[str]
    scores: list[dict]
    made: dict[str, dict]

    @classmethod
    def of_stored(cls, name: str) -> Origin:
        made = read_made(name)
        return cls(made[name]["title"], list_languages(name, made), list_scores(name, made), made)

    @classmethod
    def of_folder(cls, path: Path) -> Origin:
        """Return what an exported folder tells, or its name alone."""
        known = {"title": path.resolve().name, "languages": [], "scores": [], "made": {}}
        for name in ("made", "scores"):
            if (path / f"{name}.json").is_file():
                known |= store.read_json(path / f"{name}.json")
        return cls(**known)

    @property
    def kinds(self) -> set[str]:
        return {step["kind"] for step in self.made.values()}

    def write(self, folder: Path) -> None:
        store.write_json(folder / "scores.json", {"scores": self.scores})
        store.write_json(folder / "made.json", {"title": self.title, "languages": self.languages,
                                                "made": self.made})


def read_made(name: str) -> dict[str, dict]:
    """Return {name: manifest, without files} of a built thing and all that it was made from, parents first.

    A parent that the store does not hold any more is left out.
    """
    if not store.is_there(name):
        return {}
    manifest, made = store.read_manifest(store.folder_of(name)), {}
    for parent in manifest["parents"].values():
        made |= read_made(parent)
    return made | {name: {key: manifest[key] for key in KEPT}}


def find_data(made: dict, name: str) -> str:
    """Return the name of the data set that a model was trained on."""
    parents = made[name]["parents"]
    return parents["data"] if "data" in parents else find_data(made, parents["model"])


def list_languages(name: str, made: dict) -> list[str]:
    """Return the languages that a model has learned, those of the model that it went on from first."""
    about = made[name]
    alone = about["notes"].get("language")  # of an expert
    own = [alone] if alone else about["notes"].get("languages") or about["fields"].get("languages") or (
        made[find_data(made, name)]["fields"]["languages"])
    before = about["parents"].get("start_from")
    return list(dict.fromkeys([*(list_languages(before, made) if before in made else []), *own]))


def find_routed(model: str, added: str | None = None) -> str | None:
    """Return the name of the stored version of a modular model with a router and that added expert."""
    wanted = {"model": model, "added": added}
    return next((path.name for path, manifest in store.list_manifests("routed_moe")
                 if {name: manifest["fields"][name] for name in wanted} == wanted), None)


def list_scores(name: str, made: dict) -> list[dict]:
    """Return the scores of a model that the store holds: a mapping per way of using it and language.

    Keys: use, language, nats_per_token, perplexity, bits_per_byte, split, rows. Of each way those of `test`
    rather than of `validation`, of most languages and rows. An expert's are of its own language.
    """
    about = made[name]
    if about["kind"] == "expert":
        return list_own_scores(about["parents"]["model"], about["fields"]["language"])
    if about["kind"] == "added_expert":
        enlarged = find_routed(about["parents"]["model"], name)
        return [score for score in list_changes(enlarged) if score["language"] == about["notes"]["language"]]
    uses = sorted({manifest["fields"]["use"] for _, manifest in store.list_manifests("scores")
                   if manifest["fields"]["model"] == name}, key=[*USES, ""].index)
    return list_changes(name) + [
        line for use in uses for path, fields in find_scores("scores", model=name, use=use)
        for line in spell_scores(pd.read_parquet(path), use or "dense", fields["split"])]


def find_scores(kind: str, **wanted) -> list[tuple[Path, dict]]:
    """Return (file, fields) of the scores to be told, of those with the wanted fields; empty for none."""
    found = [(path / "table.parquet", manifest["fields"]) for path, manifest in store.list_manifests(kind)
             if all(manifest["fields"][name] == value for name, value in wanted.items())]
    found.sort(key=lambda each: (SPLITS.index(each[1]["split"]), len(each[1].get("languages", ())),
                                 each[1]["rows_per_language"]))
    return found[-1:]


def spell_scores(rows: pd.DataFrame, use: str, split: str) -> list[dict]:
    """Return a mapping per language of a table of held-out rows."""
    counts = rows.groupby("language").size()
    return [{"use": use, **line, "split": split, "rows": int(counts[line["language"]])}
            for line in summarize(rows).to_dict("records")]


def list_own_scores(host: str, language: str) -> list[dict]:
    """Return what an expert is worth on its own language, told, without a common expert."""
    for path, fields in find_scores("expert_scores", model=host, common_expert="off"):
        rows = pd.read_parquet(path).query("language == @language")
        return spell_scores(rows.assign(nats=rows[language]), "told, in its model", fields["split"])
    return []


def list_changes(enlarged: str | None) -> list[dict]:
    """Return what a model with an added expert is worth, routed, on all its languages."""
    for path, fields in find_scores("changes", enlarged=enlarged):
        made, split = read_made(enlarged), fields["split"]
        sides = [open_packed(store.find(find_data(made, made[enlarged]["parents"][side])))
                 for side in ("model", "added")]
        rows = {language: len(side.row_numbers(split, language, fields["rows_per_language"]))
                for side in sides for language in side.languages}
        table = pd.read_parquet(path).query("stage == 'added'")
        return [{"use": "routed", **{name: line[name] for name in SCORED}, "split": split,
                 "rows": rows[line["language"]]} for line in table.to_dict("records")]
    return []
