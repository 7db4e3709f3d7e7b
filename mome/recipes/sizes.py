"""The sizes that drawings tell: of a scale's data, teacher, targets, students and modular models."""

from mome.recipes.modular import ANCESTOR_SHARE, EMBEDDING_SHARE
from mome.scales import Scale, Shape


def tell_sizes(scale: Scale, languages: list[str]) -> dict:
    """Return plain numbers of a scale, as `mome.figures.drawings` takes them: tokens, weights, shapes.

    Tokens are of each language, the teacher's of all together. `embedding_share` and `ancestor_share` are
    parts of a language's tokens, of PLE.
    """
    def tell(shape: Shape) -> dict:
        return {"n_layer": shape.n_layer, "n_embd": shape.n_embd,
                "weights": shape.weights(scale.vocab_size, scale.context)}

    return {"languages": list(languages), "vocab_size": scale.vocab_size, "context": scale.context,
            "tokens_per_language": scale.tokens_per_language, "targets_per_token": scale.targets_per_token,
            "teacher_tokens": scale.teacher_steps * scale.teacher_batches * scale.tokens_per_step,
            "student_tokens": scale.student_steps * scale.tokens_per_step,
            "teacher": tell(scale.teacher), "student": tell(scale.student), "expert": tell(scale.expert),
            "body_weights": scale.expert.weights(0, scale.context),
            "embedding_share": EMBEDDING_SHARE, "ancestor_share": ANCESTOR_SHARE}
