"""From documents to packed sequences."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from mome import data as packing
from mome.corpus import read_documents
from mome.data import PackedData, align, assign_splits, balance, build_dataset, bytes_per_token, clean, encode, pack, train_tokenizer

LANGUAGES = ["en", "fr", "de", "py"]
NATURAL = ["en", "fr", "de"]
SIZES = {"vocab_size": 600, "context": 32, "tokens_per_language": 15_000, "max_diff_percent": 5.0, "validation_fraction": 0.06, "seed": 42}
TEXTS = ["", "a", "plain words", "  two  spaces, and a trailing one ", "Don't you 've 're , . ! ?", "été, œuvre, Grüße, ¿qué?", "e\u0301 is not \u00e9",
         "emoji 😀👩‍💻 and 漢字", "tabs\tand\r\nlines\n\n\n", "if x:\n\treturn {'a': [1, 2]}  # ok\n", "\x00\x01\x7f\ufeff", "0123456789" * 20]


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture(scope="module")
def documents() -> pd.DataFrame:
    return pd.DataFrame(read_documents("mini", LANGUAGES, 1))


@pytest.fixture(scope="module")
def built(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, build_dataset(documents, folder, **SIZES)


@pytest.fixture(scope="module")
def packed(built) -> PackedData:
    return PackedData(built[0])


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer(documents.text, 700)


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["language", "article_id", "text"])


# Align

def test_alignment_keeps_common_articles_and_all_code():
    kept = align(table(("en", "a", "x"), ("en", "b", "x"), ("fr", "b", "x"), ("fr", "c", "x"), ("py", "a", "x"), ("py", "z", "x")))
    assert list(zip(kept.language, kept.article_id, strict=True)) == [("en", "b"), ("fr", "b"), ("py", "a"), ("py", "z")]
    assert list(kept.index) == [0, 1, 2, 3]


def test_alignment_takes_an_article_that_every_natural_language_has():
    kept = align(table(("en", "a", "x"), ("fr", "a", "x"), ("de", "b", "x"), ("en", "b", "x"), ("fr", "b", "x")))
    assert set(kept.article_id) == {"b"}


def test_alignment_of_code_alone_or_of_one_language_keeps_all():
    for language in ("py", "en"):
        assert len(align(table((language, "a", "x"), (language, "b", "x")))) == 2


def test_a_repeated_article_is_refused_by_name():
    with pytest.raises(ValueError, match="article_id='a' stands more than once in language 'fr'"):
        align(table(("en", "a", "x"), ("fr", "a", "x"), ("fr", "a", "y")))


def test_nothing_in_common_is_refused_with_the_languages():
    with pytest.raises(ValueError, match="no article exists in all of: de, en"):
        align(table(("en", "a", "x"), ("de", "b", "x"), ("py", "a", "x")))


def test_mini_is_aligned_as_it_is(documents):
    pd.testing.assert_frame_equal(align(documents), documents)


# Clean

def test_a_line_that_stood_before_or_was_never_translated_is_dropped():
    cleaned, counts = clean(table(("en", "b", "menu\nbread\nbread"), ("en", "a", "menu\napple\n\n"), ("en", "c", "menu\napple"), ("fr", "a", "menu\npomme")))
    assert cleaned.set_index(["language", "article_id"]).text.to_dict() == {("en", "a"): "apple", ("en", "b"): "bread", ("fr", "a"): "pomme"}
    # en: menu and the second bread of b, both lines of c are repeated, the first menu stands in French too; line ends count as characters
    assert counts.set_index("language").loc["en"].to_dict() == {
        "articles_before": 3, "articles_after": 2, "characters_before": 38, "characters_after": 10, "repeated_lines": 4, "untranslated_lines": 1}
    assert counts.set_index("language").loc["fr", ["repeated_lines", "untranslated_lines"]].tolist() == [0, 1]


def test_code_keeps_its_lines_and_loses_equal_files():
    code = "import os\n\nimport os\n"
    cleaned, counts = clean(table(("py", "b", code), ("py", "a", code), ("py", "c", "import os\n")))
    assert cleaned.set_index("article_id").text.to_dict() == {"a": code, "c": "import os\n"}
    assert counts.repeated_lines.tolist() == [0]


def test_cleaning_twice_removes_nothing_more(documents):
    once, _ = clean(documents)
    twice, counts = clean(once)
    pd.testing.assert_frame_equal(once, twice)
    assert (counts.characters_before == counts.characters_after).all()


def test_after_cleaning_no_natural_line_stands_twice(documents):
    cleaned, _ = clean(documents)
    for language in NATURAL:
        lines = [line for text in cleaned.text[cleaned.language == language] for line in text.split("\n")]
        assert len(lines) == len(set(lines)) > 64


# Split

def splits_of(names, seed, fraction):
    return assign_splits(pd.DataFrame({"language": "en", "article_id": names}), seed, fraction)


def test_the_split_depends_on_article_and_seed_only():
    names = [f"article {number}" for number in range(300)]
    first = splits_of(names, 0, 0.1)
    assert splits_of(names[::-1], 0, 0.1) == first[::-1]
    assert first != splits_of(names, 1, 0.1)


def test_a_split_holds_at_least_one_article_of_natural_text_and_of_code():
    documents = pd.DataFrame({"language": ["en", "fr"] * 3 + ["py"] * 3, "article_id": ["a", "a", "b", "b", "c", "c", "a", "x", "y"]})
    documents["split"] = assign_splits(documents, 0, 0.001)
    assert documents.groupby("language").split.agg(set).tolist() == [{"train", "validation", "test"}] * 3


def test_the_splits_have_about_the_sizes_that_were_asked_for():
    splits = pd.Series(splits_of([f"article {number}" for number in range(5_000)], 7, 0.1))
    # a share of 0.1 has a standard deviation of 0.0042 over 5000 articles; the hash is fixed, so this never wavers
    assert splits.value_counts(normalize=True).to_dict() == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.02)


def test_a_larger_fraction_only_adds_to_validation():
    names = [f"article {number}" for number in range(500)]
    small, large = ({name for name, split in zip(names, splits_of(names, 0, fraction), strict=True) if split == "validation"} for fraction in (0.05, 0.2))
    assert small < large


# Tokenize

@pytest.mark.parametrize("text", TEXTS)
def test_every_text_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_the_tokens_sum_to_the_bytes_of_the_text(tokenizer, text):
    assert bytes_per_token(tokenizer)[tokenizer(text, add_special_tokens=False)["input_ids"]].sum() == len(text.encode())


def test_every_document_of_mini_round_trips_between_its_begin_and_end(tokenizer, documents):
    for text, ids in zip(documents.text, encode(documents, tokenizer), strict=True):
        assert (ids[0], ids[-1]) == (1, 2)
        assert tokenizer.decode(ids[1:-1]) == text


def test_the_special_tokens_are_pad_0_begin_1_end_2_and_stand_for_no_bytes(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    sizes = bytes_per_token(tokenizer)
    assert sizes.shape == (700,)
    assert (sizes == 0).nonzero()[0].tolist() == [0, 1, 2]


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = packing.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert again(text, add_special_tokens=False)["input_ids"] == ids
        assert again.decode(ids) == text
    assert (bytes_per_token(again) == bytes_per_token(tokenizer)).all()


def test_a_tokenizer_has_exactly_the_size_asked_for(tokenizer):
    assert len(tokenizer) == 700


def test_a_vocabulary_larger_than_the_text_supports_is_refused_with_the_largest():
    # 3 special tokens, 256 bytes, and the merges ab, abc
    with pytest.raises(ValueError, match=r"vocab_size=300 .* at most 261"):
        train_tokenizer(["abc"] * 3, 300)


def test_the_vocabulary_is_learned_from_equal_parts_of_each_language():
    texts = list(packing.equal_text(table(("en", "a", "x" * 50), ("en", "b", "x" * 50), ("fr", "a", "y" * 30), ("fr", "b", "y" * 200)), 80, 0))
    assert ("".join(texts).count("x"), "".join(texts).count("y")) == (80, 80)


# Balance

def sizes_of(generator, **articles) -> pd.DataFrame:
    return pd.DataFrame([(language, f"a{number}", int(size)) for language, count in articles.items()
                         for number, size in enumerate(generator.integers(20, 60, count))], columns=["language", "article_id", "n_tokens"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [2_000, 10**9])
def test_balance_keeps_languages_within_the_bound_and_the_budget(seed, budget):
    n_tokens = sizes_of(np.random.default_rng(seed), en=300, fr=200, py=120)
    totals = n_tokens[balance(n_tokens, budget, 5.0, seed)].groupby("language").n_tokens.sum()
    assert totals.max() <= min(budget, n_tokens.groupby("language").n_tokens.sum().min())
    assert 100 * (totals.max() - totals.min()) / totals.max() <= 5.0


def test_balance_keeps_all_of_the_poorest_language():
    n_tokens = sizes_of(np.random.default_rng(0), en=300, fr=100)
    assert balance(n_tokens, 10**9, 5.0, 0)[n_tokens.language == "fr"].all()


def test_balance_is_deterministic_and_changes_with_the_seed():
    n_tokens = sizes_of(np.random.default_rng(0), en=300, fr=200)
    first = balance(n_tokens, 3_000, 5.0, 0)
    assert (balance(n_tokens, 3_000, 5.0, 0) == first).all()
    assert (balance(n_tokens, 3_000, 5.0, 1) != first).any()


def test_balance_does_not_depend_on_the_order_of_the_documents():
    n_tokens = sizes_of(np.random.default_rng(0), en=300, fr=200)
    shuffled = n_tokens.sample(frac=1, random_state=1)
    keys = ["language", "article_id"]
    kept, kept_shuffled = n_tokens[balance(n_tokens, 3_000, 5.0, 0)], shuffled[balance(shuffled, 3_000, 5.0, 0)]
    assert set(kept[keys].itertuples(index=False)) == set(kept_shuffled[keys].itertuples(index=False))


def test_a_language_keeps_the_same_articles_whoever_stands_beside_it():
    n_tokens = sizes_of(np.random.default_rng(0), en=300, fr=200)
    alone = n_tokens[n_tokens.language == "fr"]
    assert (balance(n_tokens, 3_000, 100, 0)[n_tokens.language == "fr"] == balance(alone, 3_000, 100, 0)).all()


def test_a_balance_that_cannot_be_reached_is_refused_with_its_numbers():
    n_tokens = pd.DataFrame([("en", "a", 100), ("fr", "a", 60), ("en", "b", 45)], columns=["language", "article_id", "n_tokens"])
    # the target is the 60 tokens of fr; of en only the article of 45 fits: 100 * (60 - 45) / 60 = 25 %
    with pytest.raises(ValueError, match=r"max_diff_percent=5 cannot be reached: .* 25\.0 % .*'en': 45.*'fr': 60"):
        balance(n_tokens, 10**9, 5, 0)
    assert balance(n_tokens, 10**9, 25, 0).tolist() == [False, True, True]


# Pack

DOCUMENT_IDS = [[1, 10, 2], [1, 11, 12, 13, 2], [1, 14, 2]]


@pytest.mark.parametrize(("context", "rows", "articles"), [
    (4, [[1, 10, 2, 1], [11, 12, 13, 2]], ["a", "b"]),  # the last 3 tokens fill no row
    (3, [[1, 10, 2], [1, 11, 12], [13, 2, 1]], ["a", "b", "b"]),
    (8, [[1, 10, 2, 1, 11, 12, 13, 2]], ["a"]),
    (11, [[1, 10, 2, 1, 11, 12, 13, 2, 1, 14, 2]], ["a"]),
    (12, [], [])])
def test_documents_lie_end_to_end_and_a_row_is_named_by_where_it_begins(context, rows, articles):
    packed, article_ids = pack(DOCUMENT_IDS, ["a", "b", "c"], context)
    assert (packed.shape, packed.dtype) == ((len(rows), context), np.uint16)
    assert packed.tolist() == rows
    assert article_ids == articles


def test_a_row_that_begins_with_a_document_is_named_by_it():
    assert pack(DOCUMENT_IDS, ["a", "b", "c"], 1)[1] == ["a"] * 3 + ["b"] * 5 + ["c"] * 3


def test_the_largest_token_id_of_the_largest_vocabulary_fits():
    assert pack([[65_535, 0]], ["a"], 2)[0].tolist() == [[65_535, 0]]


# The whole data set

def test_every_split_of_every_language_has_rows(packed, built):
    counts = {split: packed.dataset[split].to_pandas().language.value_counts().to_dict() for split in ("train", "validation", "test")}
    assert all(set(per_language) == set(LANGUAGES) for per_language in counts.values())
    assert built[1]["rows"] == {split: sum(per_language.values()) for split, per_language in counts.items()}


def test_a_language_of_a_split_is_its_kept_documents_end_to_end(packed, built, documents):
    articles = pd.read_parquet(built[0] / "articles.parquet")
    cleaned = align(clean(align(documents))[0])
    pd.testing.assert_frame_equal(articles[["language", "article_id"]], cleaned[["language", "article_id"]])
    ids = encode(cleaned, packed.tokenizer)
    for split in ("train", "validation", "test"):
        for language in LANGUAGES:
            chosen = articles.index[articles.kept & (articles.split == split) & (articles.language == language)]
            expected = [token for row in chosen for token in ids[row]]
            rows = packed.rows(split)[packed.row_numbers(split, language)]
            assert len(rows) == len(expected) // 32 > 0
            assert rows.ravel().tolist() == expected[:rows.size]


def test_an_article_is_in_one_split_in_all_languages(built):
    articles = pd.read_parquet(built[0] / "articles.parquet")
    natural = articles[articles.language.isin(NATURAL)]
    assert (natural.groupby("article_id").split.nunique() == 1).all()
    assert (natural.groupby("article_id").language.nunique() == 3).all()


def test_no_validation_or_test_article_is_in_train(packed):
    ids = {split: set(packed.dataset[split]["article_id"]) for split in packed.dataset}
    assert not ids["train"] & (ids["validation"] | ids["test"])
    assert not ids["validation"] & ids["test"]


def test_the_manifest_counts_what_the_tables_hold(built):
    folder, notes = built
    articles = pd.read_parquet(folder / "articles.parquet")
    sums = articles[articles.kept].groupby(["split", "language"]).n_tokens.sum()
    assert notes["tokens"] == {split: {language: sums[split, language] for language in LANGUAGES} for split in ("train", "validation", "test")}
    assert (notes["languages"], notes["articles_common"]) == (LANGUAGES, 64)
    assert json.loads(json.dumps(notes)) == notes


def test_train_tokens_keep_within_the_budget_and_the_bound(built):
    tokens = built[1]["tokens"]["train"].values()
    assert max(tokens) <= SIZES["tokens_per_language"]
    assert 100 * (max(tokens) - min(tokens)) / max(tokens) <= SIZES["max_diff_percent"]


def test_the_table_of_articles_has_tokens_and_bytes_that_agree(packed, built, documents):
    articles = pd.read_parquet(built[0] / "articles.parquet")
    cleaned = align(clean(align(documents))[0])
    assert articles.n_bytes.tolist() == [len(text.encode()) for text in cleaned.text]
    assert articles.n_tokens.tolist() == [len(row) for row in encode(cleaned, packed.tokenizer)]


def test_packed_data_holds_what_the_dataset_holds(packed):
    for split in ("train", "validation", "test"):
        rows = packed.rows(split)
        assert rows.dtype == np.uint16
        assert rows.tolist() == [list(row) for row in packed.dataset[split]["input_ids"]]
        assert [packed.languages[index] for index in packed.language_index(split)] == list(packed.dataset[split]["language"])
    assert packed.languages == LANGUAGES


def test_row_numbers_are_of_their_language_and_spread_over_the_split(packed):
    numbers = packed.row_numbers("train", "fr")
    assert {packed.dataset["train"]["language"][int(number)] for number in numbers} == {"fr"}
    assert sum(len(packed.row_numbers("train", language)) for language in LANGUAGES) == len(packed.rows("train"))
    some = packed.row_numbers("train", "fr", 5)
    assert (some[0], some[-1], len(set(some))) == (numbers[0], numbers[-1], 5)
    assert set(some) <= set(numbers)
    assert (packed.row_numbers("train", "fr", 10**6) == numbers).all()


def test_the_same_seed_builds_the_same_rows_and_another_seed_others(packed, documents, tmp_path):
    build_dataset(documents, tmp_path / "same", **SIZES)
    build_dataset(documents, tmp_path / "other", **{**SIZES, "seed": 0})
    same, other = PackedData(tmp_path / "same"), PackedData(tmp_path / "other")
    assert all((same.rows(split) == packed.rows(split)).all() for split in ("train", "validation", "test"))
    assert same.tokenizer.get_vocab() == packed.tokenizer.get_vocab()
    assert set(other.dataset["validation"]["article_id"]) != set(packed.dataset["validation"]["article_id"])


def test_a_split_without_an_article_is_refused_by_language_and_split(documents, tmp_path):
    few = documents[(documents.language == "en") & documents.article_id.isin(sorted(documents.article_id)[:2])]
    with pytest.raises(ValueError, match=r"language 'en' has no \w+ article; .*validation_fraction=0\.06"):
        build_dataset(few, tmp_path, **SIZES)


def test_a_context_longer_than_a_split_is_refused_by_language_and_split(documents, tmp_path):
    with pytest.raises(ValueError, match=r"language '\w+' has less than context=8000 tokens in (train|validation)"):
        build_dataset(documents, tmp_path, **{**SIZES, "context": 8_000})


# What is counted on it

class TinyData:
    """Two languages over five tokens, small enough for a hand computation."""

    languages = ("en", "fr")
    _rows = {"train": np.array([[1, 3, 3, 4], [1, 3, 3, 3], [2, 2, 4, 4]]), "validation": np.array([[4, 3, 0], [2, 2, 4]])}  # noqa: RUF012
    _index = {"train": np.array([0, 0, 1]), "validation": np.array([0, 1])}  # noqa: RUF012
    tokenizer = type("Tokenizer", (), {"__len__": lambda self: 5, "decode": lambda self, ids: f"t{ids[0]}"})()

    def rows(self, split):
        return self._rows[split]

    def row_numbers(self, split, language):
        return np.flatnonzero(self._index[split] == self.languages.index(language))


def test_the_unigram_bound_is_the_add_one_model_of_each_language():
    bound = packing.unigram_nats(TinyData())
    # en has counts 0 2 0 5 1, plus one: 1 3 1 6 2 of 13; its targets are 3 and 0, the first token is none
    assert bound["en"] == pytest.approx(-(math.log(6 / 13) + math.log(1 / 13)) / 2)
    # fr has counts 0 0 2 0 2, plus one: 1 1 3 1 3 of 9; its targets are 2 and 4
    assert bound["fr"] == pytest.approx(-math.log(3 / 9))


def test_the_unigram_bound_on_mini_lies_below_the_uniform_model(packed):
    assert all(0 < nats < math.log(600) for nats in packing.unigram_nats(packed).values())


def test_token_counts_count_the_training_rows_of_each_language():
    assert packing.token_counts(TinyData()).tolist() == [[0, 2, 0, 5, 1], [0, 0, 2, 0, 2]]


def test_vocabulary_overlap_is_common_tokens_over_all_tokens():
    # en uses 1 3 4, fr uses 2 4: one of four is common; from a share of 0.2 on, en uses 1 and 3 only
    assert packing.vocabulary_overlap(TinyData()).to_numpy().tolist() == [[1, 0.25], [0.25, 1]]
    assert packing.vocabulary_overlap(TinyData(), 0.2).to_numpy().tolist() == [[1, 0], [0, 1]]


def test_the_most_common_tokens_come_first():
    assert packing.most_common_tokens(TinyData(), "en", 2) == ["t3", "t1"]


# Known faults, each with its smallest example

@pytest.mark.parametrize("text", ["a</s>b", "<s>struck</s>", "<pad>"])
def test_a_special_token_spelled_out_in_a_text_is_text(tokenizer, text):
    ids, = encode(table(("py", "a", text)), tokenizer)
    assert set(ids[1:-1]).isdisjoint({0, 1, 2})
    assert bytes_per_token(tokenizer)[ids].sum() == len(text.encode())


def test_every_document_of_mini_keeps_its_bytes(tokenizer, documents):
    sizes = bytes_per_token(tokenizer)
    assert [int(sizes[ids].sum()) for ids in encode(documents, tokenizer)] == [len(text.encode()) for text in documents.text]


@pytest.mark.parametrize("seed", [2, 4, 10])
def test_mini_can_be_split_with_any_seed(documents, tmp_path, seed):
    build_dataset(documents, tmp_path, **{**SIZES, "seed": seed})
