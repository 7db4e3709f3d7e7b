"""Which language is a sequence of token ids?"""

import json
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from mome import router as routing
from mome.corpus import read_documents
from mome.data import PackedData, build_dataset
from mome.router import CLASSIFIERS, N_SPECIAL, Router, benchmark, count_tokens, fit_router, make_classifier, sample_rows, strongest_tokens

LANGUAGES = ["en", "fr", "de", "py"]
SIZES = {"vocab_size": 700, "context": 64, "tokens_per_language": 15_000, "max_diff_percent": 5.0, "validation_fraction": 0.06, "seed": 42}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_BATCH", "1")


def build(folder, languages) -> PackedData:
    build_dataset(pd.DataFrame(read_documents("mini", languages, 1, True, folder)), folder, **SIZES)
    return PackedData(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PackedData:
    return build(tmp_path_factory.mktemp("data"), LANGUAGES)


@pytest.fixture(scope="module")
def fitted(data):
    return fit_router(data, 100)


@pytest.fixture(scope="module")
def router(fitted) -> Router:
    return fitted[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    data = build(tmp_path_factory.mktemp("two"), ["en", "fr"])
    return data, *fit_router(data, 100)


def ids(rows) -> torch.Tensor:
    return torch.from_numpy(np.asarray(rows).astype(np.int64))


def validation_ids(data) -> torch.Tensor:
    return ids(data.rows("validation"))


def assert_near(actual, expected, atol: float) -> None:
    torch.testing.assert_close(torch.as_tensor(actual, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64), atol=atol, rtol=0)


# Counting

def test_tokens_are_counted_and_special_tokens_are_not():
    counts = count_tokens(np.array([[1, 5, 5, 2], [0, 0, 4, 3], [1, 2, 0, 0]], dtype=np.uint16), 6)
    assert counts.toarray().tolist() == [[0, 0, 0, 0, 0, 2], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    assert counts.nnz == 3


def test_counts_have_a_column_for_every_token_and_a_row_for_every_sequence(data):
    rows = data.rows("validation")
    counts = count_tokens(rows, 700)
    assert counts.shape == (len(rows), 700)
    assert counts.sum() == (rows >= N_SPECIAL).sum()


def test_counts_of_a_prefix_see_the_prefix_only(data):
    rows = data.rows("validation")
    assert (count_tokens(rows[:, :10], 700) != count_tokens(rows[:, :10].copy(), 700)).nnz == 0
    assert count_tokens(rows[:, :10], 700).sum() == (rows[:, :10] >= N_SPECIAL).sum()


def test_as_many_rows_are_sampled_of_each_language(data):
    rows, labels = sample_rows(data, "train", 30)
    assert np.bincount(labels).tolist() == [30] * 4
    assert rows.shape == (120, 64)
    everything, labels = sample_rows(data, "train", None)
    assert len(everything) == len(data.rows("train")) == len(labels)


# The affine map

@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("prefix", [1, 8, 64])
def test_the_torch_router_equals_scikit_learn(data, fitted, split, prefix):
    router, pipeline = fitted
    rows = data.rows(split)[:, :prefix]
    assert_near(router(ids(rows)), pipeline.predict_proba(count_tokens(rows, 700)), atol=1e-5)


def test_router_probs_are_probabilities_over_the_languages(data, router):
    probs = router(validation_ids(data))
    assert probs.shape == (len(data.rows("validation")), 4)
    assert (probs >= 0).all()
    assert_near(probs.sum(dim=1), torch.ones(len(probs)), atol=1e-5)
    assert router.languages == LANGUAGES


def test_the_router_finds_the_language_of_most_validation_rows(data, router):
    found = router(validation_ids(data)).argmax(dim=1).numpy()
    assert (found == data.language_index("validation")).mean() > 0.9


def test_special_tokens_change_nothing(data, router):
    rows = validation_ids(data)
    rows = rows[(rows >= N_SPECIAL).all(dim=1)][:8]
    assert len(rows) > 0
    around = torch.cat([torch.full((len(rows), 1), 1), rows, torch.full((len(rows), 1), 2)], dim=1)
    assert_near(router(around), router(rows), atol=1e-5)


def test_special_tokens_weigh_nothing_even_when_a_pipeline_was_fitted_on_them():
    counts = np.array([[3, 1, 0, 4, 0], [2, 2, 0, 5, 1], [0, 1, 3, 0, 4], [0, 1, 4, 1, 5]])
    pipeline = make_classifier("logistic_regression").fit(counts, [0, 0, 1, 1])
    assert abs(pipeline[-1].coef_[:, 0]).min() > 0
    weight = Router.from_pipeline(pipeline, ["en", "fr"]).weight
    assert (weight[:N_SPECIAL] == 0).all()
    assert (weight[N_SPECIAL:, 1] != 0).all()


def test_padding_changes_nothing_with_or_without_a_mask(data, router):
    rows = validation_ids(data)[:8]
    padded = torch.cat([rows, torch.zeros(8, 30, dtype=torch.long)], dim=1)
    mask = (torch.arange(94) < 64).long().expand(8, 94)
    assert_near(router(padded), router(rows), atol=1e-5)
    assert_near(router(padded, mask), router(rows), atol=1e-5)


def test_masked_tokens_weigh_nothing_whatever_they_are(data, router):
    rows = validation_ids(data)[:8]
    mask = (torch.arange(64) < 20).long().expand(8, 64)
    assert_near(router(rows, mask), router(rows[:, :20]), atol=1e-5)
    assert not torch.allclose(router(rows, mask), router(rows), atol=1e-3)


def test_without_evidence_only_the_bias_speaks(router):
    expected = torch.softmax(router.bias, dim=0)
    assert_near(router(torch.tensor([[0, 1, 2, 0]]))[0], expected, atol=1e-6)


def test_a_mixed_batch_equals_its_rows_one_by_one(data, router):
    numbers = [int(data.row_numbers("validation", language)[position]) for position in range(3) for language in LANGUAGES]
    batch = ids(data.rows("validation")[numbers])
    one_by_one = torch.cat([router(row[None]) for row in batch])
    assert_near(router(batch), one_by_one, atol=1e-6)
    assert router(batch).argmax(dim=1).unique().numel() > 1


def test_the_order_of_tokens_does_not_matter(data, router):
    rows = validation_ids(data)
    assert_near(router(rows.flip(1)), router(rows), atol=1e-5)


def test_the_router_is_not_trained_further(router):
    assert not any(parameter.requires_grad for parameter in router.parameters())


def test_fitting_again_gives_the_same_router(data, router):
    again, _ = fit_router(data, 100)
    assert torch.equal(again.weight, router.weight)
    assert torch.equal(again.bias, router.bias)


def test_a_router_of_two_languages_equals_scikit_learn_and_finds_them(two):
    data, router, pipeline = two
    rows = data.rows("validation")
    probs = router(ids(rows))
    assert probs.shape == (len(rows), 2)
    assert_near(probs, pipeline.predict_proba(count_tokens(rows, 700)), atol=1e-5)
    assert (probs.argmax(dim=1).numpy() == data.language_index("validation")).mean() > 0.9


# The file

@pytest.fixture
def file(router, tmp_path):
    router.save(tmp_path / "router.safetensors")
    return tmp_path / "router.safetensors"


def test_a_router_round_trips_through_its_file(data, router, file):
    again = Router.load(file)
    assert again.languages == router.languages
    assert torch.equal(again.weight, router.weight)
    assert torch.equal(again.bias, router.bias)
    assert torch.equal(again(validation_ids(data)), router(validation_ids(data)))


def test_a_router_of_two_languages_round_trips_through_its_file(two, tmp_path):
    two[1].save(tmp_path / "router.safetensors")
    again = Router.load(tmp_path / "router.safetensors")
    assert again.languages == ["en", "fr"]
    assert torch.equal(again.weight, two[1].weight)


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(file, share):
    content = file.read_bytes()
    file.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(ValueError, match=r"router\.safetensors is not a router"):
        Router.load(file)


def test_a_file_with_a_damaged_header_is_refused_by_name(file):
    content = bytearray(file.read_bytes())
    content[8:20] = b"\x00" * 12
    file.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"router\.safetensors is not a router"):
        Router.load(file)


@pytest.mark.parametrize("content", [b"hello, this is a text file\n", b"{}", json.dumps({"languages": "en,fr"}).encode(), b"\x80\x04]q\x00."])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.txt is not a router"):
        Router.load(tmp_path / "notes.txt")


WEIGHT, BIAS = torch.zeros(9, 2), torch.zeros(2)


@pytest.mark.parametrize(("tensors", "metadata"), [
    ({"weight": WEIGHT, "bias": BIAS}, None),
    ({"weight": WEIGHT, "bias": BIAS}, {"format": "pt"}),
    ({"weight": WEIGHT}, {"languages": "en,fr"}),
    ({"bias": BIAS}, {"languages": "en,fr"}),
    ({"weight": WEIGHT, "bias": BIAS, "wte.weight": torch.zeros(3)}, {"languages": "en,fr"}),
    ({"wte.weight": torch.zeros(9, 4)}, {"languages": "en,fr"}),
    ({"weight": WEIGHT, "bias": BIAS}, {"languages": "en,fr,de"}),
    ({"weight": torch.zeros(9), "bias": BIAS}, {"languages": "en,fr"})])
def test_a_safetensors_file_that_is_not_a_router_is_refused_by_name(tmp_path, tensors, metadata):
    save_file(tensors, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"other\.safetensors is not a router"):
        Router.load(tmp_path / "other.safetensors")


def test_a_router_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        Router.load(tmp_path / "router.safetensors")


def test_the_file_is_safetensors_with_the_languages_in_its_header(file):
    content = file.read_bytes()
    header = json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])
    assert header["__metadata__"]["languages"] == "en,fr,de,py"
    assert set(header) == {"__metadata__", "weight", "bias"}


# Comparing classifiers

@pytest.fixture(scope="module")
def compared(data):
    return benchmark(data, list(CLASSIFIERS), 60, [8, 1_000])


def test_every_classifier_is_scored_on_every_prefix_and_on_whole_sequences(data, compared):
    scores, _ = compared
    assert list(zip(scores.classifier, scores.prefix, strict=True)) == [(name, length) for name in CLASSIFIERS for length in (8, 64)]
    assert (scores.whole_sequence == (scores.prefix == 64)).all()
    assert (scores.n_sequences == len(data.rows("validation"))).all()


@pytest.mark.parametrize("prefix", [8, 64])
def test_every_classifier_beats_the_majority_baseline(compared, prefix):
    scores = compared[0].query("prefix == @prefix").set_index("classifier").f1
    assert (scores.drop("majority") > scores["majority"]).all()


def test_the_majority_baseline_has_the_f1_of_one_constant_answer(data, compared):
    # equally many training rows of each language: the first wins; its F1 is 2p / (1 + p), all others have 0
    share = (data.language_index("validation") == 0).mean()
    scores = compared[0].query("classifier == 'majority'")
    assert scores.f1.tolist() == pytest.approx([share * 2 * share / (1 + share)] * 2)
    assert scores.recall.tolist() == pytest.approx([share] * 2)


def test_the_rows_of_a_confusion_matrix_sum_to_one_and_agree_with_recall(data, compared):
    scores, confusion = compared
    assert len(confusion) == len(CLASSIFIERS) * 16
    assert confusion.groupby(["classifier", "true"]).share.sum().tolist() == pytest.approx([1.0] * len(CLASSIFIERS) * 4)
    shares = pd.Series(data.language_index("validation")).map(dict(enumerate(data.languages))).value_counts(normalize=True)
    diagonal = confusion[confusion.true == confusion.predicted]
    recall = (diagonal.share * diagonal.true.map(shares)).groupby(diagonal.classifier).sum()
    whole = scores[scores.whole_sequence].set_index("classifier").recall
    assert recall.to_dict() == pytest.approx(whole.to_dict())


def test_the_workbooks_classifier_in_the_table_is_the_router_itself(data):
    scores, _ = benchmark(data, ["logistic_regression"], 100, [])
    found = fit_router(data, 100)[0](validation_ids(data)).argmax(dim=1).numpy()
    assert scores.recall.item() == pytest.approx((found == data.language_index("validation")).mean())


def test_an_unknown_classifier_is_refused_with_the_known_ones_before_any_is_fitted(data, monkeypatch):
    monkeypatch.setattr(routing, "make_classifier", lambda *_: pytest.fail("a classifier was made"))
    with pytest.raises(ValueError, match=r"classifier='forest'.*majority.*logistic_regression"):
        benchmark(data, ["majority", "forest"], 10, [8])


def test_make_classifier_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"classifier='forest'.*majority.*logistic_regression"):
        make_classifier("forest")


# What the router learned

def test_the_strongest_tokens_are_sorted_and_ranked_for_each_language(data, router):
    table = strongest_tokens(router, data.tokenizer, 12)
    assert table.groupby("language", sort=False)["rank"].agg(list).to_dict() == {language: list(range(1, 13)) for language in LANGUAGES}
    assert all(group.weight.is_monotonic_decreasing for _, group in table.groupby("language"))
    assert (table.weight > 0).all()


def test_the_strongest_token_has_the_largest_weight_over_the_mean():
    router = Router(6, ["en", "fr"])
    router.weight.copy_(torch.tensor([[0.0, 0], [0, 0], [0, 0], [4, 0], [5, 5], [0, 2]]))
    tokenizer = type("Tokenizer", (), {"decode": staticmethod(lambda ids: f"t{ids[0]}")})()
    # over the mean of the two languages, token 3 weighs 2 and -2, token 4 nothing, token 5 -1 and 1
    assert strongest_tokens(router, tokenizer, 1).to_dict("records") == [
        {"language": "en", "rank": 1, "token": "t3", "weight": 2.0}, {"language": "fr", "rank": 1, "token": "t5", "weight": 1.0}]


def test_adding_the_strongest_token_of_a_language_speaks_for_it(data, router):
    centred = router.weight - router.weight.mean(dim=1, keepdim=True)
    row = validation_ids(data)[:1]
    for column in range(4):
        added = torch.cat([row, centred[:, column].argmax().reshape(1, 1)], dim=1)
        before, after = router(row).log()[0], router(added).log()[0]
        assert (after - before)[column] - (after - before).mean() > 0


# Known faults, each with its smallest example

def test_a_weight_without_dimensions_is_refused_by_name(tmp_path):
    save_file({"weight": torch.tensor(1.0), "bias": BIAS}, tmp_path / "other.safetensors", metadata={"languages": "en,fr"})
    with pytest.raises(ValueError, match=r"other\.safetensors is not a router"):
        Router.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("prefix", [-5, 0])
def test_a_prefix_is_at_least_one_token(data, prefix):
    with pytest.raises(ValueError, match=f"prefix.*{prefix}"):
        benchmark(data, ["majority"], 10, [prefix])
