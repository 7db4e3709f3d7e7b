"""One language after another: students and modular models trained in stages, what they keep, and what helps them keep it."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import MultinomialNB

from mome import distill, evaluate, models, modular, recipes, train
from mome.artifacts import find_or_build
from mome.config import MODULAR_STAGES, ORDERS, check_choice, check_languages, check_range
from mome.recipes import (
    Bench,
    build_all,
    cache_teacher_targets,
    curve,
    dense_logits,
    load_gpt2,
    read_history,
    save_trained,
    score,
    student_rows,
    train_student,
    train_teacher,
    training_options,
)
from mome.router import count_tokens, make_classifier

SECOND_TEACHER_SHARE = 0.5  # of the loss that the student of the stage before has, where it teaches too
ROUTER_FITS = ("all data so far", "new data only", "counts of each language")


def plan_stage(bench: Bench, language: str, earlier: list[str], replay: float, seed: int) -> np.ndarray:
    """Return the batches (steps, B) of a stage: rows of `language`, a share `replay` of all slots given to rows of earlier languages.

    As many rows whatever the share; the replayed ones are drawn evenly from the earlier languages' training rows, none twice
    before all were drawn. Without earlier languages there is nothing to replay.
    """
    scale = bench.scale
    plan = train.plan_batches([student_rows(bench, language)], scale.student_steps, scale.batch_size, seed)
    n_replayed = round(replay * plan.size) if earlier else 0
    rng = np.random.default_rng([seed, 1])
    slots = rng.choice(plan.size, n_replayed, replace=False)
    pools = [rng.permutation(student_rows(bench, name)) for name in earlier]
    for number, slot in enumerate(slots):
        pool = pools[number % len(pools)]
        plan.flat[slot] = pool[number // len(pools) % len(pool)]
    return plan


def train_stage(bench: Bench, language: str, earlier: list[str], *, seed: int, start_from: Path, replay: float = 0.0, second_teacher: bool = False) -> Path:
    """Return the artefact of a dense student's next stage, from `start_from`, with a remedy against forgetting.

    `replay` is the share of sequences that come from earlier languages. With `second_teacher` the student of the stage before
    is distilled too (forward KL, half of the loss), as in learning without forgetting (Li and Hoiem 2017), on the new language's text.
    """
    scale, options = bench.scale, training_options(bench, bench.scale.student_lr)
    check_range("replay", replay, 0, 1)
    config = {"language": language, "earlier": earlier if replay else [], "seed": seed, "replay": replay, "second_teacher": second_teacher,
              "shape": asdict(scale.student), "steps": scale.student_steps, "batch_size": scale.batch_size, "student_tokens": scale.student_tokens,
              "evaluation_rows": scale.evaluation_rows, **options}
    parents = {"data": bench.data_path, "teacher": train_teacher(bench), "targets": cache_teacher_targets(bench), "start_from": start_from}

    def build(folder):
        model = load_gpt2(start_from).to(bench.device)
        before = load_gpt2(start_from).to(bench.device) if second_teacher else None
        objective = distill.make_objective("teacher_ce", dense_logits, targets=bench.targets, second_teacher=before, second_share=SECOND_TEACHER_SHARE)
        history = train.train(model, objective, plan_stage(bench, language, earlier, replay, seed), bench.data.rows("train"), **options,
                              alpha_schedule=distill.make_alpha_schedule("fixed", scale.student_steps, 0.5), evaluate=lambda: curve(bench, dense_logits, model),
                              checkpoint=folder / "checkpoint.safetensors", description=f"stage {language} replay {replay:g} seed {seed}")
        return save_trained(folder, model, history, score(bench, dense_logits, model))

    return find_or_build("stage", config, build, parents, keep_partial=True)


def train_stages(bench: Bench, order: list[str], *, seed: int, replay: float = 0.0, second_teacher: bool = False) -> list[Path]:
    """Return one student artefact a stage, in order: plain sequential training, or with a remedy. The first stage needs none and is shared by all."""
    check_languages(order, bench.data.languages)
    stages = [train_student(bench, order[:1], seed=seed)]
    for number, language in enumerate(order[1:], start=1):
        if replay or second_teacher:
            stages.append(train_stage(bench, language, order[:number], seed=seed, start_from=stages[-1], replay=replay, second_teacher=second_teacher))
        else:
            stages.append(train_student(bench, [language], seed=seed, start_from=stages[-1]))
    return stages


def train_orders(bench: Bench, orders: list[list[str]], *, seed: int, jobs: int = 1) -> dict[tuple[str, ...], list[Path]]:
    """Return {order: stages} of plain sequential training; orders that begin alike share their first stages, `jobs` are trained at a time."""
    for order in orders:
        check_languages(order, bench.data.languages)
    stages: dict[tuple[str, ...], Path] = {}
    for length in range(1, max(map(len, orders)) + 1):
        prefixes = list(dict.fromkeys(tuple(order[:length]) for order in orders if len(order) >= length))
        builds = [partial(train_student, languages=[prefix[-1]], seed=seed, start_from=stages.get(prefix[:-1])) for prefix in prefixes]
        stages |= dict(zip(prefixes, build_all(bench, builds, jobs), strict=True))
    return {tuple(order): [stages[tuple(order[:length])] for length in range(1, len(order) + 1)] for order in orders}


def train_session(bench: Bench, shares: dict[str, float], *, seed: int) -> Path:
    """Return the artefact of one session on all languages merged and shuffled, `shares` of its sequences being each language's.

    As many sequences in all as a balanced session has; a language with more than its even share sees its rows more than once.
    """
    check_languages(list(shares), bench.data.languages)
    for language, share in shares.items():
        check_range(f"shares[{language!r}]", share, 1e-6)
    scale, options = bench.scale, training_options(bench, bench.scale.student_lr)
    steps = scale.student_steps * len(shares)
    config = {"shares": shares, "seed": seed, "shape": asdict(scale.student), "steps": steps, "batch_size": scale.batch_size,
              "student_tokens": scale.student_tokens, "evaluation_rows": scale.evaluation_rows, **options}
    parents = {"data": bench.data_path, "teacher": train_teacher(bench), "targets": cache_teacher_targets(bench)}

    def build(folder):
        model = models.build_gpt2(scale.student, len(bench.data.tokenizer), scale.context, seed).to(bench.device)
        history = train.train(model, distill.make_objective("teacher_ce", dense_logits, targets=bench.targets), plan_session(bench, shares, steps, seed),
                              bench.data.rows("train"), **options, alpha_schedule=distill.make_alpha_schedule("fixed", steps, 0.5),
                              evaluate=lambda: curve(bench, dense_logits, model), checkpoint=folder / "checkpoint.safetensors",
                              description=f"imbalanced session seed {seed}")
        return save_trained(folder, model, history, score(bench, dense_logits, model))

    return find_or_build("stage", config, build, parents, keep_partial=True)


def plan_session(bench: Bench, shares: dict[str, float], steps: int, seed: int) -> np.ndarray:
    """Return shuffled batches (steps, B) in which each language has its share of all sequences."""
    n_rows, rng, parts = steps * bench.scale.batch_size, np.random.default_rng([seed, 2]), []
    borders = np.round(np.cumsum([0.0, *shares.values()]) / sum(shares.values()) * n_rows).astype(int)
    for language, n in zip(shares, np.diff(borders), strict=True):
        rows = student_rows(bench, language)
        parts.append(np.concatenate([rng.permutation(rows) for _ in range(-(-n // len(rows)))] or [rows[:0]])[:n])
    return rng.permutation(np.concatenate(parts)).reshape(steps, bench.scale.batch_size)


def train_moe_stages(bench: Bench, variant: str, order: list[str], *, seed: int) -> list[Path]:
    """Return one modular model a stage, trained on one language after another, told each row's language; as many tokens as the students.

    JEET: a stage trains its language's expert and the shared embedding and head. MoE-CE: and the common expert. PLE: the
    embedding is the first stage's, then frozen with every expert that is done: nothing shared can drift.
    """
    check_choice("variant", variant, MODULAR_STAGES)
    check_languages(order, bench.data.languages)
    stages: list[Path] = []
    for language in order:
        stages.append(train_moe_stage(bench, variant, language, seed=seed, start_from=stages[-1] if stages else None))
    return stages


def train_moe_stage(bench: Bench, variant: str, language: str, *, seed: int, start_from: Path | None) -> Path:
    scale, data, options = bench.scale, bench.data, training_options(bench, bench.scale.student_lr)
    config = {"variant": variant, "language": language, "seed": seed, "shape": asdict(scale.expert), "steps": scale.student_steps,
              "batch_size": scale.batch_size, "student_tokens": scale.student_tokens, "evaluation_rows": scale.evaluation_rows,
              "tie_word_embeddings": scale.tie_word_embeddings, **options}
    parents = {"data": bench.data_path, "targets": cache_teacher_targets(bench), **({"start_from": start_from} if start_from else {})}

    def build(folder):
        model = modular.load_moe(start_from) if start_from else modular.start_moe(bench, variant.replace("PLE", "JEET"), seed, dict.fromkeys(data.languages))
        model.to(bench.device)
        model.experts.requires_grad_(False)
        model.experts[language].requires_grad_(True)
        if variant == "PLE" and start_from:
            for part in (model.embedding, model.lm_head):
                part.requires_grad_(False)
        told, told_validation = (modular.told_forward(data.language_index(split), bench.device) for split in ("train", "validation"))
        history = train.train(model, distill.make_objective("teacher_ce", told, targets=bench.targets), plan_stage(bench, language, [], 0.0, seed),
                              data.rows("train"), **options, alpha_schedule=distill.make_alpha_schedule("fixed", scale.student_steps, 0.5),
                              evaluate=lambda: curve(bench, told_validation, model), checkpoint=folder / "checkpoint.safetensors",
                              description=f"{variant} stage {language} seed {seed}")
        return save_trained(folder, model, history, score(bench, told_validation, model))

    return find_or_build("stage", config, build, parents, keep_partial=True)


def list_orders(languages: list[str], which: str) -> list[list[str]]:
    """Return orders of training: "one" as given; "rotations" of it, in which each language is first once and last once; or "all"."""
    check_choice("orders", which, ORDERS)
    if which == "all":
        return [list(order) for order in itertools.permutations(languages)]
    return [languages[place:] + languages[:place] for place in range(len(languages) if which == "rotations" else 1)]


def read_stages(stages: list[Path], order: list[str], **columns) -> pd.DataFrame:
    """Return the evaluations within all stages in one table, constant columns in front: stage, total_tokens, perplexity_<language>."""
    tables, seen = [], 0
    for language, path in zip(order, stages, strict=True):
        part = read_history(path, stage=language, **columns)
        part["total_tokens"] = part.tokens + seen
        seen = part.total_tokens.iloc[-1]
        tables.append(part.dropna(subset=[f"nats_{order[0]}"]))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(**{f"perplexity_{language}": np.exp(table[f"nats_{language}"]) for language in order})


def measure_loss(stages: list[Path], order: list[str], **columns) -> pd.DataFrame:
    """Return what became of each language but the last, constant columns in front: language, perplexity_ratio (end over just taught),
    bits_per_byte_lost and nats_lost (end minus just taught), forgetting (nats, as `evaluate.forgetting`).
    """
    nats, bits = (recipes.read_score_matrix(stages, order, value) for value in ("nats_per_token", "bits_per_byte"))
    lost, forgotten = nats.iloc[-1] - np.diag(nats), evaluate.forgetting(nats)
    return pd.DataFrame([{**columns, "language": language, "perplexity_ratio": float(np.exp(lost[language])), "nats_lost": float(lost[language]),
                          "bits_per_byte_lost": float(bits[language].iloc[-1] - bits[language][language]), "forgetting": float(forgotten[language])}
                         for language in order[:-1]])


def score_untrained(bench: Bench, seed: int) -> pd.Series:
    """Return nats per token of a student that has learned nothing, by language."""
    model = models.build_gpt2(bench.scale.student, len(bench.data.tokenizer), bench.scale.context, seed).to(bench.device)
    nats = curve(bench, dense_logits, model)
    return pd.Series({language: nats[f"nats_{language}"] for language in bench.data.languages})


def locate_drift(bench: Bench, stages: list[Path], order: list[str]) -> pd.DataFrame:
    """Return where a modular model trained in stages forgets: what comes back when a shared part is put as it was after the language's own stage.

    One line per earlier language and part ("embedding and head", "common expert", "both"): language, part, forgotten (nats
    per token that the end is worse than the own stage), recovered (nats that come back with that part restored). An expert is
    touched in its own stage only, so with all shared parts restored everything comes back.
    """
    def build(folder):
        rows = []
        for number, language in enumerate(order[:-1]):
            own, last = (modular.load_moe(path).to(bench.device) for path in (stages[number], stages[-1]))
            forward = modular.expert_forward(bench.data.languages.index(language))
            nats = {}
            for part in ("own stage", "end", "embedding and head", "common expert", "both"):
                mixed = own if part == "own stage" else modular.load_moe(stages[-1]).to(bench.device)
                if part in ("embedding and head", "both"):
                    mixed.embedding, mixed.lm_head = own.embedding, own.lm_head
                if part in ("common expert", "both") and last.common_expert is not None:
                    mixed.common_expert = own.common_expert
                nats[part] = float(evaluate.summarize(score(bench, forward, mixed, languages=[language])).nats_per_token.iloc[0])
            rows += [{"language": language, "part": part, "forgotten": nats["end"] - nats["own stage"], "recovered": nats["end"] - nats[part]}
                     for part in ("embedding and head", "common expert", "both")]
        pd.DataFrame(rows).to_parquet(folder / "drift.parquet")

    path = find_or_build("drift", {"order": order, "evaluation_rows": bench.scale.evaluation_rows}, build,
                         {"data": bench.data_path, **{f"stage_{number}": stage for number, stage in enumerate(stages)}})
    return pd.read_parquet(path / "drift.parquet")


def refit_routers(bench: Bench, order: list[str]) -> pd.DataFrame:
    """Return how well a router that is fitted again in every stage reads the languages so far, by what it is fitted on.

    Columns: fit (of `ROUTER_FITS`), stage, language, recall (of validation sequences). "all data so far" is the workbook's
    router; "new data only" goes on fitting a logistic regression to the new language's text alone; "counts of each language"
    is naive Bayes, which keeps token counts of every language and no text.
    """
    check_languages(order, bench.data.languages)
    vocab_size, labels, rows = len(bench.data.tokenizer), np.arange(len(order)), []
    fresh, held_out = ([language_rows(bench, split, name) for name in order] for split in ("train", "validation"))
    frequencies, forgetful, counting = TfidfTransformer(use_idf=False), SGDClassifier(loss="log_loss", random_state=0), MultinomialNB()
    for stage in labels:
        counts = count_tokens(fresh[stage], vocab_size)
        forgetful.partial_fit(frequencies.fit_transform(counts), np.full(counts.shape[0], stage), classes=labels)
        with np.errstate(divide="ignore"):  # of the log prior of languages that are still to come
            counting.partial_fit(counts, np.full(counts.shape[0], stage), classes=labels)
        remembering = make_classifier("logistic_regression", vocab_size)
        if stage:
            remembering.fit(np.concatenate(fresh[:stage + 1]), np.concatenate([np.full(len(part), number) for number, part in enumerate(fresh[:stage + 1])]))
        for seen in labels[:stage + 1]:
            read = count_tokens(held_out[seen], vocab_size)
            answers = (remembering.predict(held_out[seen]) if stage else np.zeros(read.shape[0]), forgetful.predict(frequencies.transform(read)),
                       counting.predict(read))
            rows += [{"fit": fit, "stage": order[stage], "language": order[seen], "recall": float((answer == seen).mean())}
                     for fit, answer in zip(ROUTER_FITS, answers, strict=True)]
    return pd.DataFrame(rows)


def language_rows(bench: Bench, split: str, language: str) -> np.ndarray:
    """Return rows (N, T) of a language, in training no more than a router is fitted on."""
    return bench.data.rows(split)[bench.data.row_numbers(split, language, bench.scale.router_rows if split == "train" else None)]
