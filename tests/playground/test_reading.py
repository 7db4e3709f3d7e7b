import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

from mome.evaluate.positions import loss_by_position
from mome.languages import language_name
from mome.playground import reading, writing
from mome.playground.answers import Answer, fit, frame_image, tell_words
from mome.playground.fields import LONGEST_TEXT


def last(answers):
    return answers if isinstance(answers, Answer) else [*answers][-1]


def test_the_router_believes_after_each_token_what_it_says_of_the_text_so_far(model, data):
    text = "Click the button and save the file"
    beliefs, tokens = reading.answer_router(model.router, data.tokenizer)(text).arguments
    assert "".join(tokens) == text
    for n in (1, len(tokens) // 2, len(tokens)):
        ids = data.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, :n]
        np.testing.assert_allclose(beliefs.iloc[n - 1], model.router(ids)[0], atol=1e-6)


def test_a_change_of_mind_is_counted_and_named(data):
    class Fickle:
        languages, weight = ["en", "fr"], torch.zeros(1)

        def running_probs(self, ids):
            first = torch.arange(ids.shape[1]) % 3 == 2
            return torch.stack([~first, first], dim=-1)[None].float()

    ask = reading.answer_router(Fickle(), data.tokenizer)
    words = ask("abcdefgh zyxwvut").words
    n = int(re.search(r"After (\d+) tokens", words)[1])
    turns = [place for place in range(1, n) if (place % 3 == 2) != ((place - 1) % 3 == 2)]
    tokens = ask("abcdefgh zyxwvut").arguments[1]
    told = f"{len(turns)} times, the last one at token {turns[-1] + 1}, {tokens[turns[-1]]!r}."
    assert told in words
    assert "never changed" in ask("a").words


def test_a_picture_of_fewer_tokens_than_are_read_says_so(model, data, monkeypatch):
    monkeypatch.setattr(reading, "DRAWN", 5)
    router, experts = (reading.answer_router(model.router, data.tokenizer),
                       reading.answer_reading(model, data.tokenizer))
    for ask in (router, lambda text: experts(text, "en", True)):
        answer = ask("abcdefgh zyxwvut")
        assert len(answer.arguments[1]) == 5
        assert answer.words.endswith(" The picture shows the first 5 tokens.")
        assert "The picture" not in ask("a").words


def test_bits_per_byte_are_each_experts_loss_on_all_bytes_of_the_text(model, data):
    text = "Cliquez sur le bouton é"
    nats, tokens, bits, routed = reading.answer_reading(model, data.tokenizer)(text, "fr", True).arguments
    ids = torch.tensor([[data.tokenizer.bos_token_id, *data.tokenizer(text)["input_ids"]]])
    for number, name in enumerate(data.languages):
        loss = model(ids, labels=ids, expert_index=torch.tensor([number])).loss.item() * (ids.shape[1] - 1)
        assert math.isclose(bits[name], loss / math.log(2) / len(text.encode()), rel_tol=1e-5)
        assert math.isclose(nats.loc[name].sum(), loss, rel_tol=1e-5)
    assert routed == data.languages[int(model.router.classify([text], data.tokenizer).argmax())]
    assert len(tokens) == ids.shape[1] - 1


def test_without_the_common_expert_another_loss_is_told(model, data):
    ask = reading.answer_reading(model, data.tokenizer)
    assert not np.allclose(ask("save", "en", True).arguments[2], ask("save", "en", False).arguments[2])


def test_the_microscope_weighs_both_losses_by_alpha(model, data):
    class Dense(torch.nn.Module):
        config, device = model.config, model.device

        def __init__(self, number):
            super().__init__()
            self.number = number

        def forward(self, input_ids):
            return model(input_ids, expert_index=torch.tensor([self.number]))

    text, pair = "Click the button", (Dense(0), Dense(1))
    ids = torch.tensor([data.tokenizer.bos_token_id, *data.tokenizer(text)["input_ids"]])
    logits = [each(ids[None]).logits[0].detach() for each in pair]
    right = loss_by_position(*logits, ids, data.tokenizer, 0.5)
    ask = reading.answer_microscope(*pair, data.tokenizer)
    table, _ = ask(text, 0.5).arguments
    pd.testing.assert_frame_equal(table, right[table.columns])
    doubt, n = 100 * right.entropy.sum() / right.kd.sum(), len(right)
    assert f"{100 * right.share.nlargest(3).sum():.0f} % of the loss" in ask(text, 0.5).words
    assert f"({100 * 3 / n:.0f} % of the tokens)" in ask(text, 0.5).words
    assert f"{doubt:.0f} % of the teacher's part is the teacher's own entropy" in ask(text, 0.5).words
    only = ask(text, 1.0).words
    assert f"{100 * right.ce.nlargest(3).sum() / right.ce.sum():.0f} % of the loss" in only
    assert "teacher's own" not in only


def test_the_best_and_the_worst_expert_and_the_price_of_the_route_are_told(model, data):
    for text in ("Click the button", "Klicken Sie auf", "import os", "le bouton"):
        answer = reading.answer_reading(model, data.tokenizer)(text, "en", True)
        _, _, bits, routed = answer.arguments
        said = f"The {language_name(bits.idxmin())} expert reads it best, with {bits.min():.2f} bits per byte"
        assert said in answer.words and f"worst needs {bits.max():.2f}" in answer.words
        price = f"costs {bits[routed] - bits.min():.2f} bits" if routed != bits.idxmin() else "costs nothing"
        assert price in answer.words


def test_a_character_that_is_cut_counts_by_the_bytes_that_are_read(model, data):
    text = "é🦊é" * 30
    nats, tokens, bits, _ = reading.answer_reading(model, data.tokenizer)(text, "en", True).arguments
    n_read = model.config.max_position_embeddings - 1
    ids = data.tokenizer(text)["input_ids"][:n_read]
    n_bytes = data.token_bytes[ids].sum()
    np.testing.assert_allclose(bits * n_bytes * np.log(2), nats.sum(axis=1), rtol=1e-5)
    assert len(tokens) == n_read


@pytest.mark.filterwarnings("error")
def test_any_text_is_answered_in_words_and_shown_as_text(hostile, model, data):
    asks = {"router": lambda text: reading.answer_router(model.router, data.tokenizer)(text),
            "reading": lambda text: reading.answer_reading(model, data.tokenizer)(text, "en", True),
            "writing": lambda text: last(writing.answer_writing(model, data.tokenizer)(
                text, writing.EACH, 0.7, 0.9, 3, 0, True))}
    for name, ask in asks.items():
        answer = ask(hostile)
        page = tell_words(answer.words) + fit(answer.page) + frame_image(answer)
        assert answer.words, name
        assert not re.search(r"<(?!/?(p|div|bdi|span|br|b|img|figure)\b)", page), name
        assert not re.search(r"<img(?! alt=)|onerror=.(?!quot)", page), name
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800]", page), name
        if hostile.strip():
            assert answer.plot, name
        else:
            assert answer == reading.EMPTY, name
        if len(hostile) > LONGEST_TEXT:
            assert "Only the first" in answer.words, name
