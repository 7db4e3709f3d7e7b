from mome.models.gpt2 import count_parameters


def test_a_saved_model_states_its_languages_sizes_head_and_tokenizer_on_a_card(tmp_path, build):
    model = build(has_common_expert=True)
    model.save_pretrained(tmp_path)
    card, body = (tmp_path / "README.md").read_text(), count_parameters(model.common_expert)
    assert "en, fr, de, py" in card
    assert "4 GPT-2 bodies and a common expert" in card
    assert f"{count_parameters(model):,}; {model.active_parameters():,} of them active" in card
    assert model.active_parameters() == count_parameters(model) - 3 * body
    assert "import mome.models\n" in card
    assert "{" not in card
    model = build(tie=False)
    model.config.tokenizer_sha256 = "a" * 64
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "| head | with weights of its own |" in card
    assert f"`{'a' * 64}`" in card
    assert "common expert behind" not in card
