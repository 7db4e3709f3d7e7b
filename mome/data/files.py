"""Where a folder's languages lie: which of their files are read, and which are left out and why."""

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from mome.data.readers import HTML, ROWS, TEXT, bare_name, ending_of, printable, row_languages
from mome.languages import CODE, CODE_LANGUAGES, language_name, usual_name

SHOWN = 5  # names that are told of each reason
# Why a file is not read. What bears these names, in small letters, is no text wherever it lies.
BUILT, HIDDEN = "built, fetched or versioned", "hidden"
NEVER = {
    HIDDEN: (".*",),
    "left behind by an editor or a system": (
        "*~", "*.swp", "*.swo", "#*#", "~$*", "*.tmp", "*.bak", "*.orig", "*.rej", "*.part", "thumbs.db",
        "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin", "@eadir", "lost+found"),
    BUILT: (
        "cvs", "_darcs", "rcs", "sccs", "__pycache__", "__pypackages__", "node_modules", "bower_components",
        "jspm_packages", "site-packages", "dist-packages", "venv", "virtualenv", "build", "_build", "dist",
        "*.egg-info", "*.dist-info")}
NEVER_CODE = frozenset(("vendor", "third_party", "target"))  # beside code; elsewhere words of every day
EMPTY, NO_ROWS = "empty", "JSON without a list of rows"
CODE_BESIDE_TEXT = "code in a natural language's folder"
OTHER_CODE, ROWS_BESIDE_CODE = "not of this programming language", "rows beside code"
CODE_ENDINGS = frozenset(ending for _, endings in CODE.values() for ending in endings)


@dataclass
class LanguageFiles:
    """A language's files in order, and {reason: {"count", "first" names}} of what is left out.

    `root` is the language's own folder in `folder`; where it has none, `folder` itself, and `is_alone` then
    says that it has one file, not rows among those of others. With `is_lines` each line is an article; `said`
    tells why, or why not.
    """

    language: str
    folder: Path
    root: Path
    files: list[Path] = field(default_factory=list)
    left_out: dict[str, dict] = field(default_factory=dict)
    is_alone: bool = False
    is_lines: bool = False
    said: str = ""

    @property
    def is_shared(self) -> bool:
        """True where its files hold rows of other languages, too."""
        return self.root == self.folder and not self.is_alone

    def leave_out(self, reason: str, place: Path | str, count: int = 1) -> None:
        entry = self.left_out.setdefault(reason, {"count": 0, "first": []})
        entry["count"] += count
        if len(entry["first"]) < SHOWN:
            name = place if isinstance(place, str) else printable(place.relative_to(self.folder).as_posix())
            entry["first"].append(name)

    def name_of(self, path: Path) -> str:
        """Return a path as it names a folder's state, letters composed; ValueError unless it is UTF-8."""
        try:
            name = os.fsencode(path.relative_to(self.root).as_posix()).decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{printable(path)}: its name is not UTF-8; rename it") from None
        name = unicodedata.normalize("NFC", name)
        return name if self.root == self.folder else f"{self.language}/{name}"

    def article_of(self, path: Path) -> str:
        """Return the article id that a file's name gives: its path without endings, for code with its own."""
        name = bare_name(self.name_of(path).removeprefix(f"{self.language}/"))
        if self.language in CODE_LANGUAGES and ending_of(path) not in ROWS:
            return name
        return "" if self.is_alone else name.removesuffix(PurePath(name).suffix)

    def describe(self) -> dict:
        """Return what a manifest keeps: how many files are read, how, and what is left out."""
        unread = sum(self.left_out[reason]["count"] for reason in (EMPTY, NO_ROWS) if reason in self.left_out)
        return {"files": len(self.files) - unread, "said": self.said, "left_out": self.left_out}


def describe_reading(language: str, about: dict) -> list[str]:
    """Return a line on how a lone file is read, and one a reason: how many are left out, the first names."""
    lines = [about["said"]] * bool(about["said"])
    for reason, entry in about["left_out"].items():
        some = ", ".join(entry["first"]) + ", ..." * (entry["count"] > len(entry["first"]))
        lines.append(f"{entry['count']:,} left out, {reason}: {some}")
    return [f"{language_name(language)}: {line}" for line in lines]


def find_language(folder: Path, language: str) -> LanguageFiles:
    """Return the files of a language: of its folder by any usual name, else its one file, else rows that
    name it in a column `language`, as `mome data` writes them.
    """
    entries, name = list_entries(folder), usual_name(language)
    roots = [path for path in entries if path.is_dir() and usual_name(path.name) == name]
    files = [path for path in entries if path.is_file()]
    alone = [path for path in files if language not in CODE_LANGUAGES and is_file_of(path, name)]
    for places in (roots, [] if roots else alone):
        if len({os.path.realpath(path) for path in places}) > 1:
            shown = " and ".join(printable(path) for path in places)
            raise ValueError(f"languages={language!r}: {shown} are both of this language; keep one")
    if roots:
        return walk_files(folder, roots[0], language)
    if alone:
        return LanguageFiles(language, folder, folder, alone[:1], is_alone=True)
    found = LanguageFiles(language, folder, folder)
    for endings in ((".json",), (".jsonl", ".ndjson"), (".parquet",), (".csv", ".tsv")):
        rows = [path for path in files if ending_of(path) in endings and name in row_languages(path)]
        for path in rows if found.files else []:
            found.leave_out(f"rows beside those of {found.files[0].name}", path)
        found.files = found.files or rows
    return found


def is_file_of(path: Path, name: str) -> bool:
    """True for a language's one file: en.txt, en.jsonl.gz, or Corpus.en-fr.en as OPUS has it."""
    stem, ending = os.path.splitext(bare_name(path.name))
    is_known = ending.lower() in TEXT | HTML | ROWS
    return usual_name(stem if is_known else ending[1:]) == name


def list_entries(folder: Path) -> list[Path]:
    """Return what a folder holds beside what is never text, in order; nothing where there is no folder."""
    try:
        entries = sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
    except OSError as error:
        raise ValueError(f"{printable(folder)} cannot be read: {error}") from None
    return [path for path in entries if not find_reason(path)]


def walk_files(folder: Path, root: Path, language: str) -> LanguageFiles:
    """Return the files under a language's folder `root`, links followed, each file and folder once."""
    found, seen, left_out, spare = LanguageFiles(language, folder, root), set(), [], []
    pending, links = [root], []  # links last: what is reached without one keeps its own name
    try:
        while pending or links:
            path = pending.pop() if pending else links.pop(0)
            real = os.path.realpath(path)
            if path.is_dir() and real not in seen:
                seen.add(real)
                entries = sorted(path.iterdir())
                if any(entry.name == "pyvenv.cfg" for entry in entries):
                    left_out.append((path, BUILT, count_files(path)))
                    entries = []
                for entry in entries:
                    if reason := find_reason(entry, language in CODE_LANGUAGES):
                        left_out.append((entry, reason, count_files(entry)))
                    else:
                        (links if entry.is_symlink() else pending).append(entry)
            elif reason := "links to what is read already" if real in seen else judge_file(path, language):
                (spare if reason == ROWS_BESIDE_CODE else left_out).append((path, reason, 1))
            else:
                seen.add(real)
                found.files.append(path)
    except OSError as error:
        raise ValueError(f"{printable(root)} cannot be read: {error}") from None
    if not found.files:  # code as rows
        found.files, spare = [path for path, *_ in spare], []
    found.files.sort()
    nth, turns = Counter(), {}  # one of each ending is named before a second
    for path, *_ in sorted(left_out + spare):
        nth[ending_of(path)] += 1
        turns[path] = nth[ending_of(path)]
    for path, reason, count in sorted(left_out + spare, key=lambda entry: (turns[entry[0]], entry[0])):
        if count:
            found.leave_out(reason, path, count)
    for path in found.files:
        found.name_of(path)  # refuses those that are not UTF-8
    return found


def find_reason(path: Path, is_code: bool = False) -> str:
    """Return why a file or folder of that name is never text, empty where it may be."""
    name = path.name.lower()
    if is_code and name in NEVER_CODE:
        return BUILT
    return next((reason for reason, patterns in NEVER.items()
                 if any(fnmatchcase(name, pattern) for pattern in patterns)), "")


def judge_file(path: Path, language: str) -> str:
    """Return why a file of a language's folder is not read, empty where it is."""
    if not path.is_file():
        return "devices and pipes" if path.exists() else "broken links"
    ending = ending_of(path)
    if language in CODE_LANGUAGES:
        if ending in CODE[language][1]:
            return ""
        return ROWS_BESIDE_CODE if ending in (".jsonl", ".ndjson", ".parquet") else OTHER_CODE
    if ending in TEXT | HTML | ROWS:
        return ""
    return CODE_BESIDE_TEXT if ending in CODE_ENDINGS else "of an ending that is not read"


def count_files(path: Path) -> int:
    """Return how many files lie under a folder that is left out, links not followed; 1 for a file."""
    if path.is_symlink() or not path.is_dir():
        return 1
    return sum(len(names) for _, _, names in os.walk(path))
