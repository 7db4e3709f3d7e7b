"""What is listed of the teacher's distribution, that it comes back from disk as it went there, and what it costs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from mome import targets
from mome.artifacts import hash_file, read_json, write_json
from mome.config import Shape
from mome.distill import CACHED_LOSSES, combined_loss, kd_loss, make_objective
from mome.models import build_gpt2
from mome.targets import TAILS, CachedTargets, cache_targets, list_targets, measure_bias

ROWS = np.random.default_rng(0).integers(3, 50, (8, 6)).astype(np.uint16)
NUMBERS = np.array([4, 1, 5, 0, 7])
IDENTITY = {"teacher": "t1", "tokenizer": "k1", "data": "d1"}


@pytest.fixture(autouse=True)
def batch_run(monkeypatch):
    monkeypatch.setenv("MOME_BATCH", "1")


def random_logits(seed, shape=(2, 5, 11), scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cached_loss(name, student, found):
    """Return a loss against cached targets, summed over all positions, and its gradient."""
    logits = student.clone().requires_grad_()
    loss = combined_loss(logits, torch.zeros(student.shape[:2], dtype=torch.long), 0.0, name, targets=found)["loss"]
    return loss.item(), torch.autograd.grad(loss, logits)[0]


def full_loss(name, student, teacher):
    logits = student.clone().requires_grad_()
    loss = kd_loss(name, logits, teacher, torch.zeros(student.shape[:2], dtype=torch.long))
    return loss.item(), torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_drawn_targets_are_unbiased_in_value_and_gradient_where_dropped_ones_are_not(name):
    student, teacher, random = random_logits(1, (1, 1, 12)), random_logits(2, (1, 1, 12), 1.5), generator()
    exact, exact_gradient = full_loss(name, student, teacher)
    losses, gradients = zip(*(cached_loss(name, student, list_targets(teacher, 5, "drawn", random)) for _ in range(400)), strict=True)
    assert np.std(losses) > 0.01
    assert abs(np.mean(losses) - exact) < 4 * np.std(losses) / np.sqrt(400)
    gradients = torch.stack(gradients)
    assert ((gradients.mean(0) - exact_gradient).abs() <= 4.5 * gradients.std(0) / np.sqrt(400) + 1e-12).all()
    dropped, dropped_gradient = cached_loss(name, student, list_targets(teacher, 5, "dropped"))
    assert abs(dropped - exact) > 10 * np.std(losses) / np.sqrt(400)
    assert ((dropped_gradient - exact_gradient).abs() > 10 * gradients.std(0) / np.sqrt(400)).any()


@pytest.mark.parametrize("k", [2, 5, 10])
def test_lumped_targets_are_a_lower_bound_of_the_full_kl(k):
    for seed in range(40):
        student, teacher = random_logits(seed, (1, 1, 11), 2.0), random_logits(100 + seed, (1, 1, 11), 2.0)
        bound, full = cached_loss("forward_kl", student, list_targets(teacher, k, "lumped"))[0], full_loss("forward_kl", student, teacher)[0]
        assert -1e-12 < bound < full + 1e-12


def test_lumped_targets_are_the_k_most_probable_tokens_and_one_event_for_the_rest():
    teacher, student = (torch.tensor([[p]], dtype=torch.float64).log() for p in ([0.1, 0.5, 0.05, 0.3, 0.05], [0.2, 0.2, 0.3, 0.1, 0.2]))
    found = list_targets(teacher, 2, "lumped")
    assert found["ids"].tolist() == [[[1, 3]]]
    assert_close(found["weights"], torch.tensor([[[0.5, 0.3]]]).double())
    assert found["tail"].item() == pytest.approx(0.2)
    assert found["entropy"].item() == pytest.approx(-(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)))
    by_hand = 0.5 * np.log(0.5 / 0.2) + 0.3 * np.log(0.3 / 0.1) + 0.2 * np.log(0.2 / 0.7)
    assert cached_loss("forward_kl", student, found)[0] == pytest.approx(by_hand)


def test_dropped_targets_are_the_k_most_probable_tokens_scaled_to_one():
    teacher, student = (torch.tensor([[p]], dtype=torch.float64).log() for p in ([0.1, 0.5, 0.05, 0.3, 0.05], [0.2, 0.2, 0.3, 0.1, 0.2]))
    found = list_targets(teacher, 2, "dropped")
    assert found["ids"].tolist() == [[[1, 3]]]
    assert_close(found["weights"], torch.tensor([[[0.625, 0.375]]]).double())
    assert cached_loss("forward_kl", student, found)[0] == pytest.approx(0.625 * np.log(0.625 / 0.2) + 0.375 * np.log(0.375 / 0.1))


def test_drawn_targets_are_the_more_probable_half_and_equal_shares_of_what_is_left():
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


def test_no_weight_hides_in_another_of_the_same_token():
    found = list_targets(random_logits(2, (2, 50, 11), 3.0), 10, "drawn", generator())
    is_weighed = found["weights"] > 0
    ids = torch.where(is_weighed, found["ids"], -1 - torch.arange(10)).flatten(0, 1)
    assert not is_weighed.all()
    assert all(len(set(listed)) == 10 for listed in ids.tolist())


def test_draws_follow_their_generator():
    teacher = random_logits(2)
    first, again, other = (list_targets(teacher, 6, "drawn", generator(seed))["ids"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("k", [2, 5, 11])
@pytest.mark.parametrize("tail", TAILS)
def test_all_mass_is_listed_or_in_the_tail(tail, k):
    found = list_targets(random_logits(2), k, tail, generator())
    assert found["ids"].shape == found["weights"].shape == (2, 5, k)
    assert (found["weights"] >= 0).all()
    assert (found["tail"] >= 0).all()
    assert_close(found["weights"].sum(-1) + found["tail"], torch.ones(2, 5).double())
    assert (found["tail"] == 0).all() or tail == "lumped"


@pytest.mark.parametrize("tail", ["lumped", "dropped"])
@pytest.mark.parametrize("name", CACHED_LOSSES)
def test_cached_losses_are_exact_when_every_token_is_listed(name, tail):
    student, teacher = random_logits(1), random_logits(2)
    loss, gradient = cached_loss(name, student, list_targets(teacher, 11, tail))
    exact, exact_gradient = full_loss(name, student, teacher)
    assert loss == pytest.approx(exact, rel=1e-6)
    assert_close(gradient, exact_gradient, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("tail", TAILS)
def test_a_teacher_that_is_certain_is_listed_without_trouble(tail):
    teacher = torch.zeros(1, 2, 11)
    teacher[..., 4] = 200.0
    found = list_targets(teacher, 4, tail, generator())
    assert found["ids"][..., 0].tolist() == [[4, 4]]
    loss, gradient = cached_loss("forward_kl", random_logits(1, (1, 2, 11)).float(), found)
    assert loss == pytest.approx(full_loss("forward_kl", random_logits(1, (1, 2, 11)).float(), teacher)[0], rel=1e-5)
    assert torch.isfinite(gradient).all()


def small_teacher(seed=0):
    return build_gpt2(Shape(1, 2, 16), vocab_size=50, context=6, seed=seed)


def logits_of(model, numbers):
    with torch.no_grad():
        return model.eval()(input_ids=torch.from_numpy(ROWS[numbers].astype(np.int64))).logits.float()


def write_cache(folder, tail="drawn", k=6, **options):
    return cache_targets(small_teacher(), ROWS, NUMBERS, k, folder, tail=tail, identity=IDENTITY, **options)


def as_stored(found):
    return {name: value if name == "ids" else value.half() for name, value in found.items()}


@pytest.mark.parametrize("tail", TAILS)
def test_targets_read_from_disk_are_those_of_the_teacher(tmp_path, tail):
    write_cache(tmp_path, tail, micro_batch_size=5)
    cached = CachedTargets(tmp_path, IDENTITY)
    expected = list_targets(logits_of(small_teacher(), NUMBERS), 6, tail, generator(0))
    assert_close(cached.lookup(NUMBERS), as_stored(expected), atol=1e-3, rtol=1e-3)
    assert (cached.k, cached.tail, cached.vocab_size) == (6, tail, 50)


@pytest.mark.parametrize("tail", ["lumped", "dropped"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_rows_are_found_whatever_files_and_micro_batches_they_went_through(tmp_path, monkeypatch, tail, micro_batch_size):
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 2)
    write_cache(tmp_path, tail, micro_batch_size=micro_batch_size)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [f"targets-0000{part}.safetensors" for part in range(3)]
    asked = np.array([7, 4, 0, 4, 1, 5])
    assert_close(CachedTargets(tmp_path).lookup(asked), as_stored(list_targets(logits_of(small_teacher(), asked), 6, tail)), atol=1e-3, rtol=1e-3)


def test_a_teachers_dropout_does_not_reach_its_targets(tmp_path):
    teacher = small_teacher().train()
    teacher.transformer.drop.p = 0.5
    cache_targets(teacher, ROWS, NUMBERS, 6, tmp_path, tail="lumped")
    expected = list_targets(logits_of(small_teacher(), NUMBERS), 6, "lumped")
    assert_close(CachedTargets(tmp_path).lookup(NUMBERS), as_stored(expected), atol=1e-3, rtol=1e-3)


def test_every_file_is_drawn_from_its_own_number(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 2)
    write_cache(tmp_path)
    cached = CachedTargets(tmp_path)
    for part in range(3):
        numbers = NUMBERS[2 * part:2 * part + 2]
        assert_close(cached.lookup(numbers)["ids"], list_targets(logits_of(small_teacher(), numbers), 6, "drawn", generator(part))["ids"])


def test_a_cache_states_its_size_and_the_mass_of_the_most_probable(tmp_path):
    sizes = write_cache(tmp_path)
    stored = load_file(tmp_path / "targets-00000.safetensors")
    n_bytes = sum(tensor.nbytes for tensor in stored.values())
    top = torch.softmax(logits_of(small_teacher(), NUMBERS), -1).topk(3).values.sum(-1).mean().item()
    assert sizes == {"rows": 5, "k": 6, "bytes_per_token": n_bytes / (5 * 6), "top_probability": pytest.approx(top, abs=1e-3)}
    assert read_json(tmp_path / "targets.json")["identity"] == IDENTITY


def test_the_cached_loss_of_an_objective_is_the_teachers_up_to_half_precision(tmp_path):
    write_cache(tmp_path, "lumped", k=50)
    student = small_teacher(seed=1).eval()
    batch = {"input_ids": torch.from_numpy(ROWS[[5, 4]].astype(np.int64)), "labels": torch.from_numpy(ROWS[[4, 5]].astype(np.int64)), "row_numbers": [5, 4]}

    def forward(model, batch):
        return 10 * model(input_ids=batch["input_ids"]).logits

    cached = make_objective("forward_kl", forward, targets=CachedTargets(tmp_path))(student, batch, 0.3)
    taught = make_objective("forward_kl", forward, teacher=small_teacher().eval())(student, batch, 0.3)
    for name in taught:
        assert cached[name].item() == pytest.approx(taught[name].item(), rel=5e-3), name


def test_a_cache_opens_without_asking_what_it_was_made_from(tmp_path):
    write_cache(tmp_path)
    assert CachedTargets(tmp_path).lookup([4], 50)["ids"].shape == (1, 6, 6)
    assert CachedTargets(tmp_path, {"tokenizer": "k1"}).k == 6


def test_a_hash_changes_with_any_byte_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("name", IDENTITY)
def test_a_cache_of_another_teacher_tokenizer_or_data_is_refused_by_name_and_both_values(tmp_path, name):
    write_cache(tmp_path)
    with pytest.raises(ValueError, match=rf"another {name}: made from {IDENTITY[name]}, asked for other"):
        CachedTargets(tmp_path, IDENTITY | {name: "other"})


def test_a_cache_that_does_not_say_what_it_was_made_from_is_refused_when_asked(tmp_path):
    cache_targets(small_teacher(), ROWS, NUMBERS, 6, tmp_path)
    with pytest.raises(ValueError, match="another teacher"):
        CachedTargets(tmp_path, IDENTITY)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-40])


def cut_to_nothing(path):
    path.write_bytes(b"")


def scramble(path):
    path.write_bytes(bytes(range(256)) * 4)


def lose_a_row(path):
    save_file({name: tensor[:-1].clone() for name, tensor in load_file(path).items()}, path)


def lose_a_token(path):
    save_file({name: tensor[..., :-1].clone() if tensor.dim() == 3 else tensor for name, tensor in load_file(path).items()}, path)


def lose_a_tensor(path):
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "tail"}, path)


@pytest.mark.parametrize("damage", [cut_short, cut_to_nothing, scramble, lose_a_row, lose_a_token, lose_a_tensor, lambda path: path.unlink()],
                         ids=["cut short", "cut to nothing", "scrambled", "a row lost", "a token lost", "a tensor lost", "missing"])
def test_a_damaged_file_is_refused_by_name(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(targets, "ROWS_PER_FILE", 2)
    write_cache(tmp_path)
    damage(tmp_path / "targets-00001.safetensors")
    with pytest.raises(ValueError, match=r"targets-00001\.safetensors.*damaged.*delete"):
        CachedTargets(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "not json", "\0\0"])
def test_a_damaged_header_is_refused_by_name(tmp_path, text):
    write_cache(tmp_path)
    (tmp_path / "targets.json").write_text(text)
    with pytest.raises(ValueError, match=r"targets\.json is damaged"):
        CachedTargets(tmp_path, IDENTITY)


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{}"), lambda path: path.write_text("[]"), lambda path: path.unlink()],
                         ids=["no keys", "a list", "missing"])
def test_a_header_of_another_kind_is_refused_by_name(tmp_path, damage):
    write_cache(tmp_path)
    damage(tmp_path / "targets.json")
    with pytest.raises(ValueError, match=r"targets\.json"):
        CachedTargets(tmp_path, IDENTITY)


def test_a_header_that_counts_other_rows_than_the_files_is_refused(tmp_path):
    write_cache(tmp_path)
    header = read_json(tmp_path / "targets.json")
    write_json(tmp_path / "targets.json", header | {"rows": [*header["rows"], 2]})
    with pytest.raises(ValueError, match="for 6 rows"):
        CachedTargets(tmp_path)


def test_a_row_that_is_not_cached_is_refused_by_number(tmp_path):
    write_cache(tmp_path)
    with pytest.raises(ValueError, match="row 2 is not among the 5"):
        CachedTargets(tmp_path).lookup([4, 2])


def test_a_student_of_another_vocabulary_is_refused_with_both_sizes(tmp_path):
    write_cache(tmp_path)
    student = SimpleNamespace(logits=random_logits(0, (1, 6, 40)))
    objective = make_objective("teacher_ce", lambda model, batch: model.logits, targets=CachedTargets(tmp_path))
    with pytest.raises(ValueError, match=r"vocabulary of 40 .* 50"):
        objective(student, {"labels": torch.zeros(1, 6, dtype=torch.long), "row_numbers": [4]}, 0.5)


def test_ids_that_need_more_than_two_bytes_are_refused():
    assert list_targets(torch.zeros(1, 1, 65_536), 2, "lumped")["ids"].shape == (1, 1, 2)
    with pytest.raises(ValueError, match=r"65537 .* 65536"):
        list_targets(torch.zeros(1, 1, 65_537), 2, "lumped")


def test_the_last_of_65536_tokens_survives_its_two_bytes(tmp_path):
    logits = torch.zeros(1, 1, 65_536)
    logits[..., -1] = 5.0

    class Teacher(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids):
            return SimpleNamespace(logits=logits.expand(*input_ids.shape, -1))

    cache_targets(Teacher(), ROWS, NUMBERS, 2, tmp_path, tail="lumped")
    assert (CachedTargets(tmp_path).lookup([4])["ids"][..., 0] == 65_535).all()


@pytest.mark.parametrize(("options", "words"), [({"tail": "lost"}, ["tail='lost'", *TAILS]), ({"k": 12}, ["k=12", "[2, 11]"]), ({"k": 1}, ["k=1", "[2, 11]"]),
                                                ({"k": 2.5}, ["k=2.5", "whole"])])
def test_bad_options_are_refused_by_name_value_and_choice(options, words):
    with pytest.raises(ValueError) as error:
        list_targets(random_logits(0), **({"k": 4, "tail": "drawn"} | options))
    assert [word for word in words if word not in str(error.value)] == []


@pytest.fixture(scope="module")
def bias() -> pd.DataFrame:
    labels = torch.zeros(2, 12, dtype=torch.long)
    labels[:, -3:] = -100
    return measure_bias(random_logits(1, (2, 12, 40), 1.5), random_logits(2, (2, 12, 40), 1.5), labels, [4, 12, 36], draws=30)


def test_bias_is_told_per_tail_k_and_draw(bias):
    assert bias.groupby(["tail", "k"], sort=False).size().to_dict() == {(tail, k): 30 if tail == "drawn" else 1 for tail in TAILS for k in (4, 12, 36)}
    assert (bias.bytes_per_token == 4 * bias.k + 4).all()
    assert np.allclose(bias.bias, bias.cached_kl - bias.full_kl)
    assert bias.full_kl.nunique() == 1


def test_the_full_kl_is_a_mean_over_supervised_tokens(bias):
    student, teacher = (random_logits(seed, (2, 12, 40), 1.5)[:, :-3] for seed in (1, 2))
    assert bias.full_kl[0] == pytest.approx(full_loss("forward_kl", student, teacher)[0] / 18, rel=1e-5)


def test_lumped_targets_fall_short_and_drawn_ones_are_right_in_the_mean(bias):
    assert (bias[bias["tail"] == "lumped"].bias <= 1e-6).all()
    for _, drawn in bias[bias["tail"] == "drawn"].groupby("k"):
        assert abs(drawn.bias.mean()) < 4 * drawn.bias.std() / np.sqrt(len(drawn))
    smallest = bias[bias.k == 4].groupby("tail").bias.mean().abs()
    assert smallest["drawn"] < smallest["lumped"]
    assert smallest["drawn"] < smallest["dropped"]


def test_the_gradient_error_falls_with_k(bias):
    errors = bias.groupby(["tail", "k"]).gradient_error.mean().unstack()
    assert (errors.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
    assert (errors > 0).all(axis=None)


def test_the_gradient_error_is_that_of_the_gradient_averaged_over_tokens(bias):
    student, teacher = (random_logits(seed, (2, 12, 40), 1.5)[:, :-3].float() for seed in (1, 2))
    full = full_loss("forward_kl", student, teacher)[1].sum((0, 1))
    lumped = cached_loss("forward_kl", student, list_targets(teacher, 4, "lumped"))[1].sum((0, 1))
    told = bias[(bias["tail"] == "lumped") & (bias.k == 4)].gradient_error.item()
    assert told == pytest.approx(((lumped - full).norm() / full.norm()).item(), rel=1e-3)


def test_bias_follows_its_seed():
    def measure(seed):
        return measure_bias(random_logits(1), random_logits(2), torch.zeros(2, 5, dtype=torch.long), [4], draws=2, seed=seed)

    pd.testing.assert_frame_equal(measure(0), measure(0))
    assert (measure(0).cached_kl != measure(1).cached_kl)[:2].all()
