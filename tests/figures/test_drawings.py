"""Drawings: what they say is what recipes do, at any scale and for any languages."""

from types import SimpleNamespace

import pandas as pd
import pytest

from mome.figures import drawings, trainings
from mome.figures.canvas import tell_number
from mome.models.assemble import build_moe
from mome.models.gpt2 import gpt2_config
from mome.recipes.forgetting import FIRST_STAGES, MODULAR_STAGES, ModularStage
from mome.recipes.modular import MOE_VARIANTS
from mome.recipes.sizes import tell_sizes
from mome.runs.drawing import describe_plot, draw_plot
from mome.scales import SCALES, Shape

MANY = ["en", "fr", "de", "py", "es", "it", "pt"]


def texts_of(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def draw(plot, *arguments):
    """Draw from what would be kept: sizes are plain."""
    return draw_plot(describe_plot(plot, arguments, {}))


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_story_tells_the_sizes_of_its_scale(scale):
    said = " ".join(texts_of(draw(drawings.plot_story, tell_sizes(scale, ["en", "py"])))).replace("\n", " ")
    weights = scale.teacher.weights(scale.vocab_size, scale.context), scale.expert.weights(0, scale.context)
    for number in (scale.tokens_per_language, scale.student_steps * scale.tokens_per_step, *weights):
        assert tell_number(number) in said
    assert f"{scale.student.n_layer} x {scale.student.n_embd}," in said
    assert f"{scale.targets_per_token} tokens" in said


@pytest.mark.parametrize("languages", [MANY[:2], MANY], ids=len)
def test_drawings_hold_any_languages_and_every_variant(languages):
    sizes = tell_sizes(SCALES["smoke"], languages)
    said = texts_of(draw(trainings.plot_variants, sizes))
    assert {*MOE_VARIANTS, *languages, "100 %"} <= {*said}
    assert {*languages} <= {*texts_of(draw(drawings.plot_token_level, sizes))}
    last = texts_of(draw(trainings.plot_stages, sizes, languages, 0.1))
    assert "replay 10 %" in last
    assert sum(text.startswith("stage ") for text in last) == len(languages)


@pytest.mark.parametrize("variant", MODULAR_STAGES)
def test_what_a_stage_is_drawn_to_train_is_what_its_recipe_trains(variant, monkeypatch):
    drawn, order = [], ["en", "fr", "py"]
    monkeypatch.setattr(trainings, "put_model", lambda ax, x, y, w, h, *looks: drawn.append(looks))
    trainings.plot_stages(tell_sizes(SCALES["smoke"], order), order)
    drawn = drawn[MODULAR_STAGES.index(variant) * len(order):]
    body = gpt2_config(Shape(1, 1, 4, False), 8, 4)
    for place, language in enumerate(order):
        model = build_moe(order, body, has_common_expert=variant == "MoE-CE", seed=0)
        stage = SimpleNamespace(language=language, start_from=SimpleNamespace(open=lambda model=model: model),
                                variant=variant if place else FIRST_STAGES.get(variant, variant))
        parts = dict(ModularStage.make_model(stage).named_children())
        bodies, shared, common = drawn[place]
        for name in order:
            rests = "frozen" if name in order[:place] else "not yet trained"
            assert bodies[name] == ("trained" if learns(parts["experts"][name]) else rests)
        for part in ("embedding", "lm_head"):
            assert shared == ("trained" if learns(parts[part]) else "frozen")
        assert bool(common) == ("common_expert" in parts)


def learns(part):
    return all(weight.requires_grad for weight in part.parameters())


def test_the_dial_mixes_label_and_teacher_by_alpha_and_draws_the_schedules():
    traces = pd.DataFrame({"arm": ["fixed"] * 3 + ["alternating"] * 3, "step": [0, 1, 2] * 2,
                           "alpha": [0.5] * 3 + [1.0, 0.0, 1.0]})
    dial, *bars, lines = draw(drawings.plot_alpha_dial, 0.25, {"a": 0.6, "b": 0.4}, "c", traces).axes
    heights = [[round(bar.get_height(), 6) for bar in ax.patches] for ax in bars]
    assert heights == [[0.6, 0.4, 0], [0.45, 0.3, 0.25], [0, 0, 1]]
    assert [line.get_label() for line in lines.lines] == ["fixed", "alternating"]
    assert len(draw(drawings.plot_alpha_dial, 0.25, {"a": 1.0}, "a").axes) == 4
    assert dial.get_legend() is None


@pytest.mark.parametrize(("value", "said"), [
    (64, "64"), (9_999, "9,999"), (128_000, "128 thousand"), (999_499, "999 thousand"),
    (999_500, "1 million"), (3_379_200, "3.38 million"), (6e9, "6 billion")])
def test_numbers_are_told_with_three_digits(value, said):
    assert tell_number(value) == said
