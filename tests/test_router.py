"""Which language is a sequence of token ids?"""

import json
import struct
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import precision_recall_fscore_support
from sklearn.naive_bayes import MultinomialNB
from sklearn.tree import DecisionTreeClassifier
from transformers import PreTrainedTokenizerFast

from mome import router as routing
from mome.corpus import read_documents
from mome.data import SPLITS, PackedData, build_dataset
from mome.router import CLASSIFIERS, N_SPECIAL, Router, benchmark, count_bytes, count_tokens, fit_router, hash_tokenizer, make_classifier, sample_rows
from mome.tokenizer import PLAIN, train_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
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


@pytest.fixture(scope="module")
def other_tokenizer():
    return train_tokenizer(["another text altogether, said twice: another text altogether"], 300, exact=False)


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


@pytest.mark.parametrize("shape", [(3, 0), (0, 5), (0, 0)])
def test_rows_without_tokens_have_counts_of_zero(shape):
    counts = count_tokens(np.zeros(shape, dtype=np.uint16), 6)
    assert counts.shape == (shape[0], 6)
    assert counts.nnz == 0


@pytest.mark.parametrize("token", [-1, 700, 65_535])
def test_ids_outside_the_vocabulary_are_refused_with_its_limits(router, token):
    rows = np.array([[5, 6], [7, token]])
    for read in (lambda: count_tokens(rows, 700), lambda: router(ids(rows)), lambda: router.running_probs(ids(rows)), lambda: router.route(rows)):
        with pytest.raises(ValueError, match=rf"input_ids from {min(5, token)} to {max(7, token)} are not allowed; .* from 0 to 699"):
            read()


def test_the_first_and_the_last_id_of_the_vocabulary_are_allowed(router):
    rows = np.array([[0, 699]])
    assert count_tokens(rows, 700).toarray()[0, 699] == 1
    assert router(ids(rows)).isfinite().all()


def test_as_many_rows_are_sampled_of_each_language(data):
    rows, labels = sample_rows(data, "train", 30)
    assert np.bincount(labels).tolist() == [30] * 4
    assert rows.shape == (120, 64)
    everything, labels = sample_rows(data, "train", None)
    assert len(everything) == len(data.rows("train")) == len(labels)


# The affine map

@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("prefix", [1, 8, 64])
@pytest.mark.parametrize("n_languages", [2, 4])
def test_the_torch_router_equals_scikit_learn(data, fitted, two, n_languages, split, prefix):
    data, router, pipeline = two if n_languages == 2 else (data, *fitted)
    rows = data.rows(split)[:, :prefix]
    assert_near(router(ids(rows)), pipeline.predict_proba(rows), atol=1e-5)


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
    counts = csr_matrix([[3.0, 1, 0, 4, 0], [2, 2, 0, 5, 1], [0, 1, 3, 0, 4], [0, 1, 4, 1, 5]])
    pipeline = make_classifier("logistic_regression", 5)
    pipeline[1:].fit(counts, [0, 0, 1, 1])
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


def test_a_router_of_two_languages_finds_them(two):
    data, router, _ = two
    probs = router(validation_ids(data))
    assert probs.shape == (len(data.rows("validation")), 2)
    assert (probs.argmax(dim=1).numpy() == data.language_index("validation")).mean() > 0.9


def test_languages_of_added_data_follow_those_of_the_first_and_are_found(two, tmp_path):
    data, before, _ = two
    build_dataset(pd.DataFrame(read_documents("mini", ["de", "py"], 1, True, tmp_path)), tmp_path, **SIZES, tokenizer=data.tokenizer)
    added = PackedData(tmp_path)
    router, _ = fit_router(data, 100, added=(added,))
    assert router.languages == ["en", "fr", "de", "py"]
    assert router.tokenizer_sha256 == before.tokenizer_sha256
    found = router.route(added.rows("validation"))
    assert (found == added.language_index("validation") + 2).mean() > 0.8


def test_added_data_of_another_tokenizer_or_of_a_language_that_is_there_is_refused(data, two):
    with pytest.raises(ValueError, match="added data of tokenizer"):
        fit_router(data, 100, added=(two[0],))
    with pytest.raises(ValueError, match="are there already"):
        fit_router(data, 100, added=(data,))


# Reading token by token, chunk by chunk, text by text

def test_running_probs_after_every_token_equal_the_router_on_that_prefix(data, router):
    rows = validation_ids(data)[::5]
    running = router.running_probs(rows)
    assert running.shape == (*rows.shape, 4)
    for length in (1, 2, 3, 17, 63, 64):
        assert_near(running[:, length - 1], router(rows[:, :length]), atol=1e-5)


def test_running_probs_of_no_token_are_none(router):
    assert router.running_probs(torch.zeros(3, 0, dtype=torch.long)).shape == (3, 0, 4)


def test_special_tokens_leave_the_running_probs_where_they_are(router):
    running = router.running_probs(torch.tensor([[1, 50, 2, 0, 60]]))[0]
    assert_near(running[0], torch.softmax(router.bias, dim=0), atol=1e-6)
    assert torch.equal(running[1], running[2])
    assert torch.equal(running[2], running[3])
    assert not torch.equal(running[3], running[4])


@pytest.mark.parametrize("chunk", [1, 7, 8_192])
def test_routes_are_the_routers_argmax_for_any_chunk_size(data, router, chunk):
    rows = data.rows("validation")
    assert router.route(rows, chunk).tolist() == router(ids(rows)).argmax(dim=1).tolist()


def test_routes_of_no_rows_are_none(router):
    for shape in ((0, 64), (0, 0)):
        routes = router.route(np.zeros(shape, dtype=np.uint16))
        assert (routes.shape, routes.dtype) == ((0,), np.int64)


def test_rows_without_tokens_are_routed_by_the_prior(router):
    assert_near(router(torch.zeros(3, 0, dtype=torch.long)), torch.softmax(router.bias, dim=0).expand(3, 4), atol=1e-6)
    assert router.route(np.zeros((3, 0), dtype=np.uint16)).tolist() == [int(router.bias.argmax())] * 3


def exact_probs(router: Router, tokens: list[int]) -> torch.Tensor:
    counts = np.bincount(tokens, minlength=len(router.weight)).astype(float)
    return torch.softmax(torch.from_numpy(counts) @ router.weight.double() + router.bias.double(), dim=0)


def test_an_empty_text_has_the_prior_and_no_texts_have_nothing(data, router):
    assert_near(router.classify([""], data.tokenizer)[0], torch.softmax(router.bias, dim=0), atol=1e-6)
    assert router.classify([], data.tokenizer).shape == (0, 4)


@pytest.mark.parametrize("text", ["e", "🦔🌋", "中文的字符", "\x00\ufffd", "</s><pad>", " \n\t ", "the cat and the dog"])
def test_any_text_is_classified_by_its_bytes_even_of_characters_never_seen(data, router, text):
    probs = router.classify([text], data.tokenizer)
    tokens = data.tokenizer([text], **PLAIN)["input_ids"][0]
    assert min(tokens) >= N_SPECIAL
    assert probs.dtype == torch.float32
    assert_near(probs[0], exact_probs(router, tokens), atol=1e-6)
    assert_near(probs, router(torch.tensor([tokens])), atol=1e-5)


def test_texts_of_mixed_lengths_equal_themselves_one_by_one(data, router):
    texts = ["", "e", "Der Mond scheint in der Nacht.", "def f(x):\n    return x\n" * 50, "", "La lune brille la nuit. " * 20, "🦔", ""]
    together = router.classify(texts, data.tokenizer)
    assert together.shape == (8, 4)
    assert_near(together, torch.cat([router.classify([text], data.tokenizer) for text in texts]), atol=1e-6)
    assert [LANGUAGES[together[number].argmax()] for number in (2, 3, 5)] == ["de", "py", "fr"]


class Remembering:
    """A tokenizer that reads the same texts once only."""

    def __init__(self, tokenizer):
        self.tokenizer, self.backend_tokenizer, self.read = tokenizer, tokenizer.backend_tokenizer, {}

    def __call__(self, texts, **options):
        if tuple(texts) not in self.read:
            self.read[tuple(texts)] = self.tokenizer(texts, **options)
        return self.read[tuple(texts)]


def test_a_text_of_a_million_tokens_is_classified_as_counting_in_float64_does(data, router):
    rows = np.concatenate([data.rows("train")[data.row_numbers("train", language, 40)].ravel() for language in LANGUAGES])
    text, tokenizer = data.tokenizer.decode(rows) * (1_000_000 // len(rows) + 10), Remembering(data.tokenizer)
    tokens = tokenizer([text], **PLAIN)["input_ids"][0]
    assert len(tokens) >= 1_000_000
    # the second router's evidence cancels out over the whole text, so that every rounding error would show
    level = Router(700, LANGUAGES)
    level.weight.copy_(router.weight - torch.from_numpy(np.bincount(tokens, minlength=700) / len(tokens)) @ router.weight.double())
    for reader in (router, level):
        probs = reader.classify([text], tokenizer)
        assert probs.isfinite().all()
        assert_near(probs.sum(), 1, atol=1e-5)
        assert_near(probs[0], exact_probs(reader, tokens), atol=1e-3)


# The tokenizer it belongs to

def test_equal_tokenizers_have_equal_hashes_and_others_have_others(data, two, other_tokenizer, tmp_path):
    data.tokenizer.save_pretrained(tmp_path)
    assert hash_tokenizer(PreTrainedTokenizerFast.from_pretrained(tmp_path)) == hash_tokenizer(data.tokenizer)
    assert len({hash_tokenizer(tokenizer) for tokenizer in (data.tokenizer, two[0].tokenizer, other_tokenizer)}) == 3


def test_the_hash_does_not_remember_how_a_tokenizer_was_last_used(data, router):
    before = hash_tokenizer(data.tokenizer)
    for options in ({"padding": True}, {"truncation": True, "max_length": 3}, {"padding": "max_length", "max_length": 8}):
        data.tokenizer(["one", "one two three four"], **options)
        assert hash_tokenizer(data.tokenizer) == before
        router.check_tokenizer(data.tokenizer)


def test_another_tokenizer_is_refused_by_its_hash(data, router, other_tokenizer, tmp_path):
    router.save(tmp_path / "router.safetensors")
    found, expected = hash_tokenizer(other_tokenizer)[:12], router.tokenizer_sha256[:12]
    for read in (lambda: router.classify(["text"], other_tokenizer), lambda: router.classify([], other_tokenizer),
                 lambda: Router.load(tmp_path / "router.safetensors", other_tokenizer)):
        with pytest.raises(ValueError, match=f"tokenizer {found} is not the one .*{expected}"):
            read()


def test_a_router_that_names_no_tokenizer_takes_any_but_only_ids_that_it_knows(other_tokenizer):
    assert Router(300, ["en", "fr"]).classify(["text"], other_tokenizer).tolist() == [[0.5, 0.5]]
    with pytest.raises(ValueError, match=r"not allowed; this router knows ids from 0 to 9"):
        Router(10, ["en", "fr"]).classify(["text"], other_tokenizer)


# The file

@pytest.fixture
def file(router, tmp_path):
    router.save(tmp_path / "router.safetensors")
    return tmp_path / "router.safetensors"


def refused(path, tokenizer=None) -> str:
    """Return why a file is refused, having seen that its name is told."""
    with pytest.raises(ValueError, match=rf"{path.name} is not a router") as error:
        Router.load(path, tokenizer)
    return str(error.value)


def test_a_router_round_trips_through_its_file_with_or_without_its_tokenizer(data, router, file):
    for again in (Router.load(file), Router.load(file, data.tokenizer)):
        assert (again.languages, again.tokenizer_sha256) == (router.languages, hash_tokenizer(data.tokenizer))
        assert torch.equal(again.weight, router.weight)
        assert torch.equal(again.bias, router.bias)
        assert torch.equal(again(validation_ids(data)), router(validation_ids(data)))


@pytest.mark.parametrize("languages", [["en", "fr"], ["zh-cn", "ελ, \"x\"", "c++"]])
def test_any_names_of_languages_round_trip(tmp_path, languages):
    Router(9, languages, "abc").save(tmp_path / "router.safetensors")
    again = Router.load(tmp_path / "router.safetensors")
    assert (again.languages, again.tokenizer_sha256) == (languages, "abc")


def test_the_file_is_safetensors_with_json_in_its_header(data, file):
    content = file.read_bytes()
    header = json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])
    assert set(header) == {"__metadata__", "weight", "bias"}
    assert json.loads(header["__metadata__"]["router"]) == {"kind": "mome-router", "languages": LANGUAGES, "tokenizer_sha256": hash_tokenizer(data.tokenizer)}


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(file, share):
    content = file.read_bytes()
    file.write_bytes(content[:int(len(content) * share)])
    refused(file)


def test_a_file_with_something_behind_its_end_is_refused_by_name(file):
    file.write_bytes(file.read_bytes() + b"more")
    refused(file)


def test_a_file_whose_header_is_damaged_anywhere_is_a_router_still_or_refused_by_name(file):
    content = file.read_bytes()
    generator = np.random.default_rng(0)
    n_refused = 0
    for place in generator.integers(0, 8 + struct.unpack("<Q", content[:8])[0], 150):
        file.write_bytes(content[:place] + generator.bytes(1) + content[place + 1:])
        try:
            assert len(Router.load(file).languages) == 4
        except ValueError as error:
            assert "router.safetensors is not a router" in str(error)
            n_refused += 1
    assert n_refused > 50


@pytest.mark.parametrize("content", [b"hello, this is a text file\n", b"{}", b"\x00" * 64, json.dumps({"languages": "en,fr"}).encode(),
                                     *(np.random.default_rng(seed).bytes(size) for seed, size in enumerate((1, 8, 100, 5_000)))])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    refused(tmp_path / "notes.txt")


def test_nothing_in_a_pickle_file_is_run(tmp_path):
    # "call os.system", in both the text and the binary protocol, written by hand
    command = f"touch {tmp_path}/ran"
    by_text = f"cos\nsystem\n(S'{command}'\ntR.".encode()
    binary = b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(command)) + command.encode() + b"\x85R."
    for content in (by_text, binary):
        (tmp_path / "router.safetensors").write_bytes(content)
        refused(tmp_path / "router.safetensors")
        assert not (tmp_path / "ran").exists()


WEIGHT, BIAS = torch.zeros(9, 2), torch.zeros(2)
GOOD = {"kind": "mome-router", "languages": ["en", "fr"], "tokenizer_sha256": ""}


def write_router(path, tensors=None, **metadata):
    save_file({"weight": WEIGHT, "bias": BIAS} if tensors is None else tensors, path, metadata=metadata or None)
    return path


def test_the_file_that_the_next_tests_spoil_is_a_router(tmp_path):
    assert Router.load(write_router(tmp_path / "other.safetensors", router=json.dumps(GOOD))).languages == ["en", "fr"]


@pytest.mark.parametrize("tensors", [
    {"weight": WEIGHT}, {"bias": BIAS}, {}, {"wte.weight": torch.zeros(9, 4)}, {"weight": WEIGHT, "bias": BIAS, "wte.weight": torch.zeros(3)},
    *({"weight": weight, "bias": BIAS} for weight in (torch.tensor(1.0), torch.zeros(9), torch.zeros(9, 2, 1), torch.zeros(9, 3), torch.zeros(9, 0),
                                                      torch.zeros(10**12, 0), torch.zeros(2, 9))),
    *({"weight": WEIGHT, "bias": bias} for bias in (torch.zeros(3), torch.zeros(1), torch.tensor(0.0), torch.zeros(2, 1))),
    *({"weight": WEIGHT.to(dtype), "bias": BIAS.to(dtype)} for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)),
    {"weight": WEIGHT, "bias": BIAS.double()},
    *({"weight": WEIGHT + value, "bias": BIAS} for value in (torch.nan, torch.inf, -torch.inf)), {"weight": WEIGHT, "bias": BIAS + torch.nan}])
def test_weights_that_are_not_a_routers_are_refused_by_name(tmp_path, tensors):
    refused(write_router(tmp_path / "other.safetensors", tensors, router=json.dumps(GOOD)))


@pytest.mark.parametrize("metadata", [
    {}, {"format": "pt"}, {"languages": "en,fr"}, *({"router": text} for text in ("", "en,fr", "{", "[]", "3", "null", '"en"', "NaN", "[" * 100_000, "{}"))])
def test_a_header_that_is_missing_or_malformed_is_refused_by_name(tmp_path, metadata):
    refused(write_router(tmp_path / "other.safetensors", **metadata))


@pytest.mark.parametrize("name", list(GOOD))
def test_a_header_that_lacks_a_name_is_refused_by_name(tmp_path, name):
    about = {key: value for key, value in GOOD.items() if key != name}
    refused(write_router(tmp_path / "other.safetensors", router=json.dumps(about)))


@pytest.mark.parametrize("change", [
    {"kind": "router"}, {"kind": None}, {"kind": ["mome-router"]}, *({"tokenizer_sha256": value} for value in (None, 3, ["a"], {})),
    *({"languages": value} for value in ("en", "en,fr", None, 2, {"en": 0, "fr": 1}, [], ["en"], ["en", "fr", "de"], ["en", "en"], ["en", 1], [None, "fr"],
                                         [["en"], ["fr"]]))])
def test_a_header_of_wrong_types_or_languages_is_refused_by_name(tmp_path, change):
    refused(write_router(tmp_path / "other.safetensors", router=json.dumps(GOOD | change)))


def test_no_languages_are_refused_even_where_the_weights_agree(tmp_path):
    tensors = {"weight": torch.zeros(9, 0), "bias": torch.zeros(0)}
    refused(write_router(tmp_path / "other.safetensors", tensors, router=json.dumps(GOOD | {"languages": []})))


def test_a_router_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        Router.load(tmp_path / "router.safetensors")


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "neural_net", "multinomial_nb"])
def test_a_pipeline_round_trips_through_skops_without_trusting_anything(data, tmp_path, name):
    skops = pytest.importorskip("skops.io")
    pipeline = make_classifier(name, 700).fit(*sample_rows(data, "train", 20))
    routing.save_skops(pipeline, tmp_path / "router.skops")
    untrusted = skops.get_untrusted_types(file=tmp_path / "router.skops")
    assert not [kind for kind in untrusted if not kind.startswith("sklearn.")]
    again, rows = skops.load(tmp_path / "router.skops", trusted=untrusted), data.rows("validation")
    assert_near(again.predict_proba(count_tokens(rows, 700)), pipeline.predict_proba(rows), atol=1e-9)


def test_without_skops_the_export_says_what_to_install(fitted, monkeypatch, tmp_path):
    for name in ("skops", "skops.io"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install skops"):
        routing.save_skops(fitted[1], tmp_path / "router.skops")
    assert not list(tmp_path.glob("*.skops"))


# The paper's pipeline

def test_ids_are_spelled_without_special_tokens():
    assert routing.spell_rows(np.array([[1, 5, 12, 345, 2, 0], [0, 0, 0, 0, 0, 0]], dtype=np.uint16)) == ["5 12 345", ""]


def test_the_papers_pipeline_drops_special_tokens_and_ids_of_one_digit():
    rows = np.array([[1, 5, 12, 33, 2, 0], [1, 9, 40, 40, 3, 2]], dtype=np.uint16)
    pipeline = make_classifier("paper_pipeline", 50).fit(rows, [0, 1])
    assert sorted(pipeline[1].vocabulary_) == ["12", "33", "40"]
    assert_near(pipeline.decision_function(np.array([[12, 12, 40, 5, 7, 1]])), pipeline.decision_function(np.array([[12, 12, 40, 2, 0, 9]])), atol=1e-12)


@pytest.mark.parametrize("rows_per_language", [2, 60])
@pytest.mark.parametrize("n_languages", [2, 4])
def test_respelled_the_papers_pipeline_gives_identical_labels_on_every_row(data, two, n_languages, rows_per_language):
    data = two[0] if n_languages == 2 else data
    train_rows, labels = sample_rows(data, "train", rows_per_language)
    original = make_classifier("paper_pipeline", 700).fit(train_rows, labels)
    counts = routing.respell(original, 700)
    padded = data.rows("validation") * (np.arange(64) < 20).astype(np.uint16)
    never_seen = np.setdiff1d(np.arange(700), train_rows)
    strange = np.random.default_rng(0).choice(never_seen, (20, 64))
    strange[:10, ::2] = train_rows[np.arange(10) % len(train_rows), ::2]
    empty = np.zeros((3, 64), dtype=np.uint16)
    assert len(never_seen) > 20
    for rows in (*(data.rows(split) for split in SPLITS), data.rows("test")[:, :1], padded, strange, empty, empty[:, :0]):
        assert np.array_equal(counts.predict(rows), original.predict(rows))
        assert_near(counts.decision_function(rows), original.decision_function(rows), atol=1e-9)
        assert_near(counts.predict_proba(rows), original.predict_proba(rows), atol=1e-9)


# Comparing classifiers

@pytest.fixture(scope="module")
def compared(data):
    return benchmark(data, list(CLASSIFIERS), 60, [8, 1_000])


@pytest.fixture(scope="module")
def fitted_classifiers(data):
    return {name: make_classifier(name, 700).fit(*sample_rows(data, "train", 60)) for name in CLASSIFIERS}


def test_every_classifier_is_scored_on_every_prefix_and_on_whole_sequences(data, compared):
    scores, _ = compared
    assert list(zip(scores.classifier, scores.prefix, strict=True)) == [(name, length) for name in CLASSIFIERS for length in (8, 64)]
    assert (scores.whole_sequence == (scores.prefix == 64)).all()
    assert (scores.n_sequences == len(data.rows("validation"))).all()
    assert (scores[["fit_seconds", "sequences_per_second", "stored_bytes"]] > 0).all(axis=None)


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


def test_predictions_have_a_line_for_every_classifier_prefix_and_sequence(data, compared):
    _, predictions = compared
    assert list(predictions) == ["classifier", "prefix", "article_id", "row", "label", "predicted", "confidence"]
    assert predictions.groupby(["classifier", "prefix"], sort=False).ngroups == 2 * len(CLASSIFIERS)
    for _, group in predictions.groupby(["classifier", "prefix"]):
        assert group.row.tolist() == list(range(len(data.rows("validation"))))
        assert group.article_id.tolist() == list(data.dataset["validation"]["article_id"])
        assert group.label.tolist() == data.language_index("validation").tolist()


def test_scores_are_those_of_the_predictions(compared):
    scores, predictions = compared
    for (name, prefix), group in predictions.groupby(["classifier", "prefix"]):
        expected = precision_recall_fscore_support(group.label, group.predicted, average="weighted", zero_division=0)[:3]
        line = scores[(scores.classifier == name) & (scores.prefix == prefix)]
        assert line[["precision", "recall", "f1"]].to_numpy().ravel() == pytest.approx(expected), (name, prefix)


def test_predictions_and_confidences_are_the_classifiers_own(data, compared, fitted_classifiers):
    scores, predictions = compared
    rows = data.rows("validation")
    for (name, prefix), group in predictions.groupby(["classifier", "prefix"]):
        classifier = fitted_classifiers[name]
        assert np.array_equal(group.predicted, classifier.predict(rows[:, :prefix])), name
        if name == "linear_svm":
            assert group.confidence.isna().all()
        else:
            assert_near(group.confidence.tolist(), classifier.predict_proba(rows[:, :prefix]).max(axis=1), atol=1e-9)
            assert group.confidence.between(0.25 - 1e-9, 1).all()
    stored = scores.groupby("classifier").stored_bytes.first()
    assert stored.to_dict() == {name: count_bytes(classifier) for name, classifier in fitted_classifiers.items()}
    assert stored.idxmin() == "majority"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_reads_empty_and_padded_rows(fitted_classifiers, name):
    rows = np.zeros((3, 64), dtype=np.uint16)
    rows[1, :4] = [1, 50, 60, 2]
    assert np.isin(fitted_classifiers[name].predict(rows), range(4)).all()


def test_the_workbooks_classifier_in_the_table_is_the_router_itself(data):
    _, predictions = benchmark(data, ["logistic_regression"], 100, [])
    router, _ = fit_router(data, 100)
    assert predictions.predicted.tolist() == router.route(data.rows("validation")).tolist()
    assert_near(predictions.confidence.tolist(), router(validation_ids(data)).max(dim=1).values, atol=1e-5)


def test_an_unknown_classifier_is_refused_with_the_known_ones_before_any_is_fitted(data, monkeypatch):
    monkeypatch.setattr(routing, "make_classifier", lambda *_: pytest.fail("a classifier was made"))
    with pytest.raises(ValueError, match=r"classifier='forest'.*majority.*logistic_regression"):
        benchmark(data, ["majority", "forest"], 10, [8])


def test_make_classifier_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"classifier='forest'.*majority.*logistic_regression"):
        make_classifier("forest", 700)


@pytest.mark.parametrize("prefix", [-5, 0])
def test_a_prefix_is_at_least_one_token(data, prefix):
    with pytest.raises(ValueError, match=f"prefix.*{prefix}"):
        benchmark(data, ["majority"], 10, [prefix])


# What a classifier stores

def learned_bytes(estimator, *training) -> int:
    before = count_bytes(estimator)
    return count_bytes(estimator.fit(*training)) - before


def test_dense_and_sparse_arrays_texts_and_containers_are_counted_by_hand():
    dense, sparse = np.zeros((3, 4)), csr_matrix(np.eye(3))
    assert count_bytes(dense) == 96
    assert count_bytes(sparse) == 3 * 8 + sparse.indices.nbytes + sparse.indptr.nbytes
    assert count_bytes({"ab": 1, "é": 2}) == 4
    assert count_bytes([dense, (dense, np.zeros(2, dtype=np.float32))]) == 96 + 8
    assert count_bytes(np.array(["abc", "de"], dtype=object)) == 5


def test_naive_bayes_stores_its_tables():
    # two classes, three tokens: counts and log probabilities of both, and the labels
    assert learned_bytes(MultinomialNB(), csr_matrix([[1, 0, 2], [0, 3, 1]]), [0, 1]) == 2 * (2 * 3 * 8) + 3 * 2 * 8


def test_a_vectorizer_stores_its_words_and_their_weights():
    assert learned_bytes(TfidfVectorizer(), ["12 345", "12 6789"]) == len("12" "345" "6789") + 3 * 8


def test_a_tree_stores_its_nodes_and_a_forest_grows_with_its_trees():
    features, labels = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 2
    tree = DecisionTreeClassifier(random_state=0)
    nodes = tree.fit(features, labels).tree_.__getstate__()
    assert count_bytes(tree) - count_bytes(DecisionTreeClassifier(random_state=0)) == nodes["nodes"].nbytes + nodes["values"].nbytes + 2 * 8
    few, many = (learned_bytes(RandomForestClassifier(n, random_state=0), features, labels) for n in (5, 20))
    assert 3 * few < many < 5 * few


# What the router learned

def test_the_strongest_tokens_are_sorted_and_ranked_for_each_language(data, router):
    table = routing.strongest_tokens(router, data.tokenizer, 12)
    assert table.groupby("language", sort=False)["rank"].agg(list).to_dict() == {language: list(range(1, 13)) for language in LANGUAGES}
    assert all(group.weight.is_monotonic_decreasing for _, group in table.groupby("language"))
    assert (table.weight > 0).all()


def test_the_strongest_token_has_the_largest_weight_over_the_mean():
    router = Router(6, ["en", "fr"])
    router.weight.copy_(torch.tensor([[0.0, 0], [0, 0], [0, 0], [4, 0], [5, 5], [0, 2]]))
    tokenizer = type("Tokenizer", (), {"decode": staticmethod(lambda ids: f"t{ids[0]}")})()
    # over the mean of the two languages, token 3 weighs 2 and -2, token 4 nothing, token 5 -1 and 1
    assert routing.strongest_tokens(router, tokenizer, 1).to_dict("records") == [
        {"language": "en", "rank": 1, "token": "t3", "weight": 2.0}, {"language": "fr", "rank": 1, "token": "t5", "weight": 1.0}]


def test_adding_the_strongest_token_of_a_language_speaks_for_it(data, router):
    centred = router.weight - router.weight.mean(dim=1, keepdim=True)
    row = validation_ids(data)[:1]
    for column in range(4):
        added = torch.cat([row, centred[:, column].argmax().reshape(1, 1)], dim=1)
        before, after = router(row).log()[0], router(added).log()[0]
        assert (after - before)[column] - (after - before).mean() > 0


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_settings_of_a_classifier_read_the_same_in_every_process(name):
    described = routing.describe_classifier(name)
    assert described
    assert not any("0x" in step for step in described)


def test_a_router_abstains_below_the_threshold_and_nowhere_else(data, router):
    rows = data.rows("validation")
    probs = router(ids(rows)).max(dim=1)
    for threshold in (0.0, 0.5, float(probs.values.median()), 1.0):
        expected = np.where(probs.values.numpy() >= threshold, probs.indices.numpy(), -1)
        assert (router.route(rows, threshold=threshold) == expected).all()
    assert (router.route(rows) >= 0).all()
    with pytest.raises(ValueError, match=r"threshold=1\.5"):
        router.route(rows, threshold=1.5)
