"""What is listed of the teacher's distribution, that it comes back from disk unchanged, and what it costs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from mome.distill import CACHED_LOSSES, TAILS, targets
from mome.distill.fused import combined_loss
from mome.distill.objective import make_objective
from mome.distill.targets import CachedTargets, cache_targets, list_targets, measure_bias
from mome.store import read_json, write_json

ROWS = np.random.default_rng(0).integers(3, 50, (8, 6)).astype(np.uint16)
NUMBERS = np.array([4, 1, 5, 0, 7])
IDENTITY = {"teacher": "t1", "tokenizer": "k1", "data": "d1"}


class Teacher(torch.nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.wte, self.drop = torch.nn.Embedding(50, 8), torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(8, 50)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.drop(self.wte(input_ids))))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def loss_and_slope(student, **source):
    """Return a KD loss summed over all positions, and its gradient."""
    logits, zeros = student.clone().requires_grad_(), torch.zeros(student.shape[:2], dtype=torch.long)
    loss = combined_loss(logits, zeros, 0.0, **source)["loss"]
    return loss.item(), torch.autograd.grad(loss, logits)[0]


def cached_loss(name, student, found):
    return loss_and_slope(student, name=name, targets=found)


def full_loss(name, student, teacher):
    return loss_and_slope(student, name=name, teacher_logits=teacher)


@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_drawn_targets_are_unbiased_in_value_and_gradient_where_dropped_ones_are_not(random_logits, name):
    student, teacher, random = random_logits(1, (1, 1, 12)), random_logits(2, (1, 1, 12), 1.5), generator()
    exact, exact_gradient = full_loss(name, student, teacher)
    draws = [cached_loss(name, student, list_targets(teacher, 5, "drawn", random)) for _ in range(400)]
    losses, gradients = zip(*draws, strict=True)
    assert np.std(losses) > 0.01
    assert abs(np.mean(losses) - exact) < 4 * np.std(losses) / np.sqrt(400)
    gradients = torch.stack(gradients)
    assert ((gradients.mean(0) - exact_gradient).abs() <= 4.5 * gradients.std(0) / np.sqrt(400) + 1e-12).all()
    dropped, dropped_gradient = cached_loss(name, student, list_targets(teacher, 5, "dropped"))
    assert abs(dropped - exact) > 10 * np.std(losses) / np.sqrt(400)
    assert ((dropped_gradient - exact_gradient).abs() > 10 * gradients.std(0) / np.sqrt(400)).any()


@pytest.mark.parametrize("k", [2, 5, 10])
def test_lumped_targets_are_a_lower_bound_of_the_full_kl(random_logits, k):
    for seed in range(20):
        student, teacher = random_logits(seed, (1, 1, 11), 2.0), random_logits(100 + seed, (1, 1, 11), 2.0)
        bound = cached_loss("forward_kl", student, list_targets(teacher, k, "lumped"))[0]
        assert -1e-12 < bound < full_loss("forward_kl", student, teacher)[0] + 1e-12


def test_lumped_and_dropped_targets_equal_an_example_computed_by_hand():
    teacher, student = (torch.tensor([[p]], dtype=torch.float64).log()
                        for p in ([0.1, 0.5, 0.05, 0.3, 0.05], [0.2, 0.2, 0.3, 0.1, 0.2]))
    lumped, dropped = (list_targets(teacher, 2, tail) for tail in ("lumped", "dropped"))
    assert lumped["ids"].tolist() == dropped["ids"].tolist() == [[[1, 3]]]
    assert_close(lumped["weights"], torch.tensor([[[0.5, 0.3]]]).double())
    assert lumped["tail"].item() == pytest.approx(0.2)
    entropy = -sum(p * np.log(p) for p in (0.5, 0.3, 0.2))
    assert lumped["entropy"].item() == pytest.approx(entropy)
    by_hand = 0.5 * np.log(0.5 / 0.2) + 0.3 * np.log(0.3 / 0.1) + 0.2 * np.log(0.2 / 0.7)
    assert cached_loss("forward_kl", student, lumped)[0] == pytest.approx(by_hand)
    assert_close(dropped["weights"], torch.tensor([[[0.625, 0.375]]]).double())  # scaled to 1
    by_hand = 0.625 * np.log(0.625 / 0.2) + 0.375 * np.log(0.375 / 0.1)
    assert cached_loss("forward_kl", student, dropped)[0] == pytest.approx(by_hand)


def test_drawn_targets_are_the_more_probable_half_and_equal_shares_of_the_rest_by_their_generator(
        random_logits):
    teacher = random_logits(2)
    probs = torch.softmax(teacher, -1)
    found = list_targets(teacher, 5, "drawn", generator())
    top, rest = found["ids"][..., :3], found["ids"][..., 3:]
    assert torch.equal(top, probs.topk(3).indices)
    assert not (rest.unsqueeze(-1) == top.unsqueeze(-2)).any()
    assert_close(found["weights"][..., :3], probs.topk(3).values)
    is_twice, share = rest[..., 0] == rest[..., 1], (1 - probs.topk(3).values.sum(-1)) / 2
    assert 0 < is_twice.sum() < 10
    assert_close(found["weights"][..., 3], share * (1 + is_twice))
    assert_close(found["weights"][..., 4], share * ~is_twice)
    assert_close(found["entropy"], -(probs * probs.log()).sum(-1))
    first, again, other = (list_targets(random_logits(2), 6, "drawn", generator(seed))["ids"]
                           for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_weight_hides_in_another_of_the_same_token(random_logits):
    found = list_targets(random_logits(2, (2, 50, 11), 3.0), 10, "drawn", generator())
    is_weighed = found["weights"] > 0
    ids = torch.where(is_weighed, found["ids"], -1 - torch.arange(10)).flatten(0, 1)
    assert not is_weighed.all()
    assert all(len(set(listed)) == 10 for listed in ids.tolist())


@pytest.mark.parametrize("tail", TAILS)
def test_all_mass_is_listed_or_in_the_tail(random_logits, tail):
    for k in (2, 5, 11):
        found = list_targets(random_logits(2), k, tail, generator())
        assert found["ids"].shape == found["weights"].shape == (2, 5, k)
        assert (found["weights"] >= 0).all()
        assert (found["tail"] >= 0).all()
        assert_close(found["weights"].sum(-1) + found["tail"], torch.ones(2, 5).double())
        assert (found["tail"] == 0).all() or tail == "lumped"


@pytest.mark.parametrize("tail", ["lumped", "dropped"])
def test_cached_losses_are_exact_when_every_token_is_listed(random_logits, tail):
    student, teacher = random_logits(1), random_logits(2)
    for name in CACHED_LOSSES:
        loss, gradient = cached_loss(name, student, list_targets(teacher, 11, tail))
        exact, exact_gradient = full_loss(name, student, teacher)
        assert loss == pytest.approx(exact, rel=1e-6)
        assert_close(gradient, exact_gradient, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("tail", TAILS)
def test_a_teacher_that_is_certain_is_listed_without_trouble(random_logits, tail):
    student, teacher = random_logits(1, (1, 2, 11)).float(), torch.zeros(1, 2, 11)
    teacher[..., 4] = 200.0
    found = list_targets(teacher, 4, tail, generator())
    assert found["ids"][..., 0].tolist() == [[4, 4]]
    loss, gradient = cached_loss("forward_kl", student, found)
    assert loss == pytest.approx(full_loss("forward_kl", student, teacher)[0], rel=1e-5)
    assert torch.isfinite(gradient).all()


def test_what_a_sure_teacher_leaves_is_summed_and_not_one_less_the_rest(random_logits):
    teacher = random_logits(2, (1, 4, 50)).float()
    teacher[..., 7] += 22
    found, exact = (list_targets(logits, 4, "lumped") for logits in (teacher, teacher.double()))
    assert_close(found["tail"].double(), exact["tail"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("tail", TAILS)
def test_a_teachers_infinitely_small_logit_is_listed_as_a_probability_of_zero(random_logits, tail):
    small, zero = random_logits(2), random_logits(2)
    small[..., [0, 5]], zero[..., [0, 5]] = -1e4, -torch.inf
    expected, found = (list_targets(logits, 10, tail, generator()) for logits in (small, zero))
    for name in ("weights", "tail", "entropy"):
        assert_close(found[name], expected[name])


def logits_of(model, numbers):
    with torch.no_grad():
        return model.eval()(input_ids=torch.from_numpy(ROWS[numbers].astype(np.int64))).logits.float()


def write_cache(folder, tail="drawn", k=6, **options):
    return cache_targets(Teacher(), ROWS, NUMBERS, k, folder, tail=tail, identity=IDENTITY, **options)


def as_stored(numbers, tail, k=6, seed=0):
    found = list_targets(logits_of(Teacher(), numbers), k, tail, generator(seed))
    return {name: value if name == "ids" else value.half() for name, value in found.items()}


@pytest.mark.parametrize("tail", TAILS)
def test_targets_read_from_disk_are_those_of_the_teacher_without_its_dropout(tmp_path, tail):
    cache_targets(Teacher().train(), ROWS, NUMBERS, 6, tmp_path, tail=tail, micro_batch_size=5)
    cached = CachedTargets(tmp_path)
    assert_close(cached.lookup(NUMBERS), as_stored(NUMBERS, tail), atol=1e-3, rtol=1e-3)
    assert (cached.k, cached.tail, cached.vocab_size) == (6, tail, 50)


@pytest.mark.parametrize("tail", ["lumped", "dropped"])
@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_rows_are_found_whatever_files_and_micro_batches_they_went_through(
        tmp_path, monkeypatch, tail, micro_batch_size):
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 2)
    write_cache(tmp_path, tail, micro_batch_size=micro_batch_size)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"targets-0000{part}.safetensors" for part in range(3)]
    asked = np.array([7, 4, 0, 4, 1, 5])
    assert_close(CachedTargets(tmp_path).lookup(asked), as_stored(asked, tail), atol=1e-3, rtol=1e-3)


def test_every_file_is_drawn_from_its_own_number(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 2)
    write_cache(tmp_path)
    cached = CachedTargets(tmp_path)
    for part in range(3):
        numbers = NUMBERS[2 * part:2 * part + 2]
        assert_close(cached.lookup(numbers)["ids"], as_stored(numbers, "drawn", seed=part)["ids"])


def test_the_cached_loss_of_an_objective_is_the_teachers_up_to_half_precision(tmp_path):
    write_cache(tmp_path, "lumped", k=50)
    batch = {name: torch.from_numpy(ROWS[numbers].astype(np.int64))
             for name, numbers in (("input_ids", [5, 4]), ("labels", [4, 5]))} | {"row_numbers": [5, 4]}
    forward = lambda model, batch: 3 * model(input_ids=batch["input_ids"]).logits  # noqa: E731
    student = Teacher(1).eval()
    cached = make_objective("forward_kl", forward, targets=CachedTargets(tmp_path))(student, batch, 0.3)
    taught = make_objective("forward_kl", forward, teacher=Teacher().eval())(student, batch, 0.3)
    for name in taught:
        assert cached[name].item() == pytest.approx(taught[name].item(), rel=5e-3), name


def test_a_cache_states_its_size_and_the_mass_of_the_most_probable(tmp_path):
    sizes = write_cache(tmp_path)
    n_bytes = sum(tensor.nbytes for tensor in load_file(tmp_path / "targets-00000.safetensors").values())
    top = torch.softmax(logits_of(Teacher(), NUMBERS), -1).topk(3).values.sum(-1).mean().item()
    assert sizes == {"rows": 5, "k": 6, "bytes_per_token": n_bytes / (5 * 6),
                     "top_probability": pytest.approx(top, abs=1e-3)}


def test_targets_are_looked_up_under_autocast_of_the_cpu_too(tmp_path):
    write_cache(tmp_path)
    cached = CachedTargets(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        found = cached.lookup([4, 7])
    assert_close(found, cached.lookup([4, 7]), rtol=0, atol=0)


@pytest.mark.parametrize("name", IDENTITY)
def test_a_cache_of_another_teacher_tokenizer_or_data_is_refused_by_name_and_both_values(tmp_path, name):
    write_cache(tmp_path)
    with pytest.raises(ValueError, match=rf"another {name}: made from {IDENTITY[name]}, asked for other"):
        CachedTargets(tmp_path, IDENTITY | {name: "other"})
    assert CachedTargets(tmp_path, {name: IDENTITY[name]}).k == CachedTargets(tmp_path).k == 6
    cache_targets(Teacher(), ROWS, NUMBERS, 6, tmp_path)  # which does not say what it was made from
    with pytest.raises(ValueError, match="another teacher"):
        CachedTargets(tmp_path, IDENTITY)


def change(name, cut):
    def do(path):
        save_file({key: cut(value).clone() if name in (key, "all") else value
                   for key, value in load_file(path).items()}, path)

    return do


DAMAGE = {"cut short": lambda path: path.write_bytes(path.read_bytes()[:-40]),
          "empty": lambda path: path.write_bytes(b""),
          "scrambled": lambda path: path.write_bytes(bytes(range(256)) * 4),
          "missing": lambda path: path.unlink(),
          "a row lost": change("all", lambda value: value[:-1]),
          "an id lost": change("ids", lambda value: value[..., 1:]),
          "a tensor lost": lambda path: save_file({key: value for key, value in load_file(path).items()
                                                   if key != "tail"}, path)}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_by_name(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 2)
    write_cache(tmp_path)
    DAMAGE[damage](tmp_path / "targets-00001.safetensors")
    with pytest.raises(ValueError, match=r"targets-00001\.safetensors.*damaged.*delete"):
        CachedTargets(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\0\0", "{}", "[]", None])
def test_a_header_that_is_damaged_or_counts_otherwise_is_refused_by_name(tmp_path, text):
    write_cache(tmp_path)
    path = tmp_path / "targets.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match=r"targets\.json is (missing or )?damaged"):
        CachedTargets(tmp_path, IDENTITY)
    write_cache(tmp_path)
    header = read_json(path)  # whose counts the files must agree with
    for change, words in (({"rows": [*header["rows"], 2]}, "for 6 rows"), ({"k": 5}, "for 5 rows")):
        write_json(path, header | change)
        with pytest.raises(ValueError, match=words):
            CachedTargets(tmp_path)


def test_a_row_that_is_not_cached_and_a_student_of_another_vocabulary_are_refused(tmp_path):
    write_cache(tmp_path)
    with pytest.raises(ValueError, match="row 2 is not among the 5"):
        CachedTargets(tmp_path).lookup([4, 2])
    write_cache(tmp_path)
    objective = make_objective("teacher_ce", lambda model, batch: torch.zeros(1, 6, 40),
                               targets=CachedTargets(tmp_path))
    with pytest.raises(ValueError, match=r"vocabulary has 40 tokens, its teacher.s 50"):
        objective(None, {"labels": torch.zeros(1, 6, dtype=torch.long), "row_numbers": [4]}, 0.5)


def test_the_last_of_65536_tokens_survives_its_two_bytes_and_more_are_refused(tmp_path):
    assert list_targets(torch.zeros(1, 1, 65_536), 2, "lumped")["ids"].shape == (1, 1, 2)
    with pytest.raises(ValueError, match=r"65537 .* 65536"):
        list_targets(torch.zeros(1, 1, 65_537), 2, "lumped")
    logits, teacher = torch.zeros(1, 1, 65_536), Teacher()
    logits[..., -1] = 5.0
    teacher.forward = lambda input_ids: SimpleNamespace(logits=logits.expand(*input_ids.shape, -1))
    cache_targets(teacher, ROWS, NUMBERS[:1], 2, tmp_path, tail="lumped")
    assert (CachedTargets(tmp_path).lookup([4])["ids"][..., 0] == 65_535).all()


@pytest.mark.parametrize("options, words", [
    ({"tail": "lost"}, ["tail='lost'", *TAILS]), ({"k": 12}, ["k=12", "[2, 11]"]),
    ({"k": 1}, ["k=1", "[2, 11]"]), ({"k": 2.5}, ["k=2.5", "whole"])])
def test_bad_options_are_refused_by_name_value_and_choice(random_logits, options, words):
    with pytest.raises(ValueError) as error:
        list_targets(random_logits(0), **({"k": 4, "tail": "drawn"} | options))
    assert [word for word in words if word not in str(error.value)] == []


@pytest.fixture(scope="module")
def bias(random_logits) -> pd.DataFrame:
    labels = torch.zeros(2, 12, dtype=torch.long)
    labels[:, -3:] = -100
    student, teacher = random_logits(1, (2, 12, 40), 1.5), random_logits(2, (2, 12, 40), 1.5)
    return measure_bias(student, teacher, labels, [4, 12, 36], draws=30)


def test_bias_is_told_per_tail_k_and_draw_lumped_falls_short_drawn_does_not_and_errors_fall_with_k(bias):
    assert bias.groupby(["tail", "k"], sort=False).size().to_dict() == {
        (tail, k): 30 if tail == "drawn" else 1 for tail in TAILS for k in (4, 12, 36)}
    assert (bias.bytes_per_token == 4 * bias.k + 4).all()
    assert np.allclose(bias.bias, bias.cached_kl - bias.full_kl)
    assert bias.full_kl.nunique() == 1
    assert (bias[bias["tail"] == "lumped"].bias <= 1e-6).all()
    for _, drawn in bias[bias["tail"] == "drawn"].groupby("k"):
        assert abs(drawn.bias.mean()) < 4 * drawn.bias.std() / np.sqrt(len(drawn))
    smallest = bias[bias.k == 4].groupby("tail").bias.mean().abs()
    assert smallest["drawn"] < min(smallest["lumped"], smallest["dropped"])
    errors = bias.groupby(["tail", "k"]).gradient_error.mean().unstack()
    assert (errors.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
    assert (errors > 0).all(axis=None)


def test_the_full_kl_and_the_mean_gradient_are_means_over_supervised_tokens(random_logits, bias):
    student, teacher = (random_logits(seed, (2, 12, 40), 1.5)[:, :-3].float() for seed in (1, 2))
    full_kl, full = full_loss("forward_kl", student, teacher)
    assert bias.full_kl[0] == pytest.approx(full_kl / 18, rel=1e-5)
    lumped = cached_loss("forward_kl", student, list_targets(teacher, 4, "lumped"))[1]
    told = bias[(bias["tail"] == "lumped") & (bias.k == 4)].gradient_error.item()
    error = (lumped - full).sum((0, 1)).norm() / full.sum((0, 1)).norm()
    assert told == pytest.approx(error.item(), rel=1e-3)


def test_bias_follows_its_seed(random_logits):
    def measure(seed):
        zeros = torch.zeros(2, 5, dtype=torch.long)
        return measure_bias(random_logits(1), random_logits(2), zeros, [4], draws=2, seed=seed)

    pd.testing.assert_frame_equal(measure(0), measure(0))
    assert (measure(0).cached_kl != measure(1).cached_kl)[:2].all()
