from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mome import recipes
from mome.artifacts import read_json, read_manifest

LANGUAGES = ["en", "fr", "de", "py"]


def test_a_student_is_found_again_and_its_options_make_another(tiny_bench):
    first = recipes.train_student(tiny_bench, ["en"], seed=0)
    created = read_manifest(first)["created"]
    assert recipes.train_student(tiny_bench, ["en"], seed=0) == first
    assert read_manifest(first)["created"] == created
    others = [recipes.train_student(tiny_bench, ["en"], seed=1), recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss=None),
              recipes.train_student(tiny_bench, ["en"], seed=0, alpha_schedule="adaptive_paper"),
              recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss="reverse_kl"), recipes.train_student(tiny_bench, ["en"], seed=0, tail="lumped"),
              recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss="jsd"), recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss="jsd", mixture=0.2)]
    assert len({first, *others}) == 8


def test_a_student_without_a_teacher_can_see_more_text_than_the_cache_holds(tiny_bench):
    base, more = (recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss=None, token_share=share) for share in (1.0, 2.0))
    tokens = [read_manifest(path)["notes"]["tokens"] for path in (base, more)]
    assert tokens[1] == pytest.approx(2 * tokens[0], rel=0.1)
    assert len(recipes.student_rows(tiny_bench, "en", 2.0)) > len(recipes.student_rows(tiny_bench, "en"))


def test_alternating_by_micro_batch_gives_every_step_two_micro_batches_at_least(tiny_bench):
    whole = replace(tiny_bench, scale=replace(tiny_bench.scale, micro_batch_size=tiny_bench.scale.batch_size))
    history = recipes.read_history(recipes.train_student(whole, ["en"], seed=0, alpha_schedule="alternate_micro_batch"))
    assert (history.alpha == 0.5).all()


def test_cached_targets_of_another_teacher_are_refused(tiny_bench):
    path = recipes.cache_teacher_targets(tiny_bench)
    assert recipes.targets_identity(tiny_bench) == read_json(path / "targets.json")["identity"]
    with pytest.raises(ValueError, match="belong to another teacher"):
        recipes.teacher_targets.CachedTargets(path, recipes.targets_identity(tiny_bench) | {"teacher": "0" * 64})


def test_the_price_of_distilling_is_measured_once_as_multiples_of_a_step_on_hard_labels(tiny_bench, monkeypatch):
    price = recipes.price_kd(tiny_bench, rounds=3)
    assert list(price.way) == [recipes.HARD_LABELS, "KD, cached", "KD, teacher every step", "KD, the original's way", "caching"]
    assert price["median"][0] == 1
    assert price.low.le(price["median"]).all()
    assert price["median"].le(price.high).all()
    monkeypatch.setattr(recipes.train, "time_in_turn", lambda *_: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(recipes.price_kd(tiny_bench, rounds=3), price)


def test_auto_precision_is_the_probes_choice_and_asked_once(tiny_bench, monkeypatch):
    bench, probes = replace(tiny_bench, scale=replace(tiny_bench.scale, mixed_precision="auto")), []

    def probe(*_):
        probes.append(1)
        return {"choice": "bf16", "speedup": 2.0, "loss_difference": 0.0}

    monkeypatch.setattr(recipes.train, "probe_precision", probe)
    assert [recipes.choose_precision(bench) for _ in range(2)] == ["bf16", "bf16"]
    assert len(probes) == 1
    assert recipes.choose_precision(tiny_bench) == "no"


def test_hard_labels_alone_do_not_depend_on_alpha(tiny_bench):
    assert recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss=None, alpha=0.1) == recipes.train_student(tiny_bench, ["en"], seed=0, kd_loss=None)


def test_a_sequence_starts_with_the_single_language_student_and_each_stage_goes_on_from_the_last(tiny_bench):
    order = ["en", "py"]
    stages = recipes.train_sequence(tiny_bench, order, seed=0)
    assert stages[0] == recipes.train_student(tiny_bench, ["en"], seed=0)
    assert read_manifest(stages[1])["parents"]["start_from"] == stages[0].name
    matrix = recipes.read_score_matrix(stages, order)
    assert list(matrix.index) == list(matrix.columns) == order
    assert matrix.notna().all().all()


def test_compared_routers_are_found_again_with_their_predictions(tiny_bench, monkeypatch):
    scores, predictions = recipes.compare_routers(tiny_bench, ["majority", "multinomial_nb"], [4])
    assert len(scores) == 4
    assert len(predictions) == 4 * len(tiny_bench.data.rows("validation"))
    assert predictions.groupby(["classifier", "prefix"]).apply(lambda group: (group.label == group.predicted).mean()).to_dict() == pytest.approx(
        scores.set_index(["classifier", "prefix"]).recall.to_dict())
    monkeypatch.setattr(recipes.router, "benchmark", lambda *_: pytest.fail("the routers were compared again"))
    for table, again in zip((scores, predictions), recipes.compare_routers(tiny_bench, ["majority", "multinomial_nb"], [4]), strict=True):
        pd.testing.assert_frame_equal(table, again)


def test_rows_of_a_second_corpus_are_full_and_evenly_many(tiny_bench):
    rows, labels, article_ids = recipes.second_corpus_rows(tiny_bench, "mini", 6)
    assert (rows.dtype, rows.shape) == (np.uint16, (24, tiny_bench.scale.context))
    assert labels.tolist() == sorted([0, 1, 2, 3] * 6)
    assert len(article_ids) == 24
    assert pd.Series(list(zip(labels, article_ids, strict=True))).value_counts().max() <= 4
    for corpus in ("", "auto"):  # a bench on mini has no second corpus of its own
        assert [len(part) for part in recipes.second_corpus_rows(tiny_bench, corpus, 6)] == [0, 0, 0]


def test_a_second_corpus_out_of_reach_is_left_out_by_auto_and_an_error_by_name(tiny_bench, monkeypatch):
    def unreachable(*_):
        raise recipes.corpora.CorpusUnavailable("no network today")

    monkeypatch.setattr(recipes.corpora, "reference_documents", unreachable)
    help_bench = replace(tiny_bench, corpus="help")
    assert [len(part) for part in recipes.second_corpus_rows(help_bench, "auto", 6)] == [0, 0, 0]
    with pytest.raises(recipes.corpora.CorpusUnavailable, match="no network today"):
        recipes.second_corpus_rows(help_bench, "reference", 6)


def test_the_history_keeps_alpha_losses_and_curves(tiny_bench):
    history = recipes.read_history(recipes.train_student(tiny_bench, ["en"], seed=0, alpha_schedule="adaptive_paper"), arm="adaptive")
    assert {"arm", "step", "tokens", "alpha", "ce_loss", "kd_loss", "grad_norm", "ce_grad_norm", "kd_grad_norm", "nats_en", "nats_py"} <= set(history)
    assert history.nats_en.notna().sum() == tiny_bench.scale.evaluations
    assert history.alpha.between(0, 1).all()


def test_the_teacher_beats_the_unigram_bound_when_it_has_seen_enough(tiny_bench):
    scores = recipes.read_scores(recipes.train_teacher(tiny_bench)).set_index("language").nats_per_token
    assert scores.max() < torch.log(torch.tensor(600.0))  # better than uniform, after half a minute's worth of tokens


def test_an_interrupted_teacher_goes_on_from_its_checkpoint(tiny_bench, monkeypatch):
    shifted = recipes.replace(tiny_bench, scale=recipes.replace(tiny_bench.scale, teacher_lr=2e-3))
    calls = []
    real = recipes.curve

    def stop_once(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(recipes, "curve", stop_once)
    with pytest.raises(KeyboardInterrupt):
        recipes.train_teacher(shifted)
    path = recipes.train_teacher(shifted)
    assert len(calls) == 3  # the first half was not trained, nor evaluated, again
    history = pd.read_parquet(path / "history.parquet")
    assert history.step.tolist() == list(range(1, shifted.scale.teacher_steps + 1))
    assert not (path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(("call", "words"), [
    (lambda bench: recipes.train_student(bench, ["es"], seed=0), ["es", "en, fr, de, py"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, kd_loss="inverse"), ["inverse", "teacher_ce"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, alpha=1.2), ["alpha=1.2"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, temperature=0), ["temperature=0"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, alpha_schedule="linear", alpha_end=-0.1), ["alpha_end=-0.1"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, kd_loss="jsd", mixture=2), ["mixture=2"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, tail="long"), ["tail='long'", "drawn, lumped"]),
    (lambda bench: recipes.train_student(bench, ["en"], seed=0, token_share=1.5), ["token_share=1.5"]),
    (lambda bench: recipes.train_sequence(bench, ["en", "en"], seed=0), ["repeats"])])
def test_bad_input_is_refused_before_anything_is_built(tiny_bench, call, words, assert_refused):
    assert_refused(tiny_bench, call, words)


def test_auto_falls_through_to_mini_and_says_why(tiny_home, monkeypatch):
    from mome import corpus
    from mome.config import resolve_scale
    from tests.conftest import TINY

    def unavailable(languages):
        raise corpus.CorpusUnavailable("no network today")

    monkeypatch.setattr(corpus, "help_documents", unavailable)
    monkeypatch.setattr(corpus.hub, "is_reachable", lambda: False)
    scale = resolve_scale("smoke", TINY | {"tokens_per_language": 8_100})
    # Even where this machine has the help corpus already, a scratch home does not.
    bench = recipes.open_bench(scale, "auto", LANGUAGES)
    assert bench.corpus == "mini"
    with pytest.raises(corpus.CorpusUnavailable, match="no network today"):
        recipes.open_bench(scale, "help", LANGUAGES)
