"""Where a sequence's loss comes from, token by token."""

import pandas as pd
import torch

from mome.data.tokenizer import token_text


def loss_by_position(student_logits: torch.Tensor, teacher_logits: torch.Tensor, input_ids: torch.Tensor,
                     tokenizer, alpha: float = 0.5, n_top: int = 3) -> pd.DataFrame:
    """Return a sequence's loss, one line per predicted token of `input_ids` (T,); logits are (T, V).

    Columns: position, context (the token read), token (the one to predict), ce (its nats), kd (teacher CE,
    nats), entropy (the teacher's own, which no student can go below; the rest of kd is forward KL), share
    (alpha * ce + (1 - alpha) * kd over its sum: the shares add up to 1), teacher_probability and
    student_probability of the token, teacher_top and student_top: the `n_top` most probable tokens with their
    probabilities.
    """
    log_q, log_p = (logits[:-1].float().log_softmax(-1) for logits in (student_logits, teacher_logits))
    ce, teacher_ce = (-part.gather(-1, input_ids[1:, None]).squeeze(-1) for part in (log_q, log_p))
    kd, entropy = (-(log_p.exp() * part).sum(-1) for part in (log_q, log_p))
    combined = alpha * ce + (1 - alpha) * kd
    texts = [token_text(tokenizer, token) for token in input_ids.tolist()]
    table = {"position": range(1, len(input_ids)), "context": texts[:-1], "token": texts[1:], "ce": ce.cpu(),
             "kd": kd.cpu(), "entropy": entropy.cpu(), "share": (combined / combined.sum()).cpu(),
             "teacher_probability": (-teacher_ce).exp().cpu(), "student_probability": (-ce).exp().cpu()}
    for name, log_probs in (("teacher_top", log_p), ("student_top", log_q)):
        top = torch.stack(log_probs.exp().topk(n_top), -1).tolist()  # (T - 1, n_top, 2)
        table[name] = [", ".join(f"{token_text(tokenizer, int(t))!r} {p:.2f}" for p, t in row) for row in top]
    return pd.DataFrame(table)
