"""What every experiment starts from: a scale, languages and a corpus that was found. It fills recipes."""

import dataclasses
import functools
import os
import time

from mome import store
from mome.checks import check_shares
from mome.data import SPLITS
from mome.languages import FETCHED, check_corpus, check_languages, corpus_languages, split_corpus
from mome.recipes.data import BYTES_PER_TOKEN, Corpus
from mome.scales import Scale, resolve_scale

LARGE_BYTES = 2**25  # of a folder, which takes seconds to read


@dataclasses.dataclass(frozen=True)
class Setting:
    """A scale, languages and the corpus, with why it was chosen."""

    scale: Scale
    languages: tuple[str, ...]
    corpus: Corpus
    reason: str

    @property
    def corpus_name(self) -> str:
        """The corpus as a parameter names it: the same wherever and whenever it is read."""
        return self.corpus.label


def open_setting(scale: str | Scale, corpus: str, languages, overrides: dict | None = None,
                 refresh: bool = False) -> Setting:
    """Return the setting; nothing is built.

    `auto` is the newest fetched corpus in the store that has the languages, else the first source that
    answers. A fetched source without a date is its newest snapshot in the store, or with `refresh` and where
    there is none, today's. Raises ValueError for languages that the corpus or `scale.shares` does not know,
    CorpusUnavailable when `auto` finds nothing.
    """
    scale = resolve_scale(scale, overrides) if isinstance(scale, str) else scale
    check_corpus(corpus)
    languages = check_languages(languages, corpus_languages(corpus))
    check_shares(scale.shares, languages)
    found, reason = find_corpus(corpus, languages, scale, refresh)
    check_text(found, scale.common_articles, scale.context)
    return Setting(scale, tuple(languages), found, reason)


@functools.cache
def check_text(corpus: Corpus, common_articles: bool, context: int) -> None:
    """Raise ValueError where a folder's files show that a language has too little text for its splits.

    Each needs an article and a row of tokens, of a byte at least. What a fetched corpus or a large folder
    holds shows when it is read.
    """
    from mome.data.files import describe_reading
    from mome.data.folder import corpus_folder, find_files, folder_documents
    from mome.languages import CODE_LANGUAGES

    if not corpus.path:
        return
    root, languages = corpus_folder(corpus.path), list(corpus.languages)
    files = {path for found in find_files(root, languages) for path in found.files}
    if sum(path.stat().st_size for path in files) > LARGE_BYTES:
        return
    sizes: dict[str, dict[str, int]] = {language: {} for language in corpus.languages}
    for row in folder_documents(root, languages, report := {}):
        sizes[row["language"]][row["article_id"]] = len(row["text"].encode())
    natural = [name for name in sizes if name not in CODE_LANGUAGES]
    common = set.intersection(*(set(sizes[name]) for name in natural)) if natural else set()
    for name, articles in sizes.items():
        counted = common if common_articles and name in natural else articles
        n_bytes, least = sum(articles[article] for article in counted), len(SPLITS) * context
        if len(counted) < len(SPLITS) or n_bytes < least:
            reading = "".join(f"; {line}" for line in describe_reading(name, report[name]))
            shared = f" that all of {', '.join(natural)} have" if counted is common and natural[1:] else ""
            raise ValueError(f"corpus={corpus.label!r} has too little text: language {name!r} has "
                             f"{len(counted)} articles{shared} with {n_bytes} bytes, and {len(SPLITS)} "
                             f"articles with {least} bytes are needed, for the splits and "
                             f"context={context}{reading}")


def find_corpus(corpus: str, languages: list[str], scale: Scale, refresh: bool = False,
                as_stored: bool = False) -> tuple[Corpus, str]:
    """Return the recipe of a corpus by its name, and why it is this one.

    `auto`, and a snapshot that is named by its day, take what the store holds of it as it is stored, though
    the code in it be that of another Python: so does any other corpus with `as_stored`.

    Raises ValueError for a snapshot of another day than today that the store does not hold, whole or begun.
    """
    from mome.data.corpora import corpus_candidates

    source, snapshot = split_corpus(corpus)
    sources = ("help", "wiki40b") if source == "auto" else (source,)
    as_stored = as_stored or corpus == "auto" or bool(snapshot)
    there = None if refresh else find_newest(sources, languages, scale, snapshot, as_stored)
    if source != "auto":
        found, today = there or make_corpus(source, languages, scale, snapshot), time.strftime("%Y-%m-%d")
        if snapshot not in ("", today) and not there and not store.unfinished_of(found.name).exists():
            raise ValueError(f"corpus={corpus!r} is not in the store with {', '.join(languages)}, and its "
                             f"day is over; give {source} or {source}@{today}")
        return found, "chosen by name"
    if there:
        return there, "the newest in the store with the languages"
    source, why = next(iter(corpus_candidates("auto", languages)))
    return make_corpus(source, languages, scale), why


def find_newest(sources, languages: list[str], scale: Scale, snapshot: str = "",
                as_stored: bool = False) -> Corpus | None:
    """Return the newest corpus in the store with the languages, and maybe more, as it would be fetched now.

    With `as_stored` one that holds code of other versions will do where there is none of these. One streamed
    with common articles is cut by all its languages, so it must have just these.
    """
    found = []
    for _, manifest in store.list_manifests("corpus"):
        fields = manifest["fields"]
        has_all = set(languages) <= set(fields["languages"])
        is_asked = fields["source"] in {*sources} & {*FETCHED} and snapshot in ("", fields["snapshot"])
        if not has_all or not is_asked:
            continue
        recipe = make_corpus(fields["source"], fields["languages"], scale, fields["snapshot"])
        is_same = recipe.is_there
        recipe = dataclasses.replace(recipe, versions=fields["versions"]) if as_stored else recipe
        if recipe.is_there and (recipe.source != "wiki40b" or fields["languages"] == list(languages)):
            found.append((is_same, recipe.snapshot, manifest["created"], recipe))
    return max(found, key=lambda each: each[:3])[-1] if found else None


def make_corpus(source: str, languages: list[str], scale: Scale, snapshot: str = "") -> Corpus:
    """Return the recipe of a corpus; a folder's files are read for their hash."""
    from mome.data.corpora import source_versions
    from mome.data.folder import corpus_folder, hash_folder

    if source.startswith("folder:") or source == "mini":
        path = corpus_folder(source)
        return Corpus(source.partition(":")[0], languages, files_sha256=hash_folder(path, languages),
                      path=os.fsencode(path.resolve()).decode())
    streamed = {"common_articles": scale.common_articles,
                "characters": scale.tokens_per_language * BYTES_PER_TOKEN} if source == "wiki40b" else {}
    snapshot, versions = snapshot or time.strftime("%Y-%m-%d"), source_versions(source, languages)
    return Corpus(source, languages, snapshot, versions, **streamed)


def find_second_corpus(setting: Setting, corpus: str) -> Corpus | None:
    """Return the corpus of another domain: by name, for `auto` Debian's Reference beside help, else None."""
    if is_auto := corpus == "auto":
        has_all = set(setting.languages) <= set(corpus_languages("reference"))
        corpus = "reference" if setting.corpus.source == "help" and has_all else ""
    if not corpus:
        return None
    check_corpus(corpus, "second_corpus")
    check_languages(setting.languages, corpus_languages(corpus))
    return find_corpus(corpus, list(setting.languages), setting.scale, as_stored=is_auto)[0]
