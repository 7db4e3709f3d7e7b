
import numpy as np
import pandas as pd
import pytest
import torch

from mome import modular, recipes
from mome.artifacts import read_manifest
from mome.router import hash_tokenizer
from mome.tokenizer import N_BYTE_TOKENS, train_tokenizer

LANGUAGES = ["en", "fr", "de", "py"]


@pytest.mark.parametrize("variant", modular.MOE_VARIANTS)
def test_every_variant_sees_the_same_tokens_as_the_dense_student(tiny_bench, variant):
    dense = read_manifest(recipes.train_student(tiny_bench, LANGUAGES, seed=0))["notes"]["tokens"]
    notes = read_manifest(modular.train_moe(tiny_bench, variant, seed=0))["notes"]
    assert notes["tokens"] == pytest.approx(dense, rel=0.12)  # whole steps only, and steps are few here
    assert notes["active_parameters"] < notes["parameters"]


def test_frozen_experts_of_ple_are_bit_identical_to_the_experts_trained_apart(tiny_bench):
    moe = modular.load_moe(modular.train_moe(tiny_bench, "PLE", seed=0))
    for language in LANGUAGES:
        expert = recipes.load_gpt2(modular.train_expert(tiny_bench, language, 0, "teacher_ce", 0.5)).transformer.state_dict()
        for name, weight in moe.experts[language].state_dict().items():
            assert torch.equal(weight, expert[name]), name


def test_scores_tell_every_way_of_using_the_common_expert(tiny_bench):
    table = recipes.read_scores(modular.train_moe(tiny_bench, "MoE-CE", seed=0), seed=0)
    assert set(table.use) == {"told", "routed", "routed, common off", "common alone"}
    assert table.groupby("use").language.nunique().eq(4).all()
    values = table.pivot(index="language", columns="use", values="nats_per_token")
    assert (values["told"] - values["common alone"]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["JEET", "MoE-CE"])
def test_every_expert_scores_every_row_and_a_rows_own_expert_as_the_model_told_its_language(tiny_bench, variant):
    table, data = modular.score_experts(tiny_bench, variant, seed=0), tiny_bench.data
    assert list(table) == ["row", "language", "article_id", "n_tokens", "n_bytes", *LANGUAGES]
    validation = data.dataset["validation"][table.row.to_numpy()]
    assert (list(table.language), list(table.article_id)) == (list(validation["language"]), list(validation["article_id"]))
    assert table.row.tolist() == [number for language in LANGUAGES for number in data.row_numbers("validation", language, tiny_bench.scale.evaluation_rows)]
    own = np.array([row[row["language"]] for row in table.to_dict("records")])
    model = modular.load_moe(modular.train_moe(tiny_bench, variant, seed=0)).to(tiny_bench.device)

    def told(model, batch):
        expert_index = torch.from_numpy(data.language_index("validation")[batch["row_numbers"]]).to(tiny_bench.device)
        return model(input_ids=batch["input_ids"], expert_index=expert_index, common_expert="off").logits

    expected = recipes.score(tiny_bench, told, model)
    np.testing.assert_allclose(own, expected.nats, rtol=1e-6)
    assert (table[["n_tokens", "n_bytes"]] == expected[["n_tokens", "n_bytes"]]).all(axis=None)
    assert np.ptp(table[LANGUAGES].to_numpy(), axis=1).min() > 1e-4  # every expert is another


def test_without_a_common_expert_a_rows_own_score_is_the_saved_one_of_the_told_model(tiny_bench):
    table = modular.score_experts(tiny_bench, "JEET", seed=0)
    saved = pd.read_parquet(modular.train_moe(tiny_bench, "JEET", seed=0) / "scores.parquet").query("use == 'told'")
    np.testing.assert_allclose([row[row["language"]] for row in table.to_dict("records")], saved.nats, rtol=1e-6)


def test_experts_scores_are_found_again(tiny_bench, monkeypatch):
    first = modular.score_experts(tiny_bench, "JEET", seed=0)
    monkeypatch.setattr(modular, "load_moe", lambda _: pytest.fail("the experts were scored again"))
    pd.testing.assert_frame_equal(modular.score_experts(tiny_bench, "JEET", seed=0), first)


def test_a_modular_model_keeps_its_tokenizers_hash_and_refuses_another_tokenizer(tiny_bench, tmp_path):
    model = modular.load_moe(modular.train_moe(tiny_bench, "JEET", seed=0))
    model.save_pretrained(tmp_path)
    for again in (model, modular.load_moe(tmp_path)):
        assert again.config.tokenizer_sha256 == again.router.tokenizer_sha256 == hash_tokenizer(tiny_bench.data.tokenizer)
        assert again.router.classify(["Der Mond ist kleiner als die Erde."], tiny_bench.data.tokenizer).shape == (1, 4)
        with pytest.raises(ValueError, match="is not the one that this router was fitted with"):
            again.router.classify(["text"], train_tokenizer([], N_BYTE_TOKENS))


def test_no_artefact_holds_a_pickle(tiny_bench):
    modular.train_moe(tiny_bench, "JEET", seed=0)
    modular.cut_expert(tiny_bench, "JEET", "fr", seed=0)
    endings = {path.suffix for path in tiny_bench.data_path.parent.rglob("*") if path.is_file()}
    assert endings <= {".safetensors", ".json", ".parquet", ".arrow", ".lock", ".jinja", ".md"}
