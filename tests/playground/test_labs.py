import numpy as np
import pytest
import torch

from mome.distill import KD_LOSSES
from mome.playground import labs

P, Q = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.2, 0.3, 0.5]).double()


def test_forward_kl_pulls_the_student_to_the_teacher_and_hard_labels_to_the_label():
    losses, pulls = labs.measure_pulls(P, Q, 2)
    np.testing.assert_allclose(pulls.loc["forward_kl"], P - Q, atol=1e-9)
    np.testing.assert_allclose(pulls.loc[labs.HARD], torch.tensor([0, 0, 1]) - Q, atol=1e-9)
    assert np.isclose(losses[labs.HARD], -np.log(0.5))
    assert np.isclose(losses["forward_kl"], (P * (P / Q).log()).sum())
    assert list(losses) == list(pulls.index) == [labs.HARD, *KD_LOSSES]


def test_what_one_word_wins_the_others_lose():
    np.testing.assert_allclose(labs.measure_pulls(P, Q, 0)[1].sum(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("weights", [[7, 2, 1], [2, 2, 2, 2, 2], [6, 3, 2, 0.5, 0.1]])
def test_a_student_that_equals_its_teacher_is_pulled_by_the_text_alone(weights):
    p = torch.tensor(weights).double() / sum(weights)
    pulls = labs.measure_pulls(p, p.clone(), 0)[1]
    np.testing.assert_allclose(pulls.drop(labs.HARD), 0, atol=1e-9)
    assert pulls.loc[labs.HARD].abs().max() > 0.1
    words = [*"abcde"][:len(weights)]
    values = {name: field.value for name, field in labs.loss_fields(words, weights, weights, "a").items()}
    assert "no KD loss pulls" in labs.answer_losses(words)(**values).words


def test_the_words_name_the_strongest_pull_its_way_and_which_kl_is_larger():
    def ask(teacher, student):
        fields = labs.loss_fields(["a", "b"], teacher, student, "a")
        return labs.answer_losses(["a", "b"])(**{name: field.value for name, field in fields.items()})

    assert ask([9, 1], [1, 9]).words.endswith(": both cost the same.")
    for pair in (([9, 1], [1, 1]), ([1, 1], [9, 1])):
        answer = ask(*pair)
        _, pulls, losses = answer.arguments
        loss, word = pulls.drop(labs.HARD).abs().stack().idxmax()
        way = "up" if pulls.loc[loss, word] > 0 else "down"
        said = f"KD losses {loss.replace('_', ' ')} pulls most: the student's {word!r} goes {way}"
        assert said in answer.words
        is_forward = losses["forward_kl"] > losses["reverse_kl"]
        more, less = ("teacher", "student")[::1 if is_forward else -1]
        assert f"what the {more} expects and the {less} does not costs more" in answer.words


def test_weights_of_the_sliders_are_made_to_add_up_to_one():
    words = ["a", "b"]
    fields = labs.loss_fields(words, [3, 1], [1, 1], "a")
    values = {name: field.value for name, field in fields.items()}
    beliefs, pulls, _ = labs.answer_losses(words)(**values).arguments
    assert beliefs.teacher.tolist() == [0.75, 0.25]
    assert beliefs.student.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(pulls.loc["forward_kl", "a"], 0.25)


def test_a_bent_curve_runs_through_start_middle_and_end_and_never_below_zero():
    history = labs.bend_history({"ce": [8, 2, 4], "kd": [3, 1, 0]}, 0.0, 2.5)
    ce = [step["ce_loss"] for step in history]
    assert (ce[0], ce[-1]) == (8, 4)
    assert abs(ce[len(ce) // 2] - 2) < 0.05
    assert min(ce) >= 2 - 1e-9
    noisy = labs.bend_history({"ce": [8, 2, 4], "kd": [3, 1, 0]}, 1.0, 2.5)
    assert min(min(step["kd_loss"], step["ce_loss"]) for step in noisy) >= 0
    assert {step["ce_grad_norm"] / step["kd_grad_norm"] for step in noisy} == {2.5}


def test_on_smooth_falling_curves_the_papers_alpha_stays_at_one_half_and_equal_pulls_do_so_too():
    history = labs.bend_history({"ce": [8, 4, 1], "kd": [3, 2.9, 2.8]}, 0.0, 1.0)
    assert set(labs.follow_schedule("adaptive_paper", history)) == {0.5}
    assert set(labs.follow_schedule("grad_norm", history)) == {0.5}
    linear = labs.follow_schedule("linear", history)
    assert (linear[0], round(linear[-1], 9)) == (0.8, 0.2)


def test_the_answer_tells_how_often_the_papers_alpha_is_one_half():
    values = {name: field.value for name, field in labs.alpha_fields().items()}
    assert "exactly 0.5 in 100 %" in labs.answer_alpha()(**values | {"noise": 0.0}).words
    assert "exactly 0.5 in 100 %" not in labs.answer_alpha()(**values | {"noise": 0.5}).words


def test_the_answer_names_the_schedule_that_moves_most_of_those_that_look_at_the_training():
    values = {name: field.value for name, field in labs.alpha_fields().items()}
    answer = labs.answer_alpha()(**values | {"pull": 2.0})
    alphas = answer.arguments[1]["grad_norm"]
    told = f"grad norm moves most, between {alphas.min():.2f} and {alphas.max():.2f}."
    assert answer.words.endswith(told)
    still = {name: 1.0 for name in values} | {"noise": 0.0}
    assert labs.answer_alpha()(**still).words.endswith("None of those that look at losses or pulls moves.")
