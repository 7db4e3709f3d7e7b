"""Recipes of students, their teacher and its targets: their names, what is refused, what they learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mome.distill import KD_LOSSES
from mome.distill.targets import CachedTargets
from mome.engine import build_here
from mome.models.assemble import build_moe
from mome.models.bodies import count_parameters
from mome.models.gpt2 import gpt2_config
from mome.recipes.data import Data
from mome.recipes.scores import Scores
from mome.recipes.setting import open_setting
from mome.recipes.students import DENSE_SIZES, HARD_LABELS, Objective, Student, make_dense, shape_dense
from mome.recipes.teacher import Targets, Teacher, check_shared_batches, count_rows
from mome.scales import OPTIMIZERS, resolve_scale
from mome.store import read_json


@pytest.fixture(scope="module")
def setting(tiny_setting):
    """The tiny setting with teacher and targets built."""
    build_here(Targets.of(tiny_setting))
    return tiny_setting


def built(recipe):
    build_here(recipe)
    return recipe


def told(error, words):
    """True when an error names all of the words; else they are shown."""
    return [word for word in words if word not in str(error.value)] == []


# Objectives: what a loss or schedule does not use is in no name.

@pytest.mark.parametrize("one, other", [
    (HARD_LABELS, Objective(None, "linear", 0.1, 0.3, temperature=3.0, window=5, dwa_temperature=1.0)),
    (Objective(), Objective(alpha_end=0.7, window=7, dwa_temperature=1.0)),
    (Objective(schedule="adaptive_paper"), Objective(schedule="adaptive_paper", alpha=0.1, alpha_end=0.9)),
    (Objective(schedule="alternate"), Objective(schedule="alternate", alpha=0.1, window=7)),
    (Objective(schedule="dwa"), Objective(schedule="dwa", alpha=1, alpha_end=0.3)),
    (Objective(schedule="grad_norm"), Objective(schedule="grad_norm", alpha=1, dwa_temperature=1.0)),
    (Objective("jsd"), Objective("jsd", mixture=0.5)), (Objective(alpha=1), Objective(alpha=1.0))])
def test_what_an_objective_does_not_use_does_not_tell_two_apart(tiny_setting, one, other):
    assert one == other
    students = [Student.of(tiny_setting, ["en"], 0, objective) for objective in (one, other)]
    assert students[0].name == students[1].name


@pytest.mark.parametrize("one, other", [
    (Objective(), Objective(alpha=0.4)), (Objective(), HARD_LABELS), (Objective(alpha=1.0), HARD_LABELS),
    (Objective(), Objective(schedule="adaptive_paper")), (Objective(), Objective("forward_kl")),
    (Objective(schedule="linear"), Objective(schedule="linear", alpha=1.0)),
    (Objective(schedule="linear"), Objective(schedule="linear", alpha_end=0.1)),
    (Objective(schedule="cosine"), Objective(schedule="cosine", alpha_end=0.1)),
    (Objective(schedule="adaptive_paper"), Objective(schedule="adaptive_paper", window=10)),
    (Objective(schedule="grad_norm"), Objective(schedule="grad_norm", window=10)),
    (Objective(schedule="dwa"), Objective(schedule="dwa", dwa_temperature=1.0)),
    (Objective("forward_kl"), Objective("forward_kl", temperature=2.0)),
    (Objective("jsd"), Objective("jsd", mixture=0.2)), (Objective("skew_kl"), Objective("skew_reverse_kl"))])
def test_what_an_objective_uses_tells_two_apart(one, other):
    assert one != other


@pytest.mark.parametrize("options, words", [
    ({"kd_loss": "inverse"}, ["kd_loss='inverse'", *KD_LOSSES]),
    ({"schedule": "up"}, ["alpha_schedule='up'", "dwa"]),
    ({"alpha": 1.2}, ["alpha=1.2"]), ({"schedule": "linear", "alpha_end": -0.1}, ["alpha_end=-0.1"]),
    ({"alpha": True}, ["alpha=True"]), ({"temperature": 0}, ["temperature=0"]), ({"window": 1}, ["window=1"]),
    ({"dwa_temperature": 0}, ["dwa_temperature=0"]), ({"kd_loss": "jsd", "mixture": 2}, ["mixture=2"]),
    ({"mixture": 0.5}, ["mixture=0.5", "teacher_ce", "jsd"]),
    ({"kd_loss": "l1_weighted", "temperature": 2}, ["temperature=2", "l1_weighted"])])
def test_an_objective_that_makes_no_sense_is_refused_by_name_and_value(options, words):
    with pytest.raises(ValueError) as error:
        Objective(**options)
    assert told(error, words)


# Students: what they are made from, and what they are not.

def test_only_a_loss_that_reads_the_cache_takes_targets_and_only_one_that_cannot_the_teacher(tiny_setting):
    def parents(objective):
        return set(Student.of(tiny_setting, ["en"], 0, objective).parents())

    assert parents(HARD_LABELS) == {"data"}
    for objective in (Objective(), Objective("forward_kl"), Objective("forward_kl", schedule="grad_norm")):
        assert parents(objective) == {"data", "targets"}
    hot = [Objective("forward_kl", temperature=2.0), Objective("teacher_ce", temperature=0.5)]
    for objective in (*hot, *(Objective(name) for name in KD_LOSSES[2:])):
        assert parents(objective) == {"data", "teacher"}


def test_targets_or_a_teacher_that_a_student_does_not_use_change_nothing(tiny_setting):
    sources = {"targets": Targets.of(tiny_setting), "teacher": Teacher.of(tiny_setting)}
    for objective in (HARD_LABELS, Objective(), Objective("reverse_kl")):
        student = Student.of(tiny_setting, ["en"], 0, objective)
        assert replace(student, **sources).name == student.name


def test_every_option_makes_another_student_and_the_same_ones_the_same(tiny_setting):
    def name(languages=("en",), seed=0, *arguments, **options):
        return Student.of(tiny_setting, languages, seed, *arguments, **options).name

    names = [name(), name(["fr"]), name(["en", "fr"]), name(["fr", "en"]), name(seed=1), name(tail="lumped"),
             name(token_share=0.5), name(shape=shape_dense(tiny_setting.scale, "same total", 4)),
             name(start_from=Student.of(tiny_setting, ["fr"])), name(steps=3),
             name(["en"], 0, HARD_LABELS), name(["en"], 0, Objective("jsd"))]
    assert len(set(names)) == len(names)
    assert name() == names[0]


def test_titles_tell_the_arms_of_a_chapter_apart(tiny_setting):
    arms = [(HARD_LABELS, {}), (HARD_LABELS, {"token_share": 1.9}), (Objective(), {"tail": "lumped"}),
            *((objective, {}) for objective in (
                Objective(), Objective(alpha=0.1), Objective(schedule="dwa"), Objective("forward_kl"),
                Objective("forward_kl", temperature=2.0), Objective("forward_kl", temperature=3.0)))]
    titles = [Student.of(tiny_setting, ["en"], 0, objective, **options).title for objective, options in arms]
    assert len(set(titles)) == len(arms)


BY_MICRO_BATCH = Objective(schedule="alternate_micro_batch")
OWN = {"objective": HARD_LABELS}


def teach_three(setting, batch_size):
    data = replace(Teacher.of(setting).data, languages=["en", "fr", "py"])
    return Teacher.of(setting, data, batch_size=batch_size)


def take_others(setting, **changes):
    """Make a student of English whose targets are changed."""
    targets = Targets.of(setting)
    if changes.pop("data", None):
        changes["teacher"] = Teacher.of(setting, replace(Data.of(setting), split_seed=1))
    return replace(Student.of(setting, ["en"]), targets=replace(targets, **changes))


@pytest.mark.parametrize("make, words", [
    (lambda s: Student.of(s, ["es"]), ["languages='es'", "en, fr, de, py"]),
    (lambda s: Student.of(s, ["en", "en"]), ["repeats"]),
    (lambda s: Student.of(s, ["en", "fr", "de"]),
     ["['en', 'fr', 'de']", "3 languages", "batches of 8", "'batch_size': 6"]),
    (lambda s: Student.of(s, ["en"], tail="long"), ["tail='long'", "drawn, lumped"]),
    (lambda s: Student.of(s, ["en"], tail="long", **OWN), ["tail='long'"]),
    (lambda s: Student.of(s, ["en"], seed=-1), ["seed=-1"]),
    (lambda s: Student.of(s, ["en"], token_share=0, **OWN), ["token_share=0"]),
    (lambda s: Student.of(s, ["en"], token_share=2_000, **OWN), ["token_share=2000"]),
    (lambda s: Student.of(s, ["en"], micro_batch_size=5, objective=BY_MICRO_BATCH),
     ["micro_batch_size=5", "equal shares"]),
    (lambda s: Student.of(s, ["en"], micro_batch_size=3, objective=BY_MICRO_BATCH),
     ["micro_batch_size=3", "batch_size=8"]),
    (lambda s: Student.of(s, ["en"], batch_size=1, objective=BY_MICRO_BATCH), ["batch_size=1", "equal"]),
    (lambda s: Student.of(s, ["en"], mixed_precision="auto"), ["mixed_precision='auto'", "bf16"]),
    (lambda s: replace(Student.of(s, ["en"]), rows_per_language=500), ["rows_per_language=500", "rows"]),
    (lambda s: take_others(s, languages=["fr", "de"]), ["languages=", "en", "for fr, de"]),
    (lambda s: replace(Student.of(s, ["en"]), targets=None), ["cached for 0 rows"]),
    (lambda s: replace(Student.of(s, ["en"]), objective=Objective("jsd")),
     ["kd_loss='jsd' at temperature=1", "give the teacher"]),
    (lambda s: take_others(s, data=True), ["targets of data-"]),
    (lambda s: teach_three(s, 8), ["['en', 'fr', 'py']: 3", "batches of 8", "'batch_size': 6"]),
    (lambda s: check_shared_batches("abcd", 2), ["batches of 2", "'batch_size': 4"]),
    (lambda s: replace(Targets.of(s), k=1), ["k=1", "[2, 599]"]),
    (lambda s: replace(Targets.of(s), k=600), ["k=600"]),
    (lambda s: replace(Targets.of(s), tail="long"), ["tail='long'"]),
    (lambda s: replace(Targets.of(s), rows_per_language=0), ["rows_per_language=0"]),
    *((lambda s, name=name: replace(Teacher.of(s), **{name: 0}), [f"{name}=0"])
      for name in ("steps", "batch_size", "micro_batch_size", "curve_rows", "evaluations"))])
def test_what_cannot_be_is_refused_by_name_and_value_with_what_would_do(tiny_setting, make, words):
    with pytest.raises(ValueError) as error:
        make(tiny_setting)
    assert told(error, words)
    assert teach_three(tiny_setting, 6).batch_size == 6


# Sizes of the dense students that a modular model is held against.

@pytest.mark.parametrize("tie", [True, False])
def test_dense_controls_have_the_active_and_the_total_weights_of_the_modular_model(tie):
    scale = resolve_scale("smoke", {"expert": {"tie_word_embeddings": tie}})
    languages = ["en", "fr", "de", "py"]
    config = gpt2_config(scale.expert, scale.vocab_size, scale.context)
    model = build_moe(languages, config, has_common_expert=False, seed=0)
    router = sum(count_parameters(module) for name, module in model.named_modules() if name == "router")
    bias = 0 if scale.expert.tie_word_embeddings else scale.vocab_size  # a dense head has none
    total = count_parameters(model) - router
    shapes = [shape_dense(scale, size, 4) for size in DENSE_SIZES]
    active, wide, deep = (shape.weights(scale.vocab_size, scale.context) for shape in shapes)
    assert active + bias + router == model.active_parameters()
    assert wide == pytest.approx(total, rel=0.04)  # widths go up in steps of 8 % of the weights here
    # Each body has a position table and a final norm of its own, the deep student one of both.
    assert deep + bias == total - 3 * (scale.context + 2) * scale.expert.n_embd


@pytest.mark.parametrize("name, n_experts", [("smoke", 2), ("laptop", 4), ("laptop", 7), ("paper", 4)])
def test_a_wider_student_of_the_same_total_size_is_found_at_every_scale(name, n_experts):
    scale = resolve_scale(name)
    shape, expert = shape_dense(scale, "same total", n_experts), scale.expert
    body = expert.weights(0, scale.context)
    untied = 0 if scale.expert.tie_word_embeddings else scale.vocab_size * (expert.n_embd + 1)
    total = scale.vocab_size * expert.n_embd + untied + n_experts * body
    assert shape.weights(scale.vocab_size, scale.context) == pytest.approx(total, rel=0.04)
    assert (shape.n_layer, shape.n_head) == (expert.n_layer, expert.n_head)
    assert shape.n_embd % (2 * shape.n_head) == 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_dense_controls_see_the_tokens_of_all_languages_at_a_rate_that_fits_their_width(tiny_setting, kind):
    scale = replace(tiny_setting.scale, optimizer=kind)
    active, wide, deep = (make_dense(replace(tiny_setting, scale=scale), size) for size in DENSE_SIZES)
    assert active.languages == tiny_setting.languages
    assert active.steps == wide.steps == deep.steps == 4 * scale.student_steps
    assert wide.shape.n_embd > scale.expert.n_embd
    width = wide.shape.n_embd / scale.expert.n_embd if kind == "adamw" else 1  # Muon fits its own steps
    assert wide.optimizer.learning_rate * width == pytest.approx(active.optimizer.learning_rate)
    assert active.optimizer == deep.optimizer == scale.make_optimizer()
    with pytest.raises(ValueError, match=r"controls='same'.*same total"):
        make_dense(tiny_setting, "same")


# What is built.

def test_targets_are_cached_for_the_rows_that_students_of_every_language_see_and_for_no_others(setting):
    targets, data = Targets.of(setting), Student.of(setting, ["en"]).data.open()
    rows = [Student.of(setting, [language]).list_rows(data, language) for language in setting.languages]
    assert set(targets.open().position) == set(np.concatenate(rows))
    assert len(rows[0]) == count_rows(setting.scale) == 2_048 // 32
    assert (targets.open().k, targets.open().tail, targets.notes["rows"]) == (8, "drawn", 4 * len(rows[0]))


def test_targets_of_another_teacher_tokenizer_or_data_are_refused(setting):
    targets = Targets.of(setting)
    assert read_json(targets.folder / "targets.json")["identity"] == targets.identity()
    assert targets.identity()["teacher"] == targets.teacher.name
    for name in targets.identity():
        with pytest.raises(ValueError, match=f"belong to another {name}"):
            CachedTargets(targets.folder, targets.identity() | {name: "0" * 64})


def test_the_teacher_is_better_than_chance_in_every_language(setting):
    scores = built(Scores.of(setting, Teacher.of(setting))).summary(arm="teacher")
    assert scores.language.tolist() == list(setting.languages)
    assert scores.nats_per_token.max() < np.log(600)


def test_at_smoke_the_teacher_is_clearly_better_than_a_hard_label_student_in_every_language(tiny_home):
    """Else it has nothing to teach. Seeds move such a student by less than 0.1 nats."""
    smoke = open_setting("smoke", "mini", ["en", "fr", "de", "py"])

    def nats(model):
        return built(Scores.of(smoke, built(model))).summary().set_index("language").nats_per_token

    teacher = nats(Teacher.of(smoke))
    ahead = {name: nats(Student.of(smoke, [name], 0, HARD_LABELS))[name] - teacher[name]
             for name in smoke.languages}
    assert min(ahead.values()) > 0.3, ahead


def test_a_student_of_hard_labels_sees_more_text_where_its_share_is_larger(setting):
    students = [Student.of(setting, ["en"], 0, HARD_LABELS, token_share=share) for share in (1.0, 2.0)]
    base, more = map(built, students)
    assert more.notes["tokens"] == 2 * base.notes["tokens"]
    fewer, rows = (set(student.list_rows(student.data.open(), "en")) for student in students)
    assert len(rows) == 2 * len(fewer)  # fresh text, not the same twice


def test_less_text_is_part_of_the_cached_rows_and_more_has_a_cache_of_its_languages_alone(setting):
    half, base, more = (Student.of(setting, ["en"], token_share=share) for share in (0.5, 1.0, 2.0))
    assert half.targets == base.targets == Targets.of(setting)
    assert (half.rows_per_language, half.steps) == (base.rows_per_language, base.steps // 2)
    assert more.rows_per_language == 2 * base.rows_per_language
    rows = set(built(more).list_rows(more.data.open(), "en"))
    assert set(more.targets.open().position) == rows and len(rows) == more.rows_per_language


def test_the_history_keeps_alpha_both_losses_and_curves(setting):
    student = built(Student.of(setting, ["en"], 0, Objective(schedule="adaptive_paper")))
    history = student.history(arm="adaptive")
    wanted = {"arm", "step", "tokens", "alpha", "ce_loss", "kd_loss", "grad_norm", "ce_grad_norm",
              "kd_grad_norm", "nats_en", "nats_py"}
    assert wanted <= set(history)
    assert history.nats_en.notna().sum() == setting.scale.evaluations
    assert (history.alpha[0], history.alpha.between(0, 1).all()) == (0.5, True)
    assert history.step.tolist() == list(range(1, student.steps + 1))


def test_alternating_by_micro_batch_gives_every_step_two_micro_batches_at_least(setting):
    whole = replace(setting, scale=replace(setting.scale, micro_batch_size=setting.scale.batch_size))
    student = built(Student.of(whole, ["en"], 0, Objective(schedule="alternate_micro_batch")))
    assert student.micro_batch_size == setting.scale.batch_size // 2
    assert (student.history().alpha == 0.5).all()


def test_a_student_learns_from_the_teacher_at_a_temperature_that_no_cache_has(setting):
    objective = Objective("forward_kl", alpha=0.0, temperature=2.0)
    history = built(Student.of(setting, ["en"], 0, objective)).history()
    assert history.kd_loss.iloc[-1] < history.kd_loss.iloc[0]
    assert np.allclose(history.combined_loss, history.kd_loss)


@pytest.mark.parametrize("one, other", [
    (Objective("forward_kl", temperature=2.0), Objective("forward_kl", temperature=4.0)),
    (Objective("jsd"), Objective("jsd", mixture=0.2)), (Objective("jsd"), Objective("reverse_kl"))])
def test_a_loss_its_temperature_and_its_mixture_reach_the_training(setting, one, other):
    students = [built(Student.of(setting, ["en"], 0, objective, steps=2)) for objective in (one, other)]
    assert not np.isclose(*(student.history().kd_loss[0] for student in students), rtol=1e-3)


def test_a_student_goes_on_from_the_weights_of_another(setting):
    first = built(Student.of(setting, ["en"], 0, HARD_LABELS))
    begun = Student.of(setting, ["fr"], 0, HARD_LABELS, start_from=first).make_model().state_dict()
    assert all(torch.equal(begun[name], weight) for name, weight in first.open().state_dict().items())
    drawn = Student.of(setting, ["fr"], 0, HARD_LABELS).make_model().state_dict()
    assert not torch.equal(drawn["transformer.wte.weight"], begun["transformer.wte.weight"])
