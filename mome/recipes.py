"""How each expensive thing is made from the others, one function each. Whoever asks finds it or has it built."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import disable_progress_bars
from transformers import GPT2LMHeadModel
from transformers.utils.logging import disable_progress_bar

from mome import corpus as corpora
from mome import data as packing
from mome import distill, evaluate, models, probes, router, train
from mome import targets as teacher_targets
from mome.artifacts import NotBuilt, find_or_build, hash_file, only_found, process_state, read_manifest, track
from mome.clean import clean
from mome.config import CORPUS_LANGUAGES, DATA_OPTIONS, Scale, check_choice, check_languages, check_range, check_shares

log = logging.getLogger("mome")
CUT_CHARACTERS = 20_000  # of a text of the second corpus that are read
HARD_LABELS = "hard labels"


@dataclass(frozen=True)
class Bench:
    """What every experiment starts from: a scale, a corpus that was found, and its packed data."""

    scale: Scale
    languages: tuple[str, ...]
    corpus: str
    corpus_reason: str
    corpus_path: Path
    data_path: Path

    @cached_property
    def data(self) -> packing.PackedData:
        return packing.PackedData(self.data_path)

    @cached_property
    def device(self) -> torch.device:
        return process_state().device  # the training loop's own choice, so that evaluation runs where training does

    @cached_property
    def targets(self) -> teacher_targets.CachedTargets:
        return open_targets(self)

    @cached_property
    def teacher(self) -> GPT2LMHeadModel:
        return load_gpt2(train_teacher(self)).to(self.device)


def open_bench(scale: Scale, corpus: str, languages: list[str], seed: int = 0) -> Bench:
    """Return the bench, building corpus and data when they are not there. `seed` draws the split and the sample of articles.

    Raises ValueError for languages that the corpus or `scale.shares` does not know, CorpusUnavailable when it cannot be had.
    """
    languages = check_languages(languages, corpora.corpus_languages(corpus))
    check_shares(scale.shares, languages)
    # Saving takes a blink; the libraries' bars for it would only bury our own.
    disable_progress_bars()
    disable_progress_bar()
    failures = []
    for name, why in corpora.corpus_candidates(corpus, languages):
        try:
            corpus_path = build_corpus(name, languages, scale)
        except corpora.CorpusUnavailable as error:
            if corpus != "auto":
                raise
            failures.append(str(error))
            log.warning("corpus %s: %s", name, error)
            continue
        reason = "; ".join([*failures, why])
        return Bench(scale, tuple(languages), name, reason, corpus_path, build_data(corpus_path, scale, seed))
    raise corpora.CorpusUnavailable("; ".join(failures))


def build_all(bench: Bench, builds: list[Callable[[Bench], Path]], jobs: int = 1) -> list[Path]:
    """Return the artefacts of several recipes, each called with the bench: here in turn, or in `jobs` processes of one thread each.

    Recipes with their options are given as functools.partial. Where one fails, or on an interrupt, all stop; every training
    under way leaves its checkpoint. Raises what the recipe raised.
    """
    check_range("jobs", jobs, 1, whole=True)
    if min(jobs, len(builds)) == 1:
        return [build(bench) for build in builds]
    results = {number: found for number, build in enumerate(builds) if (found := find_built(bench, build)) is not None}
    left = [number for number in range(len(builds)) if number not in results]  # starting processes for what is there takes longer than finding it
    if not left:
        return list(results.values())
    bare = replace(bench)  # without the data and models that it has opened
    with ProcessPoolExecutor(min(jobs, len(left)), mp_context=multiprocessing.get_context("spawn"), initializer=start_worker) as pool:
        futures = {number: pool.submit(builds[number], bare) for number in left}
        try:
            for future in track(as_completed(futures.values()), "build in parallel", len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    results |= {number: future.result() for number, future in futures.items()}
    return [results[number] for number in range(len(builds))]


def find_built(bench: Bench, build: Callable[[Bench], Path]) -> Path | None:
    """Return what a recipe gives when all that it needs is there, else None."""
    try:
        with only_found():
            return build(bench)
    except NotBuilt:
        return None


def start_worker() -> None:
    """Pin a worker to one thread, leave Ctrl-C to its parent, and end it (with a checkpoint) when the parent is gone."""
    torch.set_num_threads(1)
    os.environ["MOME_BATCH"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow_parent():
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow_parent, daemon=True).start()


def build_corpus(corpus: str, languages: list[str], scale: Scale) -> Path:
    """Return the artefact of a corpus' documents: `documents.parquet` with language, article_id, text."""
    config = {"corpus": corpus, "languages": languages, **corpora.corpus_version(corpus, languages)}
    # About five bytes a token, and room for the held-out splits and for what cleaning removes.
    characters = scale.tokens_per_language * 8
    from_hub = corpus == "wiki40b"
    if from_hub:
        config |= {"characters": characters, "common_articles": scale.common_articles}

    def build(folder):
        documents = pd.DataFrame(corpora.read_documents(corpus, languages, characters, scale.common_articles, folder / "stream"))
        documents.to_parquet(folder / "documents.parquet", compression="zstd")
        shutil.rmtree(folder / "stream", ignore_errors=True)
        return documents.groupby("language").text.agg(articles="count", characters=lambda texts: int(texts.str.len().sum())).to_dict("index")

    return find_or_build("corpus", config, build, keep_partial=from_hub)


def build_data(corpus_path: Path, scale: Scale, seed: int, read_by: Bench | None = None) -> Path:
    """Return the artefact of the packed data set with its tokenizer and documents; the tokenizer of `read_by`, where that is given."""
    config = {"seed": seed, **{name: getattr(scale, name) for name in DATA_OPTIONS}}
    parents = {"corpus": corpus_path, **({"tokenizer": read_by.data_path} if read_by else {})}

    def build(folder):
        tokenizer = read_by.data.tokenizer if read_by else None
        return packing.build_dataset(pd.read_parquet(corpus_path / "documents.parquet"), folder, **config, tokenizer=tokenizer)

    return find_or_build("data", config, build, parents)


def second_corpus_rows(bench: Bench, corpus: str, at_most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (N, T), language indices (N,) and article ids (N,) of another corpus, cut by this bench's tokenizer.

    At most so many rows of a language, each of one article, cleaned as training texts are. `auto` is the Debian Reference
    where the bench itself comes from Debian's packages and they are within reach; otherwise, and for an empty name, nothing
    (N = 0). Raises CorpusUnavailable for a corpus chosen by name that cannot be had.
    """
    if corpus == "auto":
        corpus = "reference" if bench.corpus == "help" and set(bench.languages) <= set(CORPUS_LANGUAGES["reference"]) else ""
        try:
            if corpus:
                build_corpus(corpus, list(bench.languages), bench.scale)
        except corpora.CorpusUnavailable as error:
            log.warning("no second corpus: %s", error)
            corpus = ""
    rows, labels, article_ids = [np.zeros((0, bench.scale.context), dtype=np.uint16)], [], []
    if corpus:
        documents, _ = clean(pd.read_parquet(build_corpus(corpus, list(bench.languages), bench.scale) / "documents.parquet"))
        for number, language in enumerate(bench.data.languages):
            group = documents[documents.language == language].sample(frac=1, random_state=0)[:2 * at_most]
            for article_id, text in zip(group.article_id, group.text, strict=True):
                # A few rows of an article at most, so that no long file speaks for its language.
                cut = probes.cut_texts([text[:CUT_CHARACTERS]], bench.data.tokenizer, bench.scale.context, 4)[:max(0, at_most - labels.count(number))]
                rows.append(cut)
                labels += [number] * len(cut)
                article_ids += [article_id] * len(cut)
    return np.concatenate(rows), np.array(labels, dtype=int), np.array(article_ids, dtype=object)


def fit_router(bench: Bench, *added: Bench) -> Path:
    """Return the artefact of the workbook's router: `router.safetensors`. Languages of `added` benches follow the bench's own."""
    def build(folder):
        fitted, _ = router.fit_router(bench.data, bench.scale.router_rows, added=tuple(other.data for other in added))
        fitted.save(folder / "router.safetensors")

    config = {"rows_per_language": bench.scale.router_rows, "n_special": router.N_SPECIAL,
              "classifier": router.describe_classifier("logistic_regression")}
    return find_or_build("router", config, build, {"data": bench.data_path, **{f"added_{number}": other.data_path for number, other in enumerate(added)}})


def compare_routers(bench: Bench, classifiers: list[str], prefixes: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of `router.benchmark` on this bench."""
    def build(folder):
        for name, table in zip(("scores", "predictions"), router.benchmark(bench.data, classifiers, bench.scale.router_rows, prefixes), strict=True):
            table.to_parquet(folder / f"{name}.parquet")

    config = {"classifiers": [[name, router.describe_classifier(name)] for name in classifiers], "prefixes": prefixes,
              "rows_per_language": bench.scale.router_rows}
    path = find_or_build("router_comparison", config, build, {"data": bench.data_path})
    return pd.read_parquet(path / "scores.parquet"), pd.read_parquet(path / "predictions.parquet")


def training_options(bench: Bench, learning_rate: float) -> dict:
    names = ("warmup_fraction", "weight_decay", "max_grad_norm", "micro_batch_size", "evaluations")
    return {"learning_rate": learning_rate, **{name: getattr(bench.scale, name) for name in names}, "mixed_precision": choose_precision(bench)}


def choose_precision(bench: Bench) -> str:
    """Return the scale's precision; for `auto` what a probe of the teacher's shape finds on this device, measured once."""
    scale = bench.scale
    if scale.mixed_precision != "auto":
        return scale.mixed_precision
    device_name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else bench.device.type
    config = {"device": device_name, "torch": torch.__version__, "shape": asdict(scale.teacher), "vocab_size": scale.vocab_size, "context": scale.context,
              "micro_batch_size": scale.micro_batch_size}

    def build(folder):
        model = models.build_gpt2(scale.teacher, scale.vocab_size, scale.context, seed=0).to(bench.device)
        rows = np.random.default_rng(0).integers(3, scale.vocab_size, (scale.micro_batch_size, scale.context))
        found = train.probe_precision(model, distill.make_objective(None, dense_logits), train.make_batch(rows, np.arange(len(rows)), bench.device))
        log.info("mixed_precision auto on %s: %s", device_name, found)
        return found

    return read_manifest(find_or_build("precision", config, build))["notes"]["choice"]


def dense_logits(model, batch) -> torch.Tensor:
    return model(input_ids=batch["input_ids"]).logits


def curve(bench: Bench, forward, model) -> dict:
    """Return {"nats_<language>": nats per token} on a quarter of the evaluation rows: cheap enough to ask during training."""
    scores = score(bench, forward, model, max(8, bench.scale.evaluation_rows // 4))
    return {f"nats_{row.language}": row.nats_per_token for row in evaluate.summarize(scores).itertuples()}


def score(bench: Bench, forward, model, rows_per_language: int | None = None, languages: list[str] | None = None) -> pd.DataFrame:
    """Return `evaluate.score_rows` of a model, on the scale's evaluation rows of all languages unless told otherwise."""
    model.eval()
    return evaluate.score_rows(lambda batch: forward(model, batch), bench.data, device=bench.device, languages=languages,
                               rows_per_language=rows_per_language or bench.scale.evaluation_rows)


def student_rows(bench: Bench, language: str, share: float = 1.0) -> np.ndarray:
    """Return the training rows that students of a language see, the same for all seeds, so that targets are cached once.

    `share` scales their number; there are no more than the language has.
    """
    at_most = max(1, round(bench.scale.student_tokens * share) // bench.scale.context)
    return bench.data.row_numbers("train", language, at_most)


def train_teacher(bench: Bench) -> Path:
    """Return the teacher's artefact: a GPT-2 trained from scratch on language-balanced batches, with history and scores."""
    scale, data = bench.scale, bench.data
    config = {"shape": asdict(scale.teacher), "seed": 0, "steps": scale.teacher_steps, "batch_size": scale.batch_size,
              "evaluation_rows": scale.evaluation_rows, **training_options(bench, scale.teacher_lr)}

    def build(folder):
        model = models.build_gpt2(scale.teacher, len(data.tokenizer), scale.context, seed=0).to(bench.device)
        plan = train.plan_batches([data.row_numbers("train", language) for language in data.languages], scale.teacher_steps, scale.batch_size, seed=0)
        history = train.train(model, distill.make_objective(None, dense_logits), plan, data.rows("train"), **training_options(bench, scale.teacher_lr),
                              evaluate=lambda: curve(bench, dense_logits, model), checkpoint=folder / "checkpoint.safetensors", description="teacher")
        return save_trained(folder, model, history, score(bench, dense_logits, model))

    return find_or_build("teacher", config, build, {"data": bench.data_path}, keep_partial=True)


def save_trained(folder: Path, model, history: pd.DataFrame, scores: pd.DataFrame) -> dict:
    """Write weights, history and scores; return the notes for the manifest."""
    model.save_pretrained(folder)
    history.to_parquet(folder / "history.parquet")
    scores.to_parquet(folder / "scores.parquet")
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return {"parameters": models.count_parameters(model), "tokens": int(history.tokens.iloc[-1])}


def load_gpt2(path: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(path, use_safetensors=True).eval()  # never a pickled .bin beside it


def cache_teacher_targets(bench: Bench, tail: str = "drawn") -> Path:
    """Return the artefact of the teacher's targets on the rows that students see; `tail` as in `targets.list_targets`."""
    check_choice("tail", tail, teacher_targets.TAILS)
    scale, teacher_path = bench.scale, train_teacher(bench)
    config = {"targets_per_token": scale.targets_per_token, "tail": tail, "student_tokens": scale.student_tokens}

    def build(folder):
        numbers = np.concatenate([student_rows(bench, language) for language in bench.data.languages])
        return teacher_targets.cache_targets(bench.teacher, bench.data.rows("train"), numbers, scale.targets_per_token, folder, tail=tail,
                                             identity=targets_identity(bench), micro_batch_size=scale.micro_batch_size)

    return find_or_build("targets", config, build, {"teacher": teacher_path, "data": bench.data_path})


def targets_identity(bench: Bench) -> dict[str, str]:
    """Return what cached targets must have been made from: the SHA-256 of the teacher's weights, of the tokenizer and of the data set."""
    return {"teacher": hash_file(train_teacher(bench) / "model.safetensors"), "tokenizer": router.hash_tokenizer(bench.data.tokenizer),
            "data": read_manifest(bench.data_path)["notes"]["sha256"]}


def open_targets(bench: Bench, tail: str = "drawn") -> teacher_targets.CachedTargets:
    """Return the teacher's cached targets, built when missing. Raises ValueError when they are damaged or of another teacher, tokenizer or data."""
    return teacher_targets.CachedTargets(cache_teacher_targets(bench, tail), targets_identity(bench))


def price_kd(bench: Bench, rounds: int = 30) -> pd.DataFrame:
    """Return what a step of each way to distil costs as a multiple of a step on hard labels alone, measured once on this machine.

    Columns: way, median, low, high (quartiles over rounds). "caching" is what the teacher's targets of the step's sequences
    cost, paid once however many students read them. A step is one micro-batch here.
    """
    def build(folder):
        rows, numbers = bench.data.rows("train"), student_rows(bench, bench.data.languages[0])
        student = models.build_gpt2(bench.scale.student, len(bench.data.tokenizer), bench.scale.context, seed=0).to(bench.device)
        ways = time_ways(student, bench.teacher, bench.targets, rows, numbers, bench.scale.micro_batch_size, bench.device)
        train.ratios_to(train.time_in_turn(ways, rounds), HARD_LABELS).to_parquet(folder / "price.parquet")

    config = {"shape": asdict(bench.scale.student), "rounds": rounds, "device": bench.device.type}
    path = find_or_build("kd_price", config, build, {"targets": cache_teacher_targets(bench)})
    return pd.read_parquet(path / "price.parquet")


def time_ways(student, teacher, targets: teacher_targets.CachedTargets, rows: np.ndarray, numbers: np.ndarray, batch_size: int,
              device) -> dict[str, Callable[[], None]]:
    """Return {way: one optimizer step of it} for `train.time_in_turn`, all on one student, and "caching" one step's sequences."""
    objectives = {HARD_LABELS: distill.make_objective(None, dense_logits), "KD, cached": distill.make_objective("teacher_ce", dense_logits, targets),
                  "KD, teacher every step": distill.make_objective("teacher_ce", dense_logits, teacher=teacher),
                  "KD, the original's way": distill.original_objective(dense_logits, teacher)}
    batches = itertools.cycle(numbers[:len(numbers) // batch_size * batch_size].reshape(-1, batch_size))
    ways = {way: train.make_step(student, objective, rows, batches, batch_size) for way, objective in objectives.items()}
    generator = torch.Generator(device).manual_seed(0)

    @torch.inference_mode()
    def cache():
        logits = teacher(input_ids=train.make_batch(rows, next(batches), device)["input_ids"]).logits.float()
        teacher_targets.list_targets(logits, targets.k, targets.tail, generator)

    return {**ways, "caching": cache}


def train_student(bench: Bench, languages: list[str], *, seed: int, kd_loss: str | None = "teacher_ce", alpha_schedule: str = "fixed", alpha: float = 0.5,
                  alpha_end: float = 0.0, temperature: float = 1.0, mixture: float | None = None, tail: str = "drawn", token_share: float = 1.0,
                  start_from: Path | None = None) -> Path:
    """Return the artefact of a dense student trained on `languages`, batches balanced over them, with history and scores.

    kd_loss None is hard labels alone. It sees `token_share` of `scale.student_tokens` of each language; a share above 1 is
    fresh text as far as there is any, and takes a loss that reads no cache. `tail` is that of the cached targets.
    `start_from` is the student artefact whose weights it goes on from, as in sequential training. Raises ValueError before
    anything is built for an unknown loss, schedule or language and for numbers out of range.
    """
    scale, data = bench.scale, bench.data
    check_languages(languages, data.languages)
    is_cached = distill.can_use_cache(kd_loss, temperature)
    check_range("token_share", token_share, 1e-3, 1 if is_cached else 1e3)
    check_choice("tail", tail, teacher_targets.TAILS)
    if kd_loss is None:
        alpha_schedule, alpha, temperature, mixture = "fixed", 1.0, 1.0, None
    else:
        mixture = distill.check_kd_options(kd_loss, temperature, mixture)
    steps = max(2, round(scale.student_steps * token_share)) * len(languages)
    schedule = distill.make_alpha_schedule(alpha_schedule, steps, alpha, alpha_end)
    options = training_options(bench, scale.student_lr)
    if alpha_schedule == "alternate_micro_batch":
        options["micro_batch_size"] = min(scale.micro_batch_size, scale.batch_size // 2)
    config = {"shape": asdict(scale.student), "languages": languages, "seed": seed, "kd_loss": kd_loss, "alpha_schedule": alpha_schedule, "alpha": alpha,
              "alpha_end": alpha_end if alpha_schedule in ("linear", "cosine") else None, "temperature": temperature, "mixture": mixture, "steps": steps,
              "batch_size": scale.batch_size, "student_tokens": scale.student_tokens, "evaluation_rows": scale.evaluation_rows, **options}
    parents = {"data": bench.data_path}
    if kd_loss is not None:
        parents["teacher"] = train_teacher(bench)
    if is_cached:
        parents["targets"] = cache_teacher_targets(bench, tail)
    if start_from is not None:
        parents["start_from"] = start_from

    def build(folder):
        model = load_gpt2(start_from) if start_from else models.build_gpt2(scale.student, len(data.tokenizer), scale.context, seed)
        model.to(bench.device)
        cached = None if not is_cached else bench.targets if tail == "drawn" else open_targets(bench, tail)
        objective = distill.make_objective(kd_loss, dense_logits, targets=cached, teacher=None if is_cached or kd_loss is None else bench.teacher,
                                           temperature=temperature, mixture=mixture)
        plan = train.plan_batches([student_rows(bench, language, max(1.0, token_share)) for language in languages], steps, scale.batch_size, seed)
        history = train.train(model, objective, plan, data.rows("train"), **options, alpha_schedule=schedule,
                              evaluate=lambda: curve(bench, dense_logits, model), checkpoint=folder / "checkpoint.safetensors",
                              description=f"student {'+'.join(languages)} {kd_loss or 'ce'} seed {seed}")
        return save_trained(folder, model, history, score(bench, dense_logits, model))

    return find_or_build("student", config, build, parents, keep_partial=True)


def train_sequence(bench: Bench, order: list[str], *, seed: int, **student) -> list[Path]:
    """Return one student artefact a stage: trained on one language after another, each stage from the last one's weights."""
    check_languages(order, bench.data.languages)
    stages: list[Path] = []
    for language in order:
        stages.append(train_student(bench, [language], seed=seed, start_from=stages[-1] if stages else None, **student))
    return stages


def read_score_matrix(stages: list[Path], order: list[str], value: str = "nats_per_token") -> pd.DataFrame:
    """Return `value` (nats_per_token, perplexity or bits_per_byte) on each language (columns) after each stage (rows), both in the order of training."""
    rows = [evaluate.summarize(pd.read_parquet(path / "scores.parquet")).set_index("language")[value][order] for path in stages]
    return pd.DataFrame(rows, index=order)


def read_scores(path: Path, **columns) -> pd.DataFrame:
    """Return `evaluate.summarize` of an artefact's scores with constant columns (arm, seed, ...) in front, per `use` where it has several."""
    scores = pd.read_parquet(path / "scores.parquet")
    if "use" in scores:
        tables = [evaluate.summarize(group).assign(use=use) for use, group in scores.groupby("use", sort=False)]
    else:
        tables = [evaluate.summarize(scores)]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(**columns)[[*columns, *table.columns]]


def read_history(path: Path, **columns) -> pd.DataFrame:
    """Return an artefact's training history with constant columns in front."""
    history = pd.read_parquet(path / "history.parquet")
    return history.assign(**columns)[[*columns, *history.columns]]
