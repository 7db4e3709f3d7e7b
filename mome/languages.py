"""Languages: what they are called, which are code, and which corpus has which."""

import re
from pathlib import Path

from mome.checks import check_choice

LANGUAGE_NAMES = {
    "en": "English", "fr": "French", "de": "German", "py": "Python", "es": "Spanish", "it": "Italian",
    "pt": "Portuguese", "pt-br": "Brazilian Portuguese", "nl": "Dutch", "da": "Danish", "sv": "Swedish",
    "no": "Norwegian", "fi": "Finnish", "et": "Estonian", "pl": "Polish", "cs": "Czech", "sk": "Slovak",
    "sl": "Slovenian", "hu": "Hungarian", "ro": "Romanian", "bg": "Bulgarian", "el": "Greek", "tr": "Turkish",
    "ru": "Russian", "uk": "Ukrainian", "ca": "Catalan", "eu": "Basque", "gl": "Galician", "id": "Indonesian",
    "vi": "Vietnamese", "hi": "Hindi", "ja": "Japanese", "ko": "Korean", "zh-cn": "Chinese (simplified)",
    "zh-tw": "Chinese (traditional)", "js": "JavaScript", "typescript": "TypeScript", "c": "C", "cpp": "C++",
    "csharp": "C#", "java": "Java", "kotlin": "Kotlin", "scala": "Scala", "go": "Go", "rust": "Rust",
    "swift": "Swift", "ruby": "Ruby", "php": "PHP", "perl": "Perl", "r": "R", "julia": "Julia", "lua": "Lua",
    "haskell": "Haskell", "bash": "Shell", "sql": "SQL"}
# Code has no translations: it takes part in balancing and splitting, never in article alignment.
CODE_LANGUAGES = frozenset({
    "py", "js", "typescript", "c", "cpp", "csharp", "java", "kotlin", "scala", "go", "rust", "swift", "ruby",
    "php", "perl", "r", "julia", "lua", "haskell", "bash", "sql"})
# The languages that a corpus can give; a folder gives what it holds.
CORPUS_LANGUAGES = {source: tuple(codes.split()) for source, codes in {
    "help": "en fr de py ca cs da dz el en-gb es et eu fi gl hi hu id it ja km ko nl om pl pt pt-br ru sk sl "
            "sv tr vi zh-cn zh-tw",
    "wiki40b": "en fr de py ar bg ca cs da el es et fa fi he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru "
               "sk sl sr sv th tl tr uk vi zh-cn zh-tw",
    "reference": "en fr de py es id it ja pt pt-br zh-cn zh-tw",
    "mini": "en fr de py es it sql bash"}.items()}
CORPORA = ("auto", *CORPUS_LANGUAGES, "folder:PATH")
# What tables hold beside languages, a column or a line each.
TABLE_WORDS = frozenset({"all", "article_id", "auroc", "bytes", "classifier", "language", "n_bytes", "n_rows",
                         "n_tokens", "row", "shared", "text", "tokens"})
# Those that are fetched: the state of a day is kept, and named help@2026-11-25.
FETCHED = ("help", "wiki40b", "reference")


def language_name(language: str) -> str:
    return LANGUAGE_NAMES.get(language, language)


def split_corpus(corpus: str) -> tuple[str, str]:
    """Return (source, snapshot) of `help@2026-11-25`; the snapshot is empty where none is given."""
    if corpus.startswith("folder:"):
        return corpus, ""
    source, _, snapshot = corpus.partition("@")
    return source, snapshot


def corpus_languages(corpus: str) -> list[str] | None:
    """Return the languages that a corpus can give; None for a folder; for `auto` those of any corpus."""
    if corpus.startswith("folder:"):
        return None
    source = split_corpus(corpus)[0]
    check_choice("corpus", source, CORPORA)
    names = CORPUS_LANGUAGES if source == "auto" else [source]
    return list(dict.fromkeys(language for name in names for language in CORPUS_LANGUAGES[name]))


def check_languages(languages, available=None, name: str = "languages") -> list[str]:
    """Return `languages` as a list; ValueError for none, repeats, one not `available` or no folder's name."""
    if isinstance(languages, str):
        languages = [part.strip() for part in languages.split(",")]
    languages = list(languages) if isinstance(languages, tuple) else languages
    if not isinstance(languages, list) or not languages or not all(
            isinstance(each, str) and re.fullmatch(r"[A-Za-z][\w+-]*", each) for each in languages):
        raise ValueError(f"{name}={languages!r} is not allowed; give a list such as ['en', 'fr', "
                         "'de', 'py'], names of letters, digits, _, + and -")
    if taken := TABLE_WORDS.intersection(languages):
        raise ValueError(f"{name}={languages!r} is not allowed; tables use {min(taken)!r} otherwise")
    if len(set(languages)) != len(languages):
        raise ValueError(f"{name}={languages!r} repeats a language; every language may stand once")
    for language in languages if available is not None else []:
        check_choice(name, language, available)
    return list(languages)


def check_corpus(corpus: str, name: str = "corpus") -> None:
    """Raise ValueError unless `corpus` is known, a fetched one maybe by its date, or a folder with files."""
    source, snapshot = split_corpus(corpus) if isinstance(corpus, str) else (corpus, "")
    if isinstance(corpus, str) and corpus.startswith("folder:"):
        place, inside = corpus.removeprefix("folder:"), "with one sub-folder per language"
        folder = Path(place).expanduser()
        if place == "PATH":
            raise ValueError(f"{name}={corpus!r} is not allowed; put your own folder after folder:, {inside}")
        if not place or not folder.is_dir():
            raise ValueError(f"{name}={corpus!r}: there is no folder {folder}; give folder:PATH {inside}")
        if not any(path.is_file() for path in folder.glob("*/**/*")):
            raise ValueError(f"{name}={corpus!r}: {folder} holds no files; expected <language>/**/*.txt, "
                             ".md, .py, .jsonl or .parquet")
        return
    check_choice(name, source, CORPORA)
    if "@" in corpus and (source not in FETCHED or not re.fullmatch(r"\d{4}-\d\d-\d\d", snapshot)):
        raise ValueError(f"{name}={corpus!r} is not allowed; a snapshot is a date, of {', '.join(FETCHED)} "
                         "only, for example help@2026-11-25")
