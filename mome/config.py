"""Folders, scales and the checks that every entry point shares."""

from __future__ import annotations

import math
import os
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

LANGUAGE_NAMES = {
    "en": "English", "fr": "French", "de": "German", "py": "Python", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "pt-br": "Brazilian Portuguese",
    "nl": "Dutch", "da": "Danish", "sv": "Swedish", "no": "Norwegian", "fi": "Finnish", "et": "Estonian", "pl": "Polish", "cs": "Czech", "sk": "Slovak",
    "sl": "Slovenian", "hu": "Hungarian", "ro": "Romanian", "bg": "Bulgarian", "el": "Greek", "tr": "Turkish", "ru": "Russian", "uk": "Ukrainian",
    "ca": "Catalan", "eu": "Basque", "gl": "Galician", "id": "Indonesian", "vi": "Vietnamese", "hi": "Hindi", "ja": "Japanese", "ko": "Korean",
    "zh-cn": "Chinese (simplified)", "zh-tw": "Chinese (traditional)", "js": "JavaScript", "typescript": "TypeScript", "c": "C", "cpp": "C++",
    "csharp": "C#", "java": "Java", "kotlin": "Kotlin", "scala": "Scala", "go": "Go", "rust": "Rust", "swift": "Swift", "ruby": "Ruby", "php": "PHP",
    "perl": "Perl", "r": "R", "julia": "Julia", "lua": "Lua", "haskell": "Haskell", "bash": "Shell", "sql": "SQL"}
# Code has no translations: it takes part in balancing and splitting, never in article alignment.
CODE_LANGUAGES = frozenset({"py", "js", "typescript", "c", "cpp", "csharp", "java", "kotlin", "scala", "go", "rust", "swift", "ruby", "php", "perl", "r",
                            "julia", "lua", "haskell", "bash", "sql"})
# The languages that a corpus can give; a folder gives what it holds.
CORPUS_LANGUAGES = {
    "help": ("en", "fr", "de", "py", "ca", "cs", "da", "dz", "el", "en-gb", "es", "et", "eu", "fi", "gl", "hi", "hu", "id", "it", "ja", "km", "ko", "nl",
             "om", "pl", "pt", "pt-br", "ru", "sk", "sl", "sv", "tr", "vi", "zh-cn", "zh-tw"),
    "wiki40b": ("en", "fr", "de", "py", "ar", "bg", "ca", "cs", "da", "el", "es", "et", "fa", "fi", "he", "hi", "hr", "hu", "id", "it", "ja", "ko", "lt",
                "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "th", "tl", "tr", "uk", "vi", "zh-cn", "zh-tw"),
    "reference": ("en", "fr", "de", "py", "es", "id", "it", "ja", "pt", "pt-br", "zh-cn", "zh-tw"),
    "mini": ("en", "fr", "de", "py", "es", "it", "sql", "bash")}
# The values of a scale that make its data set what it is.
DATA_OPTIONS = ("vocab_size", "context", "tokens_per_language", "max_diff_percent", "validation_fraction", "common_articles", "near_duplicates", "shares")
# The names of what can be chosen: here, so that a plan is checked without loading what they name.
CLASSIFIERS = ("majority", "multinomial_nb", "complement_nb", "logistic_regression", "logistic_regression_l2", "sgd_modified_huber", "linear_svm",
               "k_nearest_neighbours", "random_forest", "gradient_boosting", "neural_net", "paper_pipeline")
KD_LOSSES = ("teacher_ce", "forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "l1_weighted")
MOVING_SCHEDULES = ("linear", "cosine", "dwa", "grad_norm")
MOE_VARIANTS = ("PLE", "PLE branched", "JEET", "MoE-CE")
DENSE_SIZES = ("same active", "same total", "same total, deep")
MODULAR_STAGES = ("PLE", "JEET", "MoE-CE")
ORDERS = ("one", "rotations", "all")
FIGURE_DPI = 150
CORPORA = ("auto", "help", "wiki40b", "reference", "mini", "folder:PATH")


def repository() -> Path:
    """Return the checkout that holds `notebooks/` and `data/mini/`; FileNotFoundError when mome is installed without it."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "notebooks").is_dir():
        raise FileNotFoundError(f"no notebooks beside {root}: install the workbook from its checkout with `pip install -e .`")
    return root


def home() -> Path:
    """Return the folder under which everything is built: `MOME_HOME` when set, else the checkout."""
    override = os.environ.get("MOME_HOME")
    return Path(override).expanduser().resolve() if override else repository()


def artifacts_dir() -> Path:
    return home() / "data" / "artifacts"


def runs_dir() -> Path:
    return home() / "runs"


def is_batch() -> bool:
    """True when the runner started this process: nobody watches, so no widgets."""
    return os.environ.get("MOME_BATCH") == "1"


def check_choice(name: str, value, allowed) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; choose one of: {', '.join(map(str, allowed))}")


def check_range(name: str, value, low: float, high: float = float("inf"), whole: bool = False) -> None:
    """Raise ValueError unless `value` is a number (a whole one on request) in [low, high]."""
    kind = "a whole number" if whole else "a number"
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or not low <= value <= high:
        limits = f"in [{low:g}, {high:g}]" if high != float("inf") else f"of at least {low:g}"
        raise ValueError(f"{name}={value!r} is not allowed; it must be {kind} {limits}")


def check_seeds(seeds) -> list[int]:
    """Return `seeds` as a list of ints; ValueError for an empty list, repeats, negative or non-whole values."""
    if isinstance(seeds, str):
        parts = [part.strip() for part in seeds.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise ValueError(f"seeds={seeds!r} is not allowed; give whole numbers of at least 0, for example 0,1,2")
        seeds = [int(part) for part in parts]
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"seeds={seeds!r} is not allowed; give a list of whole numbers of at least 0, for example [0, 1, 2]")
    for seed in seeds:
        check_range("seeds", seed, 0, 2**31 - 1, whole=True)
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={seeds!r} repeats a seed; every seed may stand once")
    return seeds


def check_languages(languages, available=None) -> list[str]:
    """Return `languages` as a list; ValueError for an empty list, a repeat, one outside `available`, or what cannot be a folder's name."""
    if isinstance(languages, str):
        languages = [part.strip() for part in languages.split(",")]
    if not isinstance(languages, list) or not languages or not all(isinstance(name, str) and re.fullmatch(r"[A-Za-z][\w+-]*", name) for name in languages):
        raise ValueError(f"languages={languages!r} is not allowed; give a list such as ['en', 'fr', 'de', 'py'], names of letters, digits, _, + and -")
    if len(set(languages)) != len(languages):
        raise ValueError(f"languages={languages!r} repeats a language; every language may stand once")
    for name in languages if available is not None else []:
        check_choice("languages", name, available)
    return languages


def corpus_languages(corpus: str) -> list[str] | None:
    """Return the languages that a corpus can give; None for a folder, which gives what it holds; for `auto` those of any corpus."""
    if corpus.startswith("folder:"):
        return None
    check_choice("corpus", corpus, CORPORA)
    names = CORPUS_LANGUAGES if corpus == "auto" else [corpus]
    return list(dict.fromkeys(language for name in names for language in CORPUS_LANGUAGES[name]))


def check_shares(shares, languages: list[str] | None = None) -> None:
    """Raise ValueError unless `shares` is "equal", "imbalanced" or maps every language to a positive number."""
    if shares in ("equal", "imbalanced"):
        return
    if not isinstance(shares, dict) or not shares:
        raise ValueError(f"shares={shares!r} is not allowed; give equal, imbalanced, or a number for every language, for example {{'en': 2, 'fr': 1}}")
    for language, share in shares.items():
        check_range(f"shares[{language!r}]", share, 1e-6)
    if languages is not None and set(shares) != set(languages):
        raise ValueError(f"shares={shares!r} is not allowed; it must name each of: {', '.join(languages)}")


def check_corpus(corpus: str) -> None:
    """Raise ValueError unless `corpus` names a known corpus; for `folder:PATH` the folder must exist and hold files."""
    if isinstance(corpus, str) and corpus.startswith("folder:"):
        folder = Path(corpus.removeprefix("folder:")).expanduser()
        if corpus == "folder:" or not folder.is_dir():
            raise ValueError(f"corpus={corpus!r}: there is no folder {folder}; give folder:PATH with one sub-folder per language")
        if not any(path.is_file() for path in folder.glob("*/**/*")):
            raise ValueError(f"corpus={corpus!r}: {folder} holds no files; expected <language>/**/*.txt, .md, .py, .jsonl or .parquet")
        return
    check_choice("corpus", corpus, CORPORA)


@dataclass(frozen=True)
class Shape:
    """A GPT-2 shape: layers, heads and width."""

    n_layer: int
    n_head: int
    n_embd: int

    def __post_init__(self):
        for field in fields(self):
            check_range(field.name, getattr(self, field.name), 1, whole=True)
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not allowed; it must be a multiple of n_head={self.n_head}")


@dataclass(frozen=True)
class Scale:
    """Everything that grows with the machine. Token counts are per language; batch_size is in sequences per optimizer step."""

    name: str
    tokens_per_language: int  # most training tokens kept of each language
    vocab_size: int
    context: int  # tokens per sequence, T
    teacher: Shape
    student: Shape
    expert: Shape  # bodies of the modular model
    batch_size: int
    micro_batch_size: int  # sequences per forward pass on one device
    teacher_tokens: int  # training tokens the teacher sees, all languages together
    student_tokens: int  # training tokens a student or expert sees, per language
    teacher_lr: float
    student_lr: float
    targets_per_token: int  # cached teacher targets per position: half its most probable tokens, half draws from the rest
    evaluation_rows: int  # most validation sequences scored per language
    evaluations: int  # evaluations within one training run
    router_rows: int  # most training sequences per language a router is fitted on
    tie_word_embeddings: bool = True  # of the modular model; the paper's head is untied, with a bias
    warmup_fraction: float = 0.05
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    validation_fraction: float = 0.06
    max_diff_percent: float = 5.0  # most that the languages' training tokens may differ, in percent of the largest
    common_articles: bool = True  # keep an article only when every natural language has it
    near_duplicates: float = 0.5  # Jaccard similarity from which a training text counts as a copy of a held-out one
    shares: str | dict = "equal"  # training tokens of each language: equal, imbalanced (as found), or a mapping such as {"en": 2, "fr": 1}
    mixed_precision: str = "no"  # auto: bf16 where a probe finds it faster and as exact

    def __post_init__(self):
        for name in ("tokens_per_language", "batch_size", "micro_batch_size", "teacher_tokens", "student_tokens",
                     "targets_per_token", "evaluation_rows", "evaluations", "router_rows"):
            check_range(name, getattr(self, name), 1, whole=True)
        check_range("context", self.context, 2, whole=True)  # the first token of a sequence is never a target
        check_range("vocab_size", self.vocab_size, 300, 65_536, whole=True)
        check_range("targets_per_token", self.targets_per_token, 2, self.vocab_size - 1, whole=True)
        for name in ("teacher_lr", "student_lr", "max_grad_norm"):
            check_range(name, getattr(self, name), 1e-8)
        check_range("weight_decay", self.weight_decay, 0)
        check_range("warmup_fraction", self.warmup_fraction, 0, 1)
        check_range("validation_fraction", self.validation_fraction, 0.001, 0.4)
        check_range("max_diff_percent", self.max_diff_percent, 0.01, 100)
        check_range("near_duplicates", self.near_duplicates, 0.1, 1)
        check_shares(self.shares)
        check_choice("mixed_precision", self.mixed_precision, ("auto", "no", "bf16", "fp16"))
        for name in ("tie_word_embeddings", "common_articles"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed; it must be True or False")
        if self.expert.n_embd < 1 or self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size={self.micro_batch_size} is not allowed; it must be at most batch_size={self.batch_size}")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.context

    @property
    def teacher_steps(self) -> int:
        return max(2, self.teacher_tokens // self.tokens_per_step)

    @property
    def student_steps(self) -> int:
        """Optimizer steps of one student on one language."""
        return max(2, self.student_tokens // self.tokens_per_step)


SCALES = {
    scale.name: scale
    for scale in (
        Scale("smoke", 60_000, 1_024, 64, Shape(2, 2, 96), Shape(2, 2, 48), Shape(2, 2, 48), 8, 8, 240_000, 30_000,
              3e-3, 4e-3, 16, 48, 3, 400),
        Scale("laptop", 520_000, 4_096, 128, Shape(4, 4, 256), Shape(3, 4, 128), Shape(3, 4, 128), 4, 4, 1_200_000, 128_000,
              1e-3, 2e-3, 32, 160, 6, 2_000),
        # Sizes of the paper; tokens are asked for with `overrides` when more are wanted.
        Scale("paper", 500_000_000, 32_000, 1_024, Shape(24, 16, 1_024), Shape(12, 12, 768), Shape(3, 6, 768), 1_024, 32,
              6_000_000_000, 1_500_000_000, 3e-4, 5e-4, 64, 2_000, 16, 20_000, tie_word_embeddings=False, mixed_precision="auto"),
    )
}


def resolve_scale(scale: str, overrides: dict | None = None) -> Scale:
    """Return the named scale with single values overridden.

    A shape is overridden as a mapping, for example {"student": {"n_layer": 6}}. Raises ValueError for an unknown
    scale, an unknown field, or a value that the field does not allow.
    """
    check_choice("scale", scale, list(SCALES))
    if overrides is not None and not isinstance(overrides, dict):
        raise ValueError(f"overrides={overrides!r} is not allowed; give a mapping such as {{'context': 64}}")
    base, changes = SCALES[scale], dict(overrides or {})
    known = [field.name for field in fields(Scale) if field.name != "name"]
    for name, value in changes.items():
        check_choice("overrides", name, known)
        if isinstance(getattr(base, name), Shape):
            if not isinstance(value, dict):
                raise ValueError(f"overrides[{name!r}]={value!r} is not allowed; give a mapping such as {{'n_layer': 2}}")
            for key in value:
                check_choice(f"overrides[{name!r}]", key, [field.name for field in fields(Shape)])
            changes[name] = replace(getattr(base, name), **value)
    return replace(base, **changes)


def as_dict(scale: Scale) -> dict:
    """Return the scale as plain nested JSON values."""
    return asdict(scale)
