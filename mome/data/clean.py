"""Cleaning: one Unicode form, no control characters, no line that stands twice; and what counts as a word."""

import re
import unicodedata
from collections import Counter

import pandas as pd

from mome.languages import CODE_LANGUAGES
from mome.progress import track

LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
CONTROLS = "\x00-\x08\x0b-\x1f\x7f\x81\x8d\x8f\x90\x9d"
# Controls between words: without them, two become one.
BREAKS = re.compile(f"(?<=[^\\s{CONTROLS}])[{CONTROLS}]+(?=[^\\s{CONTROLS}])")
WINDOWS_1252 = re.compile("[\x80\x82-\x84\x86-\x8c\x8e\x91-\x9c\x9e\x9f]")  # its quotes, as Latin-1
# Controls but tab and line feed, lone surrogates, byte-order mark, soft hyphen, zero-width space.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\u00ad\u200b]")
# A run of letters, digits, underscores, marks (Hindi's vowel signs); in scripts without spaces, a character.
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
MARKS = "".join(mark for mark in map(chr, range(0x300, 0x1000)) if unicodedata.category(mark).startswith("M"))
WORD = re.compile(f"[{SPACELESS}]|(?:[^\\W{SPACELESS}]+[{MARKS}]*)+")


def normalize(text: str) -> str:
    """Return the text in Unicode's composed form (NFC), with line feeds as line ends, nothing invisible."""
    text = BREAKS.sub(" ", LINE_ENDS.sub("\n", text))
    text = WINDOWS_1252.sub(lambda match: match[0].encode("latin-1").decode("cp1252"), text)
    return unicodedata.normalize("NFC", INVISIBLE.sub("", text))


def clean_documents(documents: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (documents, normalized, without what repeats) and counts per language of what was removed."""
    normal = documents.assign(
        text=[normalize(text) for text in track(documents.text, "clean", len(documents))])
    untranslated, kept, counts = shared_lines(normal), [], []
    for language, group in normal.groupby("language", sort=False):
        group, is_code = group.sort_values("article_id"), language in CODE_LANGUAGES
        # A line that repeats, such as a menu, would be in train and test; in code, equal lines are syntax.
        pieces = group.text if is_code else group.text.str.split("\n").explode()
        pieces = pieces[pieces.str.strip() != ""]
        fresh = pieces.drop_duplicates()
        foreign = fresh.isin(set() if is_code else untranslated)
        texts = fresh[~foreign].groupby(level=0, sort=False).agg("\n".join).astype(group.text.dtype)
        before, cleaned = documents.text[group.index], group.loc[texts.index].assign(text=texts)
        kept.append(cleaned)
        counts.append({
            "language": language, "articles_before": len(group), "characters_before": before.str.len().sum(),
            "normalized_articles": (before != group.text).sum(),
            "repeated_lines": (not is_code) * (len(pieces) - len(fresh)), "untranslated_lines": foreign.sum(),
            "equal_articles": is_code * (len(group) - len(cleaned)), "articles_after": len(cleaned),
            "characters_after": int(cleaned.text.str.len().sum())})
    return pd.concat(kept, ignore_index=True), pd.DataFrame(counts)


def shared_lines(documents: pd.DataFrame) -> set[str]:
    """Return the lines that stand in two natural languages or more."""
    natural = documents[~documents.language.isin(CODE_LANGUAGES)].groupby("language").text
    counts = Counter(line for _, texts in natural for line in set("\n".join(texts).split("\n")))
    return {line for line, count in counts.items() if count > 1}
