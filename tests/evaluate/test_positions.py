"""The loss of a sequence, token by token."""

import pytest
import torch

from mome.data.tokenizer import N_BYTE_TOKENS, token_text, train_tokenizer
from mome.evaluate.positions import loss_by_position


def test_the_loss_of_every_position_is_its_own_and_the_shares_add_up_to_one():
    tokenizer = train_tokenizer([], N_BYTE_TOKENS)
    input_ids = torch.tensor(tokenizer.encode("a bc"))
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, len(input_ids), len(tokenizer), generator=generator)
    table = loss_by_position(student, teacher, input_ids, tokenizer, alpha=0.3, n_top=2)
    log_q, log_p = torch.log_softmax(student, -1), torch.log_softmax(teacher, -1)
    assert "".join(table.token) == "a bc"[1:]
    assert "".join(table.context) == "a bc"[:-1]
    for row in table.itertuples():
        read, token = row.position - 1, int(input_ids[row.position])
        assert row.ce == pytest.approx(-log_q[read, token].item(), abs=1e-5)
        p = log_p[read].exp()
        assert row.kd == pytest.approx(-(p * log_q[read]).sum().item(), abs=1e-5)  # what training minimises
        assert row.kd - row.entropy == pytest.approx((p * (log_p[read] - log_q[read])).sum().item(), abs=1e-5)
        assert row.teacher_probability == pytest.approx(log_p[read, token].exp().item(), rel=1e-4)
        assert row.student_probability == pytest.approx(log_q[read, token].exp().item(), rel=1e-4)
        for top, logits, log_probs in ((row.student_top, student, log_q), (row.teacher_top, teacher, log_p)):
            best, second = logits[read].topk(2).indices.tolist()
            assert top == ", ".join(f"{token_text(tokenizer, token)!r} {log_probs[read, token].exp():.2f}"
                                    for token in (best, second))
    assert table.share.sum() == pytest.approx(1, abs=1e-5)
    total = (0.3 * table.ce + 0.7 * table.kd).sum()
    assert table.share[0] == pytest.approx((0.3 * table.ce[0] + 0.7 * table.kd[0]) / total, abs=1e-5)
