"""The router as one affine map of token counts, in torch."""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from mome.data.ids import PLAIN, hash_tokenizer
from mome.router import N_SPECIAL
from mome.router.affine import Router
from mome.router.fit import fit_affine, strongest_tokens

LANGUAGES = ["en", "fr", "de", "py"]


@pytest.fixture
def held_out(data, ids) -> torch.Tensor:
    return ids(data.rows("validation"))


# The affine map

@pytest.mark.parametrize("n_languages, split", [(4, "train"), (4, "validation"), (2, "test")])
def test_the_torch_router_equals_scikit_learn(data, fitted, two, ids, n_languages, split, assert_near):
    data, router, pipeline = two if n_languages == 2 else (data, *fitted)
    for prefix in (1, 8, 64):
        rows = data.rows(split)[:, :prefix]
        assert_near(router(ids(rows)), pipeline.predict_proba(rows), atol=1e-5)


def test_router_probs_are_probabilities_and_find_most_rows(data, router, two, ids, assert_near):
    for some, reader in ((data, router), two[:2]):
        probs = reader(ids(some.rows("validation")))
        assert probs.shape == (len(some.rows("validation")), len(some.languages))
        assert (probs >= 0).all()
        assert_near(probs.sum(dim=1), torch.ones(len(probs)), atol=1e-5)
        assert reader.languages == some.languages
        assert (probs.argmax(dim=1).numpy() == some.language_index("validation")).mean() > 0.9


def test_special_tokens_padding_masked_tokens_and_the_order_of_tokens_change_nothing(
        held_out, router, assert_near):
    rows = held_out[(held_out >= N_SPECIAL).all(dim=1)][:8]
    assert len(rows) == 8
    around = torch.cat([torch.full((8, 1), 1), rows, torch.full((8, 1), 2)], dim=1)
    assert_near(router(around), router(rows), atol=1e-5)
    padded = torch.cat([rows, torch.zeros(8, 30, dtype=torch.long)], dim=1)
    assert_near(router(padded), router(rows), atol=1e-5)
    assert_near(router(padded, (torch.arange(94) < 64).long().expand(8, 94)), router(rows), atol=1e-5)
    mask = (torch.arange(64) < 20).long().expand(8, 64)
    assert_near(router(rows, mask), router(rows[:, :20]), atol=1e-5)
    assert not torch.allclose(router(rows, mask), router(rows), atol=1e-3)
    assert_near(router(held_out.flip(1)), router(held_out), atol=1e-5)


def test_without_evidence_only_the_bias_speaks(router, assert_near):
    prior = torch.softmax(router.bias, dim=0)
    assert_near(router(torch.tensor([[0, 1, 2, 0]]))[0], prior, atol=1e-6)
    assert_near(router(torch.zeros(3, 0, dtype=torch.long)), prior.expand(3, 4), atol=1e-6)
    assert router.route(np.zeros((3, 0), dtype=np.uint16)).tolist() == [int(prior.argmax())] * 3


def test_a_mixed_batch_equals_its_rows_one_by_one(data, router, ids, assert_near):
    numbers = np.stack([data.row_numbers("validation", language)[:3] for language in LANGUAGES])
    batch = ids(data.rows("validation")[numbers.T.ravel()])
    assert_near(router(batch), torch.cat([router(row[None]) for row in batch]), atol=1e-6)
    assert router(batch).argmax(dim=1).unique().numel() > 1


def test_the_router_is_not_trained_further(router):
    assert not any(parameter.requires_grad for parameter in router.parameters())


def test_fitting_again_gives_the_same_router(data, router):
    again, _ = fit_affine(data, 100)
    assert torch.equal(again.weight, router.weight)
    assert torch.equal(again.bias, router.bias)


def test_languages_of_added_data_follow_those_of_the_first_and_one_twice_or_of_other_tokens_is_refused(
        pack, two, data):
    first, before, _ = two
    added = pack(["de", "py"], tokenizer=first.tokenizer)
    router, _ = fit_affine(first, 100, added=(added,))
    assert router.languages == ["en", "fr", "de", "py"]
    assert router.tokenizer_sha256 == before.tokenizer_sha256
    found = router.route(added.rows("validation"))
    assert (found == added.language_index("validation") + 2).mean() > 0.8
    with pytest.raises(ValueError, match="added data of tokenizer"):
        fit_affine(data, 100, added=(two[0],))
    with pytest.raises(ValueError, match=r"added languages=.* repeat some of en, fr, de, py"):
        fit_affine(data, 100, added=(data,))


def test_some_of_the_languages_are_kept_in_their_proportions(held_out, router, assert_near):
    kept = router.keep(["py", "en"])
    assert (kept.languages, kept.tokenizer_sha256) == (["py", "en"], router.tokenizer_sha256)
    some = router(held_out)[:, [3, 0]].double()
    is_seen = some.sum(dim=1) > 0.01
    assert_near(kept(held_out)[is_seen], (some / some.sum(dim=1, keepdim=True))[is_seen], atol=1e-4)
    with pytest.raises(ValueError, match=r"languages='es' is unknown.*en, fr, de, py"):
        router.keep(["en", "es"])
    with pytest.raises(ValueError, match="leaves none"):
        router.keep([])


# Reading token by token, chunk by chunk, text by text

def test_running_probs_after_every_token_equal_the_router_on_that_prefix_special_tokens_included(
        held_out, router, assert_near):
    rows = held_out[::5]
    running = router.running_probs(rows)
    assert running.shape == (*rows.shape, 4)
    for length in (1, 2, 3, 17, 63, 64):
        assert_near(running[:, length - 1], router(rows[:, :length]), atol=1e-5)
    assert router.running_probs(rows[:3, :0]).shape == (3, 0, 4)
    running = router.running_probs(torch.tensor([[1, 50, 2, 0, 60]]))[0]
    assert_near(running[0], torch.softmax(router.bias, dim=0), atol=1e-6)
    assert torch.equal(running[1], running[2])
    assert torch.equal(running[2], running[3])
    assert not torch.equal(running[3], running[4])


@pytest.mark.parametrize("chunk", [1, 7, 8_192])
def test_routes_are_the_routers_argmax_for_any_chunk_size_and_none_of_no_rows(data, held_out, router, chunk):
    assert router.route(data.rows("validation"), chunk).tolist() == router(held_out).argmax(dim=1).tolist()
    for shape in ((0, 64), (0, 0)):
        routes = router.route(np.zeros(shape, dtype=np.uint16), chunk)
        assert (routes.shape, routes.dtype) == ((0,), np.int64)


def test_a_router_abstains_below_the_threshold_and_nowhere_else(data, held_out, router):
    rows, best = data.rows("validation"), router(held_out).max(dim=1)
    for threshold in (0.0, 0.5, float(best.values.median()), 1.0):
        expected = np.where(best.values.numpy() >= threshold, best.indices.numpy(), -1)
        assert (router.route(rows, threshold=threshold) == expected).all()
    assert (router.route(rows) >= 0).all()
    with pytest.raises(ValueError, match=r"threshold=1\.5"):
        router.route(rows, threshold=1.5)


def exact_probs(router: Router, tokens: list[int]) -> torch.Tensor:
    counts = np.bincount(tokens, minlength=len(router.weight)).astype(float)
    return torch.softmax(torch.from_numpy(counts) @ router.weight.double() + router.bias.double(), dim=0)


def test_an_empty_text_has_the_prior_no_texts_have_nothing_and_a_text_outside_a_list_is_refused(
        data, router, assert_near):
    assert_near(router.classify([""], data.tokenizer)[0], torch.softmax(router.bias, dim=0), atol=1e-6)
    assert router.classify([], data.tokenizer).shape == (0, 4)
    with pytest.raises(ValueError, match=r"texts='Der Mond' is not allowed; give a list"):
        router.classify("Der Mond", data.tokenizer)


TEXTS = ["🦔🌋", "中文的字符", "\x00\ufffd", "</s><pad>", "the cat and the dog"]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_classified_by_its_bytes_even_of_characters_never_seen(data, router, text, assert_near):
    probs = router.classify([text], data.tokenizer)
    tokens = data.tokenizer([text], **PLAIN)["input_ids"][0]
    assert min(tokens) >= N_SPECIAL
    assert probs.dtype == torch.float32
    assert_near(probs[0], exact_probs(router, tokens), atol=1e-6)
    assert_near(probs, router(torch.tensor([tokens])), atol=1e-5)


def test_texts_of_mixed_lengths_equal_themselves_one_by_one(data, router, assert_near):
    texts = ["", "e", "Der Mond scheint in der Nacht.", "def f(x):\n    return x\n" * 50, "",
             "La lune brille la nuit. " * 20, "🦔", ""]
    together = router.classify(texts, data.tokenizer)
    assert together.shape == (8, 4)
    assert_near(together, torch.cat([router.classify([text], data.tokenizer) for text in texts]), atol=1e-6)
    assert [LANGUAGES[together[number].argmax()] for number in (2, 3, 5)] == ["de", "py", "fr"]


def test_a_text_of_a_million_tokens_is_classified_as_counting_in_float64_does(data, router, assert_near):
    rows = [data.rows("train")[data.row_numbers("train", language, 40)].ravel() for language in LANGUAGES]
    some = np.concatenate(rows)
    tokens = np.tile(some, 1_000_000 // len(some) + 1).tolist()
    spell = lambda texts, **_: {"input_ids": [tokens] * len(texts)}  # noqa: E731
    counts = np.bincount(tokens, minlength=700)
    # the second router's evidence cancels out over the whole text, so that every rounding error would show
    level = Router(700, LANGUAGES)
    level.weight.copy_(router.weight - torch.from_numpy(counts / len(tokens)) @ router.weight.double())
    for weights in (router.weight, level.weight):
        reader = Router(700, LANGUAGES)
        reader.load_state_dict({"weight": weights, "bias": router.bias})
        reader.check_tokenizer = lambda tokenizer: None
        probs = reader.classify(["a text"], spell)
        assert probs.isfinite().all()
        assert_near(probs.sum(), 1, atol=1e-5)
        assert_near(probs[0], exact_probs(reader, tokens), atol=1e-3)


# The tokenizer it belongs to

def test_a_router_knows_its_tokenizer_also_read_from_a_folder_and_after_any_use(data, router, tmp_path):
    data.tokenizer.save_pretrained(tmp_path)
    router.check_tokenizer(PreTrainedTokenizerFast.from_pretrained(tmp_path))
    for options in ({"padding": True}, {"truncation": True, "max_length": 3}):
        data.tokenizer(["one", "one two three four"], **options)
        router.check_tokenizer(data.tokenizer)


def test_another_tokenizer_is_refused_by_its_hash_unless_none_is_named_and_then_only_by_its_ids(
        router, other_tokenizer, tmp_path):
    path = tmp_path / "router.safetensors"
    router.save(path)
    found, expected = hash_tokenizer(other_tokenizer)[:12], router.tokenizer_sha256[:12]
    for read in (lambda: router.classify(["text"], other_tokenizer),
                 lambda: router.classify([], other_tokenizer), lambda: Router.load(path, other_tokenizer)):
        with pytest.raises(ValueError, match=f"tokenizer {found} is not the one .*{expected}"):
            read()
    assert Router(300, ["en", "fr"]).classify(["text"], other_tokenizer).tolist() == [[0.5, 0.5]]
    with pytest.raises(ValueError, match=r"not allowed; known are ids from 0 to 9"):
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


def test_a_router_with_any_names_of_languages_round_trips_with_or_without_its_tokenizer(
        data, held_out, router, file, tmp_path):
    for again in (Router.load(file), Router.load(file, data.tokenizer)):
        assert (again.languages, again.tokenizer_sha256) == (router.languages, hash_tokenizer(data.tokenizer))
        assert torch.equal(again.weight, router.weight)
        assert torch.equal(again.bias, router.bias)
        assert torch.equal(again(held_out), router(held_out))
    for languages in (["en", "fr"], ["zh-cn", "ελ, \"x\"", "c++"], ["b", "a"]):
        Router(9, languages, "abc").save(tmp_path / "router.safetensors")
        again = Router.load(tmp_path / "router.safetensors")
        assert (again.languages, again.tokenizer_sha256) == (languages, "abc")


def test_the_file_is_safetensors_with_json_in_its_header(data, file):
    content = file.read_bytes()
    header = json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])
    assert set(header) == {"__metadata__", "weight", "bias"}
    assert json.loads(header["__metadata__"]["router"]) == {
        "kind": "mome-router", "languages": LANGUAGES, "tokenizer_sha256": hash_tokenizer(data.tokenizer)}


def test_a_file_that_is_cut_or_longer_is_refused_by_name_and_one_damaged_in_its_header_unless_it_opens(file):
    content = file.read_bytes()
    for share in (0, 0.0001, 0.01, 0.5, 0.999):
        file.write_bytes(content[:int(len(content) * share)])
        refused(file)
    file.write_bytes(content + b"more")
    refused(file)
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


def test_a_file_of_another_kind_is_refused_by_name_nothing_in_a_pickle_is_run_and_none_is_not_found(tmp_path):
    noise = [np.random.default_rng(size).bytes(size) for size in (1, 8, 100, 5_000)]
    for content in (b"hello, this is a text file\n", b"{}", b"\x00" * 64, b'{"languages": "en,fr"}', *noise):
        (tmp_path / "notes.txt").write_bytes(content)
        refused(tmp_path / "notes.txt")
    # "call os.system", in both the text and the binary protocol, written by hand
    command = f"touch {tmp_path}/ran"
    by_text = f"cos\nsystem\n(S'{command}'\ntR.".encode()
    binary = b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(command)) + command.encode() + b"\x85R."
    for content in (by_text, binary):
        (tmp_path / "router.safetensors").write_bytes(content)
        refused(tmp_path / "router.safetensors")
        assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError):
        Router.load(tmp_path / "absent.safetensors")


WEIGHT, BIAS = torch.zeros(9, 2), torch.zeros(2)
GOOD = {"kind": "mome-router", "languages": ["en", "fr"], "tokenizer_sha256": ""}


def write_router(path, tensors=None, **metadata):
    good = {"weight": WEIGHT, "bias": BIAS}
    save_file(good if tensors is None else tensors, path, metadata=metadata or None)
    return path


def test_weights_that_are_not_a_routers_are_refused_by_name(tmp_path):
    shapes = (torch.tensor(1.0), torch.zeros(9), torch.zeros(9, 2, 1), torch.zeros(9, 3), torch.zeros(9, 0),
              torch.zeros(10**12, 0), torch.zeros(2, 9))
    weights = (*shapes, *(WEIGHT + value for value in (torch.nan, torch.inf, -torch.inf)))
    biases = (torch.zeros(3), torch.zeros(1), torch.tensor(0.0), torch.zeros(2, 1), BIAS.double(), BIAS / 0)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    good = write_router(tmp_path / "good.safetensors", router=json.dumps(GOOD))  # which is spoiled here
    assert Router.load(good).languages == ["en", "fr"]
    for tensors in ({"weight": WEIGHT}, {"bias": BIAS}, {}, {"wte.weight": torch.zeros(9, 4)},
                    {"weight": WEIGHT, "bias": BIAS, "wte.weight": torch.zeros(3)},
                    *({"weight": weight, "bias": BIAS} for weight in weights),
                    *({"weight": WEIGHT, "bias": bias} for bias in biases),
                    *({"weight": WEIGHT.to(kind), "bias": BIAS.to(kind)} for kind in kinds)):
        refused(write_router(tmp_path / "other.safetensors", tensors, router=json.dumps(GOOD)))


def test_a_header_that_is_missing_malformed_incomplete_or_of_wrong_types_is_refused_by_name(tmp_path):
    texts = ("", "en,fr", "{", "[]", "3", "null", '"en"', "NaN", "[" * 100_000, "{}",
             *(json.dumps({key: value for key, value in GOOD.items() if key != name}) for name in GOOD))
    for metadata in ({}, {"format": "pt"}, {"languages": "en,fr"}, *({"router": text} for text in texts)):
        refused(write_router(tmp_path / "other.safetensors", **metadata))
    languages = ("en", "en,fr", None, 2, {"en": 0, "fr": 1}, [], ["en"], ["en", "fr", "de"], ["en", "en"],
                 ["en", 1], [None, "fr"], [["en"], ["fr"]], [1, 2])
    for change in ({"kind": "router"}, {"kind": None}, {"kind": ["mome-router"]},
                   *({"tokenizer_sha256": value} for value in (None, 3, ["a"], {})),
                   *({"languages": value} for value in languages)):
        refused(write_router(tmp_path / "other.safetensors", router=json.dumps(GOOD | change)))
    tensors, about = {"weight": torch.zeros(9, 0), "bias": torch.zeros(0)}, GOOD | {"languages": []}
    refused(write_router(tmp_path / "other.safetensors", tensors, router=json.dumps(about)))


# What the router learned

def test_the_strongest_tokens_are_ranked_for_each_language_and_speak_for_it(data, router, held_out):
    table = strongest_tokens(router, data.tokenizer, 12)
    ranks = table.groupby("language", sort=False)["rank"].agg(list).to_dict()
    assert ranks == {language: list(range(1, 13)) for language in LANGUAGES}
    assert all(group.weight.is_monotonic_decreasing for _, group in table.groupby("language"))
    assert (table.weight > 0).all()
    centred = router.weight - router.weight.mean(dim=1, keepdim=True)
    for column in range(4):
        added = torch.cat([held_out[:1], centred[:, column].argmax().reshape(1, 1)], dim=1)
        gained = router(added).log()[0] - router(held_out[:1]).log()[0]
        assert gained[column] - gained.mean() > 0


def test_the_strongest_token_has_the_largest_weight_over_the_mean():
    router = Router(6, ["en", "fr"])
    router.weight.copy_(torch.tensor([[0.0, 0], [0, 0], [0, 0], [4, 0], [5, 5], [0, 2]]))
    tokenizer = SimpleNamespace(decode=lambda ids: f"t{ids[0]}")
    # over the mean of the two languages, token 3 weighs 2 and -2, token 4 nothing, token 5 -1 and 1
    assert strongest_tokens(router, tokenizer, 1).to_dict("records") == [
        {"language": "en", "rank": 1, "token": "t3", "weight": 2.0},
        {"language": "fr", "rank": 1, "token": "t5", "weight": 1.0}]
