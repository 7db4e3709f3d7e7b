"""Recipes of text: a corpus as it was fetched on a day or found in a folder, the packed data set, another
domain's rows.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mome.checks import check_choice, check_range, check_shares
from mome.data import DATA_OPTIONS
from mome.languages import CORPUS_LANGUAGES, FETCHED, check_languages
from mome.recipe import Recipe, Table, location

BYTES_PER_TOKEN = 8  # about five, and room for the held-out splits and for what cleaning removes


@dataclass(frozen=True)
class Corpus(Recipe):
    """Documents (language, article_id, text) of a source: fetched on a day, or of the files in a folder.

    `snapshot` is that day; `versions` those of installed code that is read; `files_sha256` names what a
    folder holds. `characters` caps a stream from the hub, per language, which keeps common articles only
    where asked to.
    """

    goes_on = True  # a stream from the hub goes on from the parts that it has

    source: str
    languages: tuple[str, ...]
    snapshot: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    files_sha256: str = ""
    characters: int | None = None
    common_articles: bool | None = None
    path: str = location()

    def check(self) -> None:
        check_choice("source", self.source, (*CORPUS_LANGUAGES, "folder"))
        check_languages(self.languages, CORPUS_LANGUAGES.get(self.source))

    @property
    def title(self) -> str:
        return f"corpus {self.source} {'+'.join(self.languages)}"

    @property
    def label(self) -> str:
        """What a parameter `corpus` calls it: help@2026-11-25, mini, folder:PATH."""
        if self.source == "folder":
            return f"folder:{self.path}"
        return f"{self.source}@{self.snapshot}" if self.snapshot else self.source

    def build(self, folder: Path) -> dict:
        import pandas as pd

        from mome.data.corpora import read_documents
        from mome.data.folder import corpus_folder, hash_folder, log_reading

        scratch, report, path = folder / "stream", {}, corpus_folder(self.path) if self.path else None
        if path and hash_folder(path, self.languages) != self.files_sha256:
            raise ValueError(f"corpus={self.label!r} has changed since this was planned; plan again")
        documents = pd.DataFrame(read_documents(
            self.source, list(self.languages), self.characters or 0, bool(self.common_articles), scratch,
            path, report))
        log_reading(report)
        documents.to_parquet(folder / "documents.parquet", compression="zstd")
        shutil.rmtree(scratch, ignore_errors=True)
        counts = documents.groupby("language").text.agg(
            articles="count", characters=lambda texts: int(texts.str.len().sum()))
        return {language: {**row, **report.get(language, {})}
                for language, row in counts.to_dict("index").items()}

    def open(self):
        """Return the table of documents."""
        import pandas as pd

        return pd.read_parquet(self.folder / "documents.parquet")

    def work(self) -> float:
        return 4e11 if self.source in FETCHED else 2e10

    def size(self) -> float:
        return 4e6 * len(self.languages)


@dataclass(frozen=True)
class Data(Recipe):
    """The packed data set with its tokenizer and documents: aligned, cleaned, split, balanced
    (`packing.build_dataset`).

    `split_seed` draws splits and the sample of articles. With `read_by` the tokenizer is another data set's.
    """

    corpus: Corpus
    languages: tuple[str, ...]
    vocab_size: int
    context: int
    tokens_per_language: int
    max_diff_percent: float
    validation_fraction: float
    test_fraction: float
    held_out_tokens: int
    common_articles: bool
    near_duplicates: float
    shares: str | tuple[tuple[str, float], ...]
    split_seed: int = 0
    read_by: Data | None = None

    def check(self) -> None:
        check_languages(self.languages, self.corpus.languages)
        check_shares(self.shares, self.languages)
        check_range("split_seed", self.split_seed, 0, 2**31 - 1, whole=True)

    @classmethod
    def of(cls, setting, split_seed: int = 0, corpus: Corpus | None = None, **changes) -> Data:
        """Return the data set of a setting; of another `corpus` or with other values where given."""
        values = {name: getattr(setting.scale, name) for name in DATA_OPTIONS}
        values |= {"languages": setting.languages, "split_seed": split_seed, **changes}
        return cls(corpus or setting.corpus, **values)

    @property
    def title(self) -> str:
        return f"data {'+'.join(self.languages)}" + (f" split {self.split_seed}" if self.split_seed else "")

    def build(self, folder: Path) -> dict:
        from datasets import disable_progress_bars

        from mome.data.packing import build_dataset

        disable_progress_bars()  # saving takes a blink; bars for it would bury our own
        documents = self.corpus.open()
        documents = documents[documents.language.isin(self.languages)]
        order = documents.language.map(self.languages.index).argsort(kind="stable")
        options = {name: getattr(self, name) for name in (*DATA_OPTIONS, "split_seed") if name != "shares"}
        return build_dataset(
            documents.iloc[order].reset_index(drop=True), folder, **options,
            shares=self.shares if isinstance(self.shares, str) else dict(self.shares),
            tokenizer=self.read_by.open().tokenizer if self.read_by else None)

    def open(self):
        """Return the `PackedData`; opened once per process."""
        return open_packed(self.folder)

    def work(self) -> float:
        return 7e5 * self.tokens_per_language * len(self.languages)

    def size(self) -> float:
        return 12.0 * self.tokens_per_language * len(self.languages)

    @property
    def train_rows(self) -> int:
        """About how many rows a language has for training; the data itself tells exactly."""
        return max(1, self.tokens_per_language // self.context)


@lru_cache(maxsize=8)
def open_packed(folder: Path):
    from datasets import disable_progress_bars

    from mome.data.packing import PackedData

    disable_progress_bars()
    return PackedData(folder)


@dataclass(frozen=True)
class Fertility(Table):
    """How the data's tokenizer ("shared") cuts held-out texts, beside "bytes" and one of its size trained on
    each language alone, named by it; columns of `compare_tokenizers`.
    """

    data: Data
    split: str = "validation"

    def tabulate(self):
        import pandas as pd

        from mome.data.tokenizer import compare_tokenizers, comparison_tokenizers

        texts, shared = pd.read_parquet(self.data.folder / "documents.parquet"), self.data.open().tokenizer
        others = comparison_tokenizers(texts[texts.kept & (texts.split == "train")], len(shared))
        return compare_tokenizers({"shared": shared, **others}, texts[texts.split == self.split])

    def work(self) -> float:
        return 1e11


@dataclass(frozen=True)
class OtherRows(Recipe):
    """Rows of another corpus, cut by this data set's tokenizer: what a router was never shown.

    At most `rows_per_language` of a language and `article_rows` of an article, read to `cut_characters`.
    """

    is_optional = True  # without it the notebook says so, and shows one domain less

    data: Data
    corpus: Corpus
    rows_per_language: int
    cut_characters: int = 20_000
    article_rows: int = 4

    @property
    def title(self) -> str:
        return f"rows of {self.corpus.label}"

    def build(self, folder: Path) -> dict:
        import numpy as np

        from mome.data.clean import clean_documents
        from mome.router.probes import cut_documents

        data = self.data.open()
        documents, _ = clean_documents(self.corpus.open())
        sizes = self.data.context, self.rows_per_language, self.cut_characters, self.article_rows
        rows, labels, article_ids = cut_documents(documents, data.languages, data.tokenizer, *sizes)
        if lacking := [name for number, name in enumerate(data.languages) if number not in labels]:
            raise ValueError(f"corpus={self.corpus.label!r} has no text of {', '.join(lacking)} that fills a "
                             f"row of {self.data.context} tokens; give another one, or a smaller context")
        np.savez(folder / "rows.npz", rows=rows, labels=labels, article_ids=article_ids.astype(str))
        return {"rows": len(rows)}

    def open(self):
        """Return rows (N, T), language indices (N,) and article ids (N,)."""
        import numpy as np

        with np.load(self.folder / "rows.npz", allow_pickle=False) as file:
            return file["rows"], file["labels"], file["article_ids"]

    def work(self) -> float:
        return 8e10
