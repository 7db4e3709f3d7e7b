import numpy as np
import torch

from mome.models.forwards import dense_logits, expert_forward, told_forward, use_forward
from mome.models.gpt2 import build_gpt2
from mome.scales import Shape


def test_every_forward_gives_the_logits_of_the_model_called_with_its_experts_and_switches(ids, build):
    model = build_gpt2(Shape(1, 2, 16), 60, 24, seed=0).eval()
    assert torch.equal(dense_logits(model, {"input_ids": ids}), model(ids).logits)
    model, language_index = build(), np.array([1, 3, 0, 2, 2, 0, 1, 3])
    batch = {"input_ids": ids, "row_numbers": np.array([7, 2, 4, 3, 0, 5])}
    wanted = model(ids, expert_index=torch.tensor([3, 0, 2, 2, 1, 0])).logits
    assert torch.equal(told_forward(language_index)(model, batch), wanted)
    model, number = build(has_common_expert=True), torch.full((6,), 2)
    for common in ("on", "off"):
        wanted = model(ids, expert_index=number, common_expert=common).logits
        assert torch.equal(expert_forward(2, common_expert=common)(model, {"input_ids": ids}), wanted)
    model, use = build(), {"allowed_experts": ["en", "de"], "average_experts": "logits"}
    assert torch.equal(use_forward(**use)(model, {"input_ids": ids}), model(ids, **use).logits)
