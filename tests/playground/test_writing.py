import copy

import numpy as np
import pandas as pd
import pytest
import torch

from mome.playground import writing
from mome.recipes.data import Data


@pytest.fixture
def prompts(data):
    return torch.from_numpy(data.rows("validation")[:3, :9].astype(np.int64))


def draw(model, prompts, **options):
    return torch.stack([*writing.stream_tokens(model, prompts, 8, **options)], dim=1)


def test_a_stream_of_the_most_probable_tokens_is_what_generate_writes(model, prompts):
    index = torch.tensor([0, 2, 1])
    written = model.generate(prompts, expert_index=index, max_new_tokens=8, do_sample=False,
                             common_expert="off", eos_token_id=None)
    assert torch.equal(draw(model, prompts, expert_index=index, common_expert="off"), written[:, 9:])


def test_a_stream_of_draws_is_what_generate_draws_from_the_same_seed(model, prompts):
    written = []
    for row in prompts:  # each as if it stood alone
        torch.manual_seed(5)
        written.append(model.generate(row[None], max_new_tokens=8, do_sample=True, temperature=0.6, top_p=0.7,
                                      top_k=0, eos_token_id=None)[0, 9:])
    index = model.route(prompts)
    options = {"sampling_temperature": 0.6, "top_p": 0.7, "expert_index": index}
    assert torch.equal(draw(model, prompts, seed=5, **options), torch.stack(written))
    assert not torch.equal(draw(model, prompts, seed=6, **options), torch.stack(written))


def test_a_text_ends_where_its_row_ends_an_article_and_all_end_the_stream(data):
    tokenizer = data.tokenizer
    a, b = tokenizer("ab", add_special_tokens=False)["input_ids"][:1] * 2
    end, left = tokenizer.eos_token_id, []
    steps = [[a, a], [end, b], [b, b], [b, end], [a, a]]
    stream = (left.append(step) or torch.tensor(step) for step in steps)
    texts = [*writing.read_streams(tokenizer, ["en", "fr"], stream)]
    one = tokenizer.decode([a])
    assert texts[-1] == {"en": one, "fr": one * 3}
    assert len(texts) == len(left) == 4


def test_the_routed_expert_writes_what_it_writes_when_it_is_named(model, data):
    ask = writing.answer_writing(model, data.tokenizer)
    routed = data.languages[int(model.router.classify(["Klicken Sie"], data.tokenizer).argmax())]
    first, second = ([*ask("Klicken Sie", name, 0.0, 1.0, 6, 0, True)][-1].arguments[1]
                     for name in (writing.ROUTED, routed))
    assert first == second
    assert list(first) == [routed]


def test_every_step_of_writing_is_told_and_the_last_one_is_the_whole(model, data):
    ask = writing.answer_writing(model, data.tokenizer)
    answers = [*ask("Klicken Sie", writing.EACH, 0.7, 0.9, 6, 0, False)]
    assert len(answers) >= 4
    assert [answer.plot is None for answer in answers] == [True] * (len(answers) - 1) + [False]
    assert answers[-1].page == answers[-2].page


def test_prompts_begin_where_a_held_out_text_begins(data, tiny_setting):
    prompts = writing.find_prompts(data, "validation")
    assert list(prompts) == data.languages
    texts = pd.read_parquet(Data.of(tiny_setting).folder / "documents.parquet")
    for name, prompt in prompts.items():
        rows = data.rows("validation")[data.row_numbers("validation", name)]
        if (rows[:, 0] == data.tokenizer.bos_token_id).any():
            assert any(text.startswith(prompt[:12]) for text in texts[texts.language == name].text), name


def test_what_is_forgotten_is_told_against_the_best_stage_so_far():
    matrix = pd.DataFrame({"en": [2.0, 2.5, 2.25], "fr": [0.5, 1.0, 1.5]}, index=["en", "fr", "de"])
    assert "After English it was 2.00: 0.25 are forgotten" in writing.tell_stage("plain", matrix, 2, "en")
    assert "Nothing of it is forgotten" in writing.tell_stage("plain", matrix, 1, "fr")
    assert "After French it was 1.00: 0.50 are forgotten" in writing.tell_stage("plain", matrix, 2, "fr")
    assert "not been taught yet" in writing.tell_stage("plain", matrix, 0, "fr")


def test_the_common_expert_takes_part_where_it_is_switched_on(model, data):
    ask = writing.answer_writing(model, data.tokenizer)
    on, off = ([*ask("Klicken Sie auf", writing.EACH, 0.0, 1.0, 12, 0, common)][-1]
               for common in (True, False))
    assert on.arguments[1] != off.arguments[1]
    assert ", with the common" in on.words
    assert ", without the common" in off.words


def test_of_a_prompt_beyond_the_context_what_was_read_is_shown(model, data):
    answer = [*writing.answer_writing(model, data.tokenizer)("le bouton " * 99, "fr", 0.0, 1.0, 12, 0)][-1]
    said, _ = answer.arguments
    context = model.config.max_position_embeddings
    assert len(data.tokenizer(said)["input_ids"]) == context - 12 - 1
    assert f"first {context - 13} tokens" in answer.words


def test_the_time_machine_writes_with_the_model_of_the_stage_and_its_language(model, data):
    class Stage:
        def __init__(self, opened):
            self.opened = opened

        def open(self):
            return self.opened

    bits, other = {"plain": pd.DataFrame(1.0, ["en", "fr"], ["en", "fr"])}, copy.deepcopy(model)
    torch.nn.init.normal_(other.lm_head.weight)
    prompts = {"en": "Click", "fr": "Cliquez"}
    ask = writing.answer_stages({"plain": [Stage(other), Stage(model)]}, bits, prompts, data.tokenizer, 5)
    found = {name: [*ask("plain", 2, name)][-1].arguments for name in ("en", "fr")}
    for name, (_, number, language, prompt, text) in found.items():
        ids = torch.tensor([[data.tokenizer.bos_token_id, *data.tokenizer(prompt)["input_ids"]]])
        index = torch.tensor([data.languages.index(name)])
        grown = model.generate(ids, expert_index=index, max_new_tokens=5, do_sample=False)[0, ids.shape[1]:]
        assert (number, language, text) == (1, name, data.tokenizer.decode(grown, skip_special_tokens=True))
