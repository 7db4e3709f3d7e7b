"""The card of an exported data set: sources and licences, sizes, what was removed, how to make it again."""

import json
import re
from itertools import product
from pathlib import Path

import pandas as pd

from mome.data import SPLITS
from mome.data.files import describe_reading
from mome.data.packing import largest_difference, token_weights
from mome.languages import CODE_LANGUAGES, language_name
from mome.store import read_json

SOURCES = {
    "help": ("Natural language: LibreOffice's help, Debian's libreoffice-help-*. Licence: MPL 2.0, partly "
             "Apache 2.0.", "Code: the installed CPython library, without tests. Licence: PSF 2.0."),
    "wiki40b": ("Natural language: Wiki40B (Guo et al. 2020), google/wiki40b. Licence: CC BY-SA 3.0.",
                "Code: CodeParrot-clean on the hub. Licence: each file under its repository's."),
    "reference": ("Natural language: the Debian Reference, from Debian's packages. Licence: GPL 2 or later.",
                  "Code: matplotlib, pandas, seaborn, scikit-learn. Licence: each package's own, BSD-like."),
    "mini": ("Natural language: written for this workbook. Licence: MIT.", "Code: likewise. Licence: MIT."),
    "folder": ("Natural language: a folder of the user's own. Licence: the user's to state.",
               "Code: a folder of the user's own. Licence: the user's to state.")}
# The same as the hub spells licences, natural language and code.
LICENCES = {"help": ("mpl-2.0", "psf-2.0"), "wiki40b": ("cc-by-sa-3.0", "other"), "mini": ("mit", "mit"),
            "reference": ("gpl-2.0", "bsd-3-clause"), "folder": ("other", "other")}
DATA_CARD = """---
pretty_name: MoME data set ({codes})
language: {natural}
task_categories: [text-generation]
configs:
- {{config_name: default, data_files: [{{split: train, path: train.json}},
   {{split: validation, path: validation.json}}, {{split: test, path: test.json}}]}}
---
# MoME data set: {names}
Made by the MoME workbook (`python -m mome data`), which implements arXiv:2407.19610.
## Sources and licences
{sources}
## Sizes
{sizes}

Training tokens over their shares ({shares}) differ by {difference:.2f} % of the largest (allowed:
{max_diff_percent:g} %). An article {need} exist in all natural languages. Tokens are those of `tokenizer/`
({vocab_size:,} entries) with `<s>` and `</s>`; `dataset/` holds rows of {context}.
## The splits
A hash of `split_seed` and article id draws the split, for all translations at once: {validation_fraction:.0%}
of the articles are validation, which chooses, {test_fraction:.0%} are test, for the numbers that are told.
Of each, a language keeps at most as many tokens as the smallest has. So that they are of many articles, one
with more than {held_out_tokens:,} tokens is held out as a piece of whole lines; another hash draws its place,
about the same in all translations. The rest of it is in no split, and copies are looked for with all of it.
## What was removed
{read}{removed}

A copy shares {near_duplicates:g} or more of its five-word shingles (Jaccard) with a text of a more protected
split: validation before test before train. With an article common to several languages all of them go.
## How to make it again
```json
{recipe}
```
SHA-256 of all rows and the vocabulary: `{sha256}`
"""


def data_card(data_path: Path, corpus_manifest: dict) -> str:
    """Return the card of a built data set as Markdown with YAML in front; it holds no absolute path."""
    manifest, corpus = read_json(data_path / "manifest.json"), corpus_manifest["fields"]
    fields, notes, languages = manifest["fields"], manifest["notes"], manifest["notes"]["languages"]
    documents, removed, copies = (pd.read_parquet(data_path / f"{name}.parquet")
                                  for name in ("documents", "removed", "copies"))
    removed["copies"] = [int((copies.language == language).sum()) for language in removed.language]
    groups = documents[documents.kept].assign(documents=1).groupby(["language", "split"])
    sizes = groups[["documents", "n_tokens", "n_bytes"]].sum().loc[list(product(languages, SPLITS))]
    found = documents[documents.split == "train"].groupby("language").n_tokens.sum().to_dict()
    weights, train = token_weights(found, fields["shares"]), notes["tokens"]["train"]
    natural = [language for language in languages if language not in CODE_LANGUAGES]
    sources = [f"- {text}" for text in take_parts(SOURCES[corpus["source"]], languages)]
    portable = {name: value for name, value in corpus.items() if '"/' not in json.dumps(value)}
    return re.sub("\n(#.*)\n", r"\n\n\1\n\n", DATA_CARD).format(  # blank lines around headings
        **fields | notes | {"shares": json.dumps(fields["shares"])}, codes=", ".join(languages),
        names=", ".join(map(language_name, languages)), natural=json.dumps(natural),
        sources="\n".join(sources), need="must" if fields["common_articles"] else "need not",
        sizes=to_markdown(sizes.reset_index()), removed=to_markdown(removed),
        difference=largest_difference({name: train[name] / weights[name] for name in languages}),
        read="".join(f"- {line}\n" for line in describe_folder(corpus_manifest, languages)) + "\n",
        recipe=json.dumps({"corpus": portable, "data": fields}, indent=1, ensure_ascii=False))


def describe_folder(corpus_manifest: dict, languages: list[str]) -> list[str]:
    """Return sentences on the files of a folder: how many were read, and what was left out and why."""
    notes, lines = corpus_manifest.get("notes", {}), []
    for language in languages:
        if "files" in notes.get(language, {}):
            count = notes[language]["files"]
            lines += [f"{language_name(language)}: {count:,} {'files' if count != 1 else 'file'} read",
                      *describe_reading(language, notes[language])]
    return lines


def take_parts(parts: tuple, languages: list[str]) -> list:
    """Return of what is said of natural language and of code that which these languages are."""
    is_there = [any((name in CODE_LANGUAGES) == is_code for name in languages) for is_code in (False, True)]
    return [part for part, is_used in zip(parts, is_there, strict=True) if is_used]


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown: languages by name, thousands grouped, words in place of underscores."""
    table = table.assign(language=table.language.map(language_name))
    cells = table.map(lambda value: value if isinstance(value, str) else f"{value:,}")
    head = [table.columns.str.removeprefix("n_").str.replace("_", " "), ["---:"] * len(table.columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (*head, *cells.itertuples(index=False)))
