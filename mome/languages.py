"""Languages: what they are called, which are code, and which corpus has which."""

import os
import re
from pathlib import Path

from mome.checks import check_choice

# Natural languages by the names that corpora give them.
NATURAL = {
    "en": "English", "fr": "French", "de": "German", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "pt-br": "Brazilian Portuguese", "nl": "Dutch", "da": "Danish", "sv": "Swedish", "no": "Norwegian",
    "fi": "Finnish", "et": "Estonian", "pl": "Polish", "cs": "Czech", "sk": "Slovak", "sl": "Slovenian",
    "hu": "Hungarian", "ro": "Romanian", "bg": "Bulgarian", "el": "Greek", "tr": "Turkish", "ru": "Russian",
    "uk": "Ukrainian", "ca": "Catalan", "eu": "Basque", "gl": "Galician", "id": "Indonesian",
    "vi": "Vietnamese", "hi": "Hindi", "ja": "Japanese", "ko": "Korean", "zh-cn": "Chinese (simplified)",
    "zh-tw": "Chinese (traditional)"}
# Programming languages: their names, what else their folders are called, the endings of their files. Not `cs`
# or `pl`: Czech and Polish.
PROGRAMMING = {
    "py": ("Python", "python python3 py3", ".py .pyw .pyi"),
    "js": ("JavaScript", "javascript ecmascript", ".js .mjs .cjs .jsx"),
    "typescript": ("TypeScript", "ts", ".ts .tsx .mts .cts"),
    "c": ("C", "c99 ansi-c", ".c .h"),
    "cpp": ("C++", "c++ cxx cc cplusplus", ".cpp .cc .cxx .c++ .hpp .hh .hxx .h++ .h .ipp .tpp"),
    "csharp": ("C#", "c# c-sharp", ".cs .csx"),
    "java": ("Java", "", ".java"),
    "kotlin": ("Kotlin", "kt", ".kt .kts"),
    "scala": ("Scala", "", ".scala .sc"),
    "go": ("Go", "golang", ".go"),
    "rust": ("Rust", "rs", ".rs"),
    "swift": ("Swift", "", ".swift"),
    "ruby": ("Ruby", "rb", ".rb"),
    "php": ("PHP", "", ".php"),
    "perl": ("Perl", "perl5", ".pl .pm"),
    "r": ("R", "rlang", ".r"),
    "julia": ("Julia", "jl", ".jl"),
    "lua": ("Lua", "", ".lua"),
    "haskell": ("Haskell", "hs", ".hs .lhs"),
    "bash": ("Shell", "sh shell zsh ksh", ".sh .bash .zsh .ksh"),
    "sql": ("SQL", "", ".sql"),
}
LANGUAGE_NAMES = NATURAL | {language: name for language, (name, _, _) in PROGRAMMING.items()}
CODE = {language: (names.split(), endings.split()) for language, (_, names, endings) in PROGRAMMING.items()}
# Code has no translations: it takes part in balancing and splitting, never in article alignment.
CODE_LANGUAGES = frozenset(CODE)
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


def usual_name(name: str) -> str:
    """Return what a language is called here: `py` for Python, python3 and PY, `pt-br` for pt_BR."""
    name = name.casefold().replace("_", "-")
    return next((language for language, (others, _) in CODE.items() if name in others), name)


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


def check_languages(languages, available=None, what: str = "languages") -> list[str]:
    """Return `languages` as a list; ValueError for none, repeats, one not `available` or no folder's name."""
    if isinstance(languages, str):
        languages = [part.strip() for part in languages.split(",")]
    languages = list(languages) if isinstance(languages, tuple) else languages
    if not isinstance(languages, list) or not languages or not all(
            isinstance(name, str) and re.fullmatch(r"[A-Za-z][\w+-]*", name) for name in languages):
        raise ValueError(f"{what}={languages!r} is not allowed; give a list such as ['en', 'fr', "
                         "'de', 'py'], names of letters, digits, _, + and -")
    for name in languages:
        if usual_name(name) in CODE_LANGUAGES - {name}:  # as prose it would be cleaned, and parse no longer
            raise ValueError(f"{what}={languages!r} is not allowed; {name!r} is called "
                             f"{usual_name(name)!r} here, whatever its folder is called")
    if taken := TABLE_WORDS.intersection(languages):
        raise ValueError(f"{what}={languages!r} is not allowed; tables use {min(taken)!r} otherwise")
    if len(set(map(usual_name, languages))) != len(languages):
        raise ValueError(f"{what}={languages!r} repeats a language; every language may stand once")
    for name in languages if available is not None else []:
        check_choice(what, name, available)
    return list(languages)


def folder_path(corpus: str) -> Path:
    """Return the path of `folder:PATH`, as this process spells it: the C locale has other letters for it."""
    path = os.fsdecode(corpus.removeprefix("folder:").encode("utf-8", "surrogateescape"))
    return Path(path).expanduser()


def check_folder(corpus: str, what: str) -> None:
    """Raise ValueError unless `folder:PATH` is a folder that holds something."""
    inside = "with one sub-folder per language"
    if corpus == "folder:PATH":
        raise ValueError(f"{what}={corpus!r} is not allowed; put your own folder after folder:, {inside}")
    try:
        folder = folder_path(corpus)
        is_folder = corpus != "folder:" and folder.is_dir()
        is_empty = is_folder and not any(folder.iterdir())
        os.fsencode(folder.resolve()).decode()
    except UnicodeError:
        raise ValueError(f"{what}={corpus!r} is not allowed; the folder's path is not UTF-8") from None
    except (OSError, RuntimeError, ValueError) as error:  # of the home of nobody, of a zero byte
        raise ValueError(f"{what}={corpus!r} cannot be read: {error}") from None
    if not is_folder:
        raise ValueError(f"{what}={corpus!r}: there is no folder {folder}; give folder:PATH {inside}")
    if is_empty:
        raise ValueError(f"{what}={corpus!r}: {folder} holds no files; expected <language>/**/*.txt, "
                         ".md, .py, .jsonl or .parquet")


def check_corpus(corpus: str, what: str = "corpus") -> None:
    """Raise ValueError unless `corpus` is known, a fetched one maybe by its date, or a folder with files."""
    source, snapshot = split_corpus(corpus) if isinstance(corpus, str) else (corpus, "")
    if isinstance(corpus, str) and corpus.startswith("folder:"):
        check_folder(corpus, what)
        return
    check_choice(what, source, CORPORA)
    if "@" in corpus and (source not in FETCHED or not re.fullmatch(r"\d{4}-\d\d-\d\d", snapshot)):
        raise ValueError(f"{what}={corpus!r} is not allowed; a snapshot is a date, of {', '.join(FETCHED)} "
                         "only, for example help@2026-11-25")
