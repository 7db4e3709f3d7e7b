"""How modular models are made, used in every way, taken apart and enlarged: recipes on top of `recipes`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mome import data as packing
from mome import distill, evaluate, models, moe, train
from mome.artifacts import find_or_build, read_manifest
from mome.config import CODE_LANGUAGES, DENSE_SIZES, MOE_VARIANTS, Scale, Shape, artifacts_dir, check_choice, corpus_languages
from mome.corpus import CorpusUnavailable
from mome.recipes import (
    Bench,
    build_all,
    build_corpus,
    build_data,
    cache_teacher_targets,
    curve,
    dense_logits,
    fit_router,
    load_gpt2,
    save_trained,
    score,
    student_rows,
    train_student,
    training_options,
)
from mome.router import Router

# Parts of a language's token budget: for PLE's shared embedding once the experts are frozen, and, when PLE branches, for
# the common ancestor of its experts before they part (Li et al. 2022 find about half to be best).
EMBEDDING_SHARE, ANCESTOR_SHARE = 0.2, 0.4
# What the cost of a way of using a modular model depends on.
COST_COLUMNS = ["average_experts", "common_expert", "bodies"]
SMALL_VALIDATION = 0.2  # held out of a corpus as small as `mini`, which else leaves next to nothing


def shape_dense(scale: Scale, size: str, n_experts: int) -> Shape:
    """Return the shape of a dense control: an expert's ("same active"), or one of as many weights as so many experts with their embedding and head.

    "same total" is wider at an expert's depth, in steps of two per head; "same total, deep" has an expert's width and all experts' layers.
    """
    check_choice("size", size, DENSE_SIZES)
    expert = scale.expert
    if size == "same active":
        return expert
    if size == "same total, deep":
        return replace(expert, n_layer=expert.n_layer * n_experts)
    tables = scale.vocab_size * expert.n_embd
    body = models.size_gpt2(expert, scale.vocab_size, scale.context) - tables
    total = tables + n_experts * body + (0 if scale.tie_word_embeddings else tables + scale.vocab_size)
    wider = [replace(expert, n_embd=width) for width in range(expert.n_embd, 2 * n_experts * expert.n_embd, 2 * expert.n_head)]
    return min(wider, key=lambda shape: abs(models.size_gpt2(shape, scale.vocab_size, scale.context) - total))


def shape_student(bench: Bench, size: str = "same active") -> Bench:
    """Return the bench with a student of the shape of `shape_dense`, and a learning rate that falls as its width grows.

    One over the width is what keeps updates alike (Yang et al. 2022, arXiv:2203.03466); at an expert's rate the wider student
    would end behind the narrow one and be no control at all.
    """
    scale, shape = bench.scale, shape_dense(bench.scale, size, len(bench.languages))
    return replace(bench, scale=replace(scale, student=shape, student_lr=scale.student_lr * scale.expert.n_embd / shape.n_embd))


def train_dense(bench: Bench, size: str = "same active", *, seed: int) -> Path:
    """Return the artefact of the dense student that a modular model is held against, trained on all languages: as many tokens of each."""
    return train_student(shape_student(bench, size), list(bench.data.languages), seed=seed)


def train_moe(bench: Bench, variant: str, *, seed: int, kd_loss: str = "teacher_ce", alpha: float = 0.5, jobs: int = 1) -> Path:
    """Return the artefact of a modular model: weights with the router inside, history, and scores per way of using it.

    PLE: experts distilled apart on one language each (by `jobs` processes), assembled and frozen, then a shared embedding
    session that takes `EMBEDDING_SHARE` of the tokens. PLE branched: the same from a common ancestor, a student of all
    languages that takes `ANCESTOR_SHARE`. JEET: embedding and experts together, each sequence through its language's expert.
    MoE-CE: JEET with a common expert that sees every sequence. All see the same number of tokens of each language.
    """
    check_choice("variant", variant, MOE_VARIANTS)
    check_choice("kd_loss", kd_loss, distill.CACHED_LOSSES)
    scale, data = bench.scale, bench.data
    languages, is_ple = data.languages, variant.startswith("PLE")
    steps = scale.student_steps * len(languages)
    parents = {"data": bench.data_path, "targets": cache_teacher_targets(bench), "router": fit_router(bench)}
    if is_ple:
        steps = max(2, round(steps * EMBEDDING_SHARE))
        is_branched = variant == "PLE branched"
        if is_branched:
            parents["ancestor"] = train_ancestor(bench, seed, kd_loss, alpha)
        builds = [partial(train_expert, language=language, seed=seed, kd_loss=kd_loss, alpha=alpha, is_branched=is_branched) for language in languages]
        parents |= {f"expert_{language}": path for language, path in zip(languages, build_all(bench, builds, jobs), strict=True)}
    config = {"variant": variant, "shape": asdict(scale.expert), "seed": seed, "kd_loss": kd_loss, "alpha": alpha, "steps": steps,
              "batch_size": scale.batch_size, "student_tokens": scale.student_tokens, "evaluation_rows": scale.evaluation_rows,
              "tie_word_embeddings": scale.tie_word_embeddings, **training_options(bench, scale.student_lr)}
    schedule = distill.make_alpha_schedule("fixed", steps, alpha)

    def build(folder):
        model = start_moe(bench, variant, seed, {language: parents.get(f"expert_{language}") for language in languages})
        model.router = Router.load(parents["router"] / "router.safetensors", data.tokenizer)
        model.config.tokenizer_sha256 = model.router.tokenizer_sha256
        model.to(bench.device)
        told = told_forward(data.language_index("train"), bench.device)
        plan = train.plan_batches([student_rows(bench, language) for language in languages], steps, scale.batch_size, seed)
        told_validation = told_forward(data.language_index("validation"), bench.device)
        history = train.train(model, distill.make_objective(kd_loss, told, targets=bench.targets), plan, data.rows("train"),
                              **training_options(bench, scale.student_lr), alpha_schedule=schedule, evaluate=lambda: curve(bench, told_validation, model),
                              checkpoint=folder / "checkpoint.safetensors", description=f"{variant} seed {seed}")
        notes = save_trained(folder, model, history, score_uses(bench, model))
        earlier = sum(read_manifest(parents[name])["notes"]["tokens"] for name in parents if name.startswith(("expert_", "ancestor")))
        return {**notes, "tokens": notes["tokens"] + earlier, "active_parameters": model.active_parameters()}

    return find_or_build("moe", config, build, parents, keep_partial=True)


def train_ancestor(bench: Bench, seed: int, kd_loss: str, alpha: float) -> Path:
    """Return the artefact of the student of all languages from which the experts of a branched PLE part."""
    return train_student(shape_student(bench), list(bench.data.languages), seed=seed, kd_loss=kd_loss, alpha=alpha, token_share=ANCESTOR_SHARE)


def train_expert(bench: Bench, language: str, seed: int, kd_loss: str = "teacher_ce", alpha: float = 0.5, is_branched: bool = False) -> Path:
    """Return the artefact of one expert of PLE: a student of the expert's shape, distilled on one language."""
    start_from = train_ancestor(bench, seed, kd_loss, alpha) if is_branched else None
    return train_student(shape_student(bench), [language], seed=seed, kd_loss=kd_loss, alpha=alpha, start_from=start_from,
                         token_share=1 - EMBEDDING_SHARE - is_branched * ANCESTOR_SHARE)


def start_moe(bench: Bench, variant: str, seed: int, experts: dict[str, Path | None]) -> moe.MoMEForCausalLM:
    scale = bench.scale
    if variant.startswith("PLE"):
        counts = torch.from_numpy(packing.token_counts(bench.data)).float()
        return moe.assemble_experts({language: load_gpt2(path) for language, path in experts.items()}, counts, scale.tie_word_embeddings)
    body_config = models.gpt2_config(scale.expert, len(bench.data.tokenizer), scale.context)
    return moe.build_moe(list(experts), body_config, has_common_expert=variant == "MoE-CE", tie_word_embeddings=scale.tie_word_embeddings, seed=seed)


def load_moe(path: Path) -> moe.MoMEForCausalLM:
    return moe.MoMEForCausalLM.from_pretrained(path).eval()


def told_forward(language_index: np.ndarray, device):
    """Return a forward that tells the model each row's language, as training does."""
    def forward(model, batch):
        expert_index = torch.from_numpy(language_index[batch["row_numbers"]]).to(device)
        return model(input_ids=batch["input_ids"], expert_index=expert_index).logits

    return forward


def expert_forward(number: int, **use):
    """Return a forward that sends every row through one expert."""
    def forward(model, batch):
        return model(input_ids=batch["input_ids"], expert_index=torch.full_like(batch["input_ids"][:, 0], number), **use).logits

    return forward


def use_forward(**use):
    """Return a forward with the model's switches as given."""
    return lambda model, batch: model(input_ids=batch["input_ids"], **use).logits


def score_uses(bench: Bench, model: moe.MoMEForCausalLM) -> pd.DataFrame:
    """Return scores for the main ways of using the model, in a column `use`.

    told: the true language's expert. routed: the router reads the whole sequence. With a common expert both with it on,
    and also routed with it off and alone.
    """
    uses = {"told": told_forward(bench.data.language_index("validation"), bench.device), "routed": use_forward()}
    if model.common_expert is not None:
        uses |= {"routed, common off": use_forward(common_expert="off"), "common alone": use_forward(common_expert="alone")}
    return pd.concat([score(bench, forward, model).assign(use=use) for use, forward in uses.items()], ignore_index=True)


def score_experts(bench: Bench, variant: str, seed: int) -> pd.DataFrame:
    """Return nats of the scored validation sequences under every expert of a modular model, a common expert left out.

    Columns: row (position within the validation split), language, article_id, n_tokens, n_bytes, and a column of nats for
    each language's expert.
    """
    model_path = train_moe(bench, variant, seed=seed)

    def build(folder):
        table = tabulate_experts(bench, load_moe(model_path).to(bench.device), "off", bench.scale.evaluation_rows)
        table.to_parquet(folder / "expert_scores.parquet")

    path = find_or_build("expert_scores", {"evaluation_rows": bench.scale.evaluation_rows}, build, {"moe": model_path, "data": bench.data_path})
    return pd.read_parquet(path / "expert_scores.parquet")


def tabulate_experts(bench: Bench, model: moe.MoMEForCausalLM, common_expert: str, rows_per_language: int) -> pd.DataFrame:
    table = None
    for number, language in enumerate(bench.data.languages):
        scores = score(bench, expert_forward(number, common_expert=common_expert), model, rows_per_language)
        table = scores.drop(columns="nats") if table is None else table
        table[language] = scores.nats
    numbers = [bench.data.row_numbers("validation", language, rows_per_language) for language in bench.data.languages]
    table.insert(0, "row", np.concatenate(numbers))
    return table


def list_uses(languages: list[str], has_common_expert: bool, prefixes: list[int]) -> pd.DataFrame:
    """Return the paper's grid of switches, and ours: one line per way of using a modular model.

    Columns: use (its name), group, router ("whole", "told", "random" or a number of tokens it reads), allowed (languages
    whose experts may be used), common_expert, average_experts, bodies (that a sequence goes through).
    """
    code = [name for name in languages if name in CODE_LANGUAGES]
    pairs = [[name, other] for other in code for name in languages if name not in code]
    uses = [("all routed", "router", "whole", languages, ""), ("told the language", "router", "told", languages, ""),
            *((f"routed by {prefix} tokens", "router", str(prefix), languages, "") for prefix in prefixes),
            ("random expert", "router", "random", languages, ""),
            *((f"{name} alone", "one expert", "whole", [name], "") for name in languages),
            *((f"{' + '.join(pair)} routed", "pairs", "whole", pair, "") for pair in pairs),
            *((f"{' + '.join(pair)} averaged", "pairs", "whole", pair, "hidden") for pair in pairs),
            ("all averaged", "average", "whole", languages, "hidden"), ("mean of logits", "average", "whole", languages, "logits"),
            ("posterior mixture", "average", "whole", languages, "posterior")]
    table = pd.DataFrame(uses, columns=["use", "group", "router", "allowed", "average_experts"]).assign(common_expert="off")
    table["bodies"] = [len(allowed) if average else 1 for allowed, average in zip(table.allowed, table.average_experts, strict=True)]
    if has_common_expert:
        common = table.assign(use=table.use + " + common", common_expert="on", bodies=table.bodies + 1)
        alone = table[:1].assign(use="common alone", group="one expert", common_expert="alone")
        table = pd.concat([table, common, alone], ignore_index=True)
    return table


def score_switches(bench: Bench, variant: str, *, seed: int, prefixes: list[int]) -> pd.DataFrame:
    """Return every way of `list_uses` scored on a quarter of the evaluation rows, one line per use and language.

    Columns: those of `list_uses` (allowed joined by commas), language, nats_per_token, perplexity, bits_per_byte, parameters,
    active_parameters. "random expert" is the mean over experts of each sequence's nats. PLE has a use more, "mean of
    parameters": the experts' weights, embeddings included, averaged into one dense model as they were before assembly.
    """
    model_path = train_moe(bench, variant, seed=seed)
    rows_per_language = max(8, bench.scale.evaluation_rows // 4)

    def build(folder):
        model = load_moe(model_path).to(bench.device)
        uses = list_uses(bench.data.languages, model.common_expert is not None, prefixes)
        experts = {common: tabulate_experts(bench, model, common, rows_per_language) for common in set(uses.common_expert) - {"alone"}}
        tables = []
        for use in uses.itertuples(index=False):
            if use.average_experts or use.common_expert == "alone":
                forward = use_forward(common_expert=use.common_expert, average_experts=use.average_experts or None, allowed_experts=use.allowed)
                scores = score(bench, forward, model, rows_per_language)
            else:
                scores = take_experts(bench, model, experts[use.common_expert], use.router, use.allowed)
            tables.append(evaluate.summarize(scores).assign(**use._asdict() | {"allowed": ",".join(use.allowed)},
                                                            active_parameters=model.active_parameters(use.bodies)))
        if variant.startswith("PLE"):
            merged = moe.merge_experts([load_gpt2(path) for path in expert_parents(model_path).values()]).to(bench.device)
            scores = score(bench, dense_logits, merged, rows_per_language)
            tables.append(tables[0][["language"]].merge(evaluate.summarize(scores)).assign(
                use="mean of parameters", group="average", router="", allowed="", average_experts="", common_expert="off", bodies=1,
                active_parameters=models.count_parameters(merged)))
        table = pd.concat(tables, ignore_index=True).assign(parameters=models.count_parameters(model))
        table.to_parquet(folder / "switches.parquet")

    path = find_or_build("switches", {"rows_per_language": rows_per_language, "prefixes": prefixes}, build, {"moe": model_path, "data": bench.data_path})
    return pd.read_parquet(path / "switches.parquet")


def take_experts(bench: Bench, model: moe.MoMEForCausalLM, experts: pd.DataFrame, router: str, allowed: list[str]) -> pd.DataFrame:
    """Return the scores of `tabulate_experts` with, as nats, those of the expert that the router takes for each sequence."""
    nats, languages = experts[bench.data.languages].to_numpy(), bench.data.languages
    if router == "random":
        taken = nats[:, [languages.index(name) for name in allowed]].mean(axis=1)
    else:
        taken = nats[np.arange(len(nats)), choose_experts(bench, model, experts, router, allowed)]
    return experts.drop(columns=languages).assign(nats=taken)


def choose_experts(bench: Bench, model: moe.MoMEForCausalLM, experts: pd.DataFrame, router: str, allowed: list[str]) -> np.ndarray:
    """Return the number of the expert that the router takes for each sequence, (N,)."""
    if router == "told":
        return experts.language.map(bench.data.languages.index).to_numpy()
    ids = torch.from_numpy(bench.data.rows("validation")[experts.row.to_numpy()].astype(np.int64)).to(bench.device)
    return model.route(ids, None, allowed, None if router == "whole" else int(router)).cpu().numpy()


def keep_experts(bench: Bench, variant: str, seed: int) -> pd.DataFrame:
    """Return what a modular model is worth with some of its experts only, the router choosing among those.

    One line per subset of experts and language: kept (joined by commas), n_kept, language, is_kept, nats_per_token,
    perplexity, bits_per_byte. A common expert is left out.
    """
    experts, model = score_experts(bench, variant, seed), load_moe(train_moe(bench, variant, seed=seed)).to(bench.device)
    languages = bench.data.languages
    subsets = [list(subset) for size in range(1, len(languages) + 1) for subset in itertools.combinations(languages, size)]
    tables = [evaluate.summarize(take_experts(bench, model, experts, "whole", subset)).assign(kept=",".join(subset), n_kept=len(subset)) for subset in subsets]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(is_kept=[language in kept.split(",") for language, kept in zip(table.language, table.kept, strict=True)])


def expert_parents(model_path: Path) -> dict[str, Path]:
    """Return {language: artefact} of the students that PLE's experts were."""
    parents = read_manifest(model_path)["parents"]
    return {name.removeprefix("expert_"): artifacts_dir() / folder for name, folder in parents.items() if name.startswith("expert_")}


def cut_expert(bench: Bench, variant: str, language: str, *, seed: int) -> Path:
    """Return the artefact of one expert taken out of a modular model: `expert.safetensors`, for `moe.load_expert`.

    The manifest's notes, which the file's header repeats: language, parent (the model it comes from), tokenizer_sha256,
    data_sha256, seed, parameters.
    """
    check_choice("language", language, bench.data.languages)
    model_path = train_moe(bench, variant, seed=seed)

    def build(folder):
        return save_expert(folder, load_moe(model_path), language, model_path, bench, seed)

    return find_or_build("expert", {"language": language, "seed": seed}, build, {"moe": model_path})


def save_expert(folder: Path, model: moe.MoMEForCausalLM, language: str, parent: Path, bench: Bench, seed: int) -> dict:
    """Write one of the model's experts under `folder`; return what is known of it, for the manifest."""
    about = {"language": language, "parent": parent.name, "tokenizer_sha256": model.config.tokenizer_sha256,
             "data_sha256": read_manifest(bench.data_path)["notes"]["sha256"], "seed": seed}
    moe.save_expert(model.experts[language], folder / "expert.safetensors", **about)
    return about | {"parameters": models.count_parameters(model.experts[language])}


def open_added(bench: Bench, language: str, corpus: str = "auto") -> Bench:
    """Return a bench for one more language, cut by this bench's tokenizer, whose vocabulary knows nothing of it.

    `auto` is the bench's own corpus where it has the language, else `mini`. Raises ValueError for a language that the bench
    has already or that no such corpus has, CorpusUnavailable when it cannot be had.
    """
    if language in bench.languages:
        raise ValueError(f"added_language={language!r} is not allowed; the models know {', '.join(bench.languages)} already")
    candidates, failures = [bench.corpus, "mini"] if corpus == "auto" else [corpus], []
    for name in dict.fromkeys(candidates):
        known = corpus_languages(name)
        if known is not None and language not in known:
            failures.append(f"{name} has no {language!r}")
            continue
        smallest = SMALL_VALIDATION if name == "mini" else 0.0
        scale = replace(bench.scale, common_articles=False, shares="equal", validation_fraction=max(smallest, bench.scale.validation_fraction))
        try:
            corpus_path = build_corpus(name, [language], scale)
        except CorpusUnavailable as error:
            failures.append(str(error))
            continue
        reason = "; ".join([*failures, f"language {language} of {name}"])
        return Bench(scale, (language,), name, reason, corpus_path, build_data(corpus_path, scale, 0, read_by=bench))
    raise ValueError(f"added_language={language!r} with added_corpus={corpus!r} cannot be had: {'; '.join(failures)}")


def train_added_expert(bench: Bench, added: Bench, variant: str, *, seed: int) -> Path:
    """Return the artefact of one more expert for a modular model, as `cut_expert` does, with its history.

    It starts as a copy of the expert to which the router sends most of the new language's text and learns from hard labels
    (the teacher never saw the language), behind the frozen embedding and head.
    """
    model_path, router_path = train_moe(bench, variant, seed=seed), fit_router(bench, added)
    (language,), scale = added.languages, bench.scale
    config = {"language": language, "seed": seed, "steps": scale.student_steps, "batch_size": scale.batch_size, **training_options(bench, scale.student_lr)}

    def build(folder):
        model = load_moe(model_path).to(bench.device)
        rows = added.data.rows("train")
        nearest = np.bincount(model.router.route(rows[:scale.router_rows]), minlength=len(model.experts)).argmax()
        body = models.build_body(model.config.body_config())
        body.load_state_dict(list(model.experts.values())[nearest].state_dict())
        model.add_expert(language, body, Router.load(router_path / "router.safetensors", added.data.tokenizer).to(bench.device))
        model.requires_grad_(False)
        model.experts[language].requires_grad_(True)
        forward = expert_forward(len(model.experts) - 1)
        plan = train.plan_batches([added.data.row_numbers("train", language)], scale.student_steps, scale.batch_size, seed)
        history = train.train(model, distill.make_objective(None, forward), plan, rows, **training_options(bench, scale.student_lr),
                              evaluate=lambda: curve(added, forward, model), checkpoint=folder / "checkpoint.safetensors",
                              description=f"expert {language} for {variant} seed {seed}")
        history.to_parquet(folder / "history.parquet")
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return save_expert(folder, model, language, model_path, added, seed) | {"started_as": bench.languages[nearest], "tokens": int(history.tokens.iloc[-1])}

    return find_or_build("expert", config, build, {"moe": model_path, "data": added.data_path, "router": router_path}, keep_partial=True)


def load_enlarged(bench: Bench, added: Bench, variant: str, *, seed: int) -> moe.MoMEForCausalLM:
    """Return the modular model with the added language's expert and a router refitted on all languages; all else as it was."""
    expert_path = train_added_expert(bench, added, variant, seed=seed)
    model = load_moe(train_moe(bench, variant, seed=seed)).to(bench.device)
    body, about = moe.load_expert(expert_path / "expert.safetensors", model)
    model.add_expert(about["language"], body.eval(), Router.load(fit_router(bench, added) / "router.safetensors", bench.data.tokenizer))
    return model


def score_changes(bench: Bench, added: Bench, variant: str, *, seed: int, removed: str) -> pd.DataFrame:
    """Return what a modular model is worth while experts come and go, on a quarter of the evaluation rows of all languages, added one included.

    Stages: "as trained"; "added": the added language's expert and a refitted router; "removed": without the expert of
    `removed` then; "put back": with it again, read from its own artefact. One line per stage and language: stage, language,
    nats_per_token, perplexity, bits_per_byte, to_added (share of its sequences that the router sends to the added expert),
    is_identical (whether every expert of the trained model that is there still gives its language's sequences the nats it gave, bit for bit).
    """
    check_choice("removed", removed, bench.data.languages)
    parents = {"moe": train_moe(bench, variant, seed=seed), "data": added.data_path, "expert": train_added_expert(bench, added, variant, seed=seed)}
    removed_path, rows_per_language = cut_expert(bench, variant, removed, seed=seed), max(8, bench.scale.evaluation_rows // 4)

    def build(folder):
        model, tables = load_moe(parents["moe"]).to(bench.device), []
        before = own_nats(bench, model, rows_per_language)
        for stage in ("as trained", "added", "removed", "put back"):
            if stage == "added":
                model = load_enlarged(bench, added, variant, seed=seed)
                router = model.router
            elif stage == "removed":
                model.remove_expert(removed)
            elif stage == "put back":
                body, _ = moe.load_expert(removed_path / "expert.safetensors", model)
                model.add_expert(removed, body.eval(), router.keep([*model.config.languages, removed]))
            now = own_nats(bench, model, rows_per_language)
            for side in (bench, added):
                scores = evaluate.summarize(score(side, use_forward(), model, rows_per_language))
                shares = [share_routed(side, model, language, added.languages[0], rows_per_language) for language in scores.language]
                tables.append(scores.assign(stage=stage, to_added=shares, is_identical=all(np.array_equal(now[name], before[name]) for name in now)))
        pd.concat(tables, ignore_index=True).to_parquet(folder / "changes.parquet")

    config = {"removed": removed, "rows_per_language": rows_per_language}
    return pd.read_parquet(find_or_build("changes", config, build, parents) / "changes.parquet")


def own_nats(bench: Bench, model: moe.MoMEForCausalLM, rows_per_language: int) -> dict[str, np.ndarray]:
    """Return {language: nats (N,) of its validation sequences under its own expert}, of the languages that have one."""
    found = {}
    for language in bench.data.languages:
        if language in model.config.languages:
            found[language] = score(bench, expert_forward(model.config.languages.index(language)), model, rows_per_language, [language]).nats.to_numpy()
    return found


def share_routed(bench: Bench, model: moe.MoMEForCausalLM, language: str, expert: str, rows_per_language: int) -> float:
    """Return the share of a language's validation sequences that the router sends to an expert."""
    if expert not in model.config.languages:
        return 0.0
    rows = bench.data.rows("validation")[bench.data.row_numbers("validation", language, rows_per_language)]
    return float((model.router.route(rows) == model.config.languages.index(expert)).mean())


def price_moe(bench: Bench, rounds: int = 9) -> pd.DataFrame:
    """Return `time_moe` and `time_uses` at the bench's sizes in one table, measured once on this machine."""
    languages = list(bench.languages)

    def build(folder):
        tables = [time_moe(bench.scale, languages, rounds, bench.device), time_uses(bench.scale, languages, rounds, bench.device)]
        pd.concat(tables, ignore_index=True).to_parquet(folder / "price.parquet")

    config = {"shape": asdict(bench.scale.expert), "rounds": rounds, "device": bench.device.type}
    return pd.read_parquet(find_or_build("moe_price", config, build, {"data": bench.data_path}) / "price.parquet")


def time_uses(scale: Scale, languages: list[str], rounds: int, device="cpu") -> pd.DataFrame:
    """Return what each kind of use costs to score a mixed batch: `time_moe`'s columns, what being "use", and `COST_COLUMNS`."""
    uses = list_uses(languages, True, []).drop_duplicates(COST_COLUMNS)
    model = moe.build_moe(languages, models.gpt2_config(scale.expert, scale.vocab_size, scale.context), has_common_expert=True,
                          tie_word_embeddings=scale.tie_word_embeddings, seed=0).to(device).eval()
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, scale.vocab_size, (8, scale.context))).to(device)
    told = torch.arange(len(ids), device=device) % len(languages)
    ways = {use.use: partial(torch.inference_mode()(model), ids, expert_index=None if use.average_experts else told, common_expert=use.common_expert,
                             average_experts=use.average_experts or None, allowed_experts=use.allowed) for use in uses.itertuples()}
    return compare_times("use", ways, rounds, ids.numel(), baseline=uses.use.iloc[0]).merge(uses[["use", *COST_COLUMNS]], left_on="way", right_on="use").drop(
        columns="use")


def add_speed(switches: pd.DataFrame, price: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `score_switches` with the tokens_per_second of each use, as `price_moe` measured its kind."""
    speeds = price.loc[price.what == "use", [*COST_COLUMNS, "tokens_per_second"]]
    return switches.merge(speeds, on=COST_COLUMNS, how="left")


def time_moe(scale: Scale, languages: list[str], rounds: int, device="cpu") -> pd.DataFrame:
    """Return what routing costs: a training step on mixed batches, scoring one, and writing with a cache from mixed prompts.

    Columns: what ("training step", "gradient" (that without clipping and the optimizer), "scoring", "writing"), way, median,
    low, high (quartiles of the ratio within the same round of its time to that of the dense student of an expert's shape),
    tokens_per_second (median). Random weights and ids: what is computed does not depend on them.
    """
    rows = np.random.default_rng(0).integers(3, scale.vocab_size, (8 * scale.batch_size, scale.context)).astype(np.uint16)
    expert_index = np.arange(len(rows)) % len(languages)
    told, body = told_forward(expert_index, device), models.gpt2_config(scale.expert, scale.vocab_size, scale.context)
    total = shape_dense(scale, "same total", len(languages))
    built = {"dense, same active": models.build_gpt2(scale.expert, scale.vocab_size, scale.context, seed=0),
             "JEET": moe.build_moe(languages, body, has_common_expert=False, tie_word_embeddings=scale.tie_word_embeddings, seed=0),
             "MoE-CE": moe.build_moe(languages, body, has_common_expert=True, tie_word_embeddings=scale.tie_word_embeddings, seed=0),
             "dense, same total": models.build_gpt2(total, scale.vocab_size, scale.context, seed=0),
             "teacher": models.build_gpt2(scale.teacher, scale.vocab_size, scale.context, seed=0)}
    built = {way: model.to(device) for way, model in built.items()}
    batches = np.arange(len(rows)).reshape(-1, scale.batch_size)
    forwards = {way: told if way in ("JEET", "MoE-CE") else dense_logits for way in built}
    trained = {way: partial(train.make_step, model, distill.make_objective(None, forwards[way]), rows, itertools.cycle(batches), scale.micro_batch_size)
               for way, model in built.items() if way != "teacher"}
    tables = [compare_times(what, {way: make(is_updated=what == "training step") for way, make in trained.items()}, rounds,
                            scale.batch_size * scale.context) for what in ("training step", "gradient")]
    ids = torch.from_numpy(rows[:8].astype(np.int64)).to(device)
    index = torch.from_numpy(expert_index[:8]).to(device)
    told_index = {way: {"expert_index": index} if way in ("JEET", "MoE-CE") else {} for way in built}
    scorers = {way: partial(torch.inference_mode()(model.eval()), ids, **told_index[way]) for way, model in built.items()}
    tables.append(compare_times("scoring", scorers, rounds, ids.numel()))
    prompts, n_new = ids[:, :scale.context // 4], scale.context // 2
    writers = {way: partial(model.generate, prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=n_new, do_sample=False, eos_token_id=None,
                            pad_token_id=0, use_cache=True, **told_index[way]) for way, model in built.items()}
    tables.append(compare_times("writing", writers, rounds, len(prompts) * n_new, in_a_row=1))
    return pd.concat(tables, ignore_index=True)


def compare_times(what: str, ways: dict, rounds: int, n_tokens: int, baseline: str = "dense, same active", in_a_row: int = 4) -> pd.DataFrame:
    def repeat(run: Callable[[], None]) -> None:
        for _ in range(in_a_row):
            run()

    # Several in a row, as in real use: after a turn of the others a model's weights have left the cache.
    timed = train.time_in_turn({way: partial(repeat, run) for way, run in ways.items()}, rounds, warm_up=1)
    seconds = timed.groupby("way").seconds.median() / in_a_row
    table = train.ratios_to(timed, baseline)
    return table.assign(what=what, tokens_per_second=n_tokens / seconds[table.way].to_numpy())[["what", *table.columns, "tokens_per_second"]]
