"""Knowledge distillation: losses, alpha's schedules, cached targets; here, the names of what can be chosen.

alpha weighs the hard-label cross-entropy, 1 - alpha the distillation term.
"""

from mome.checks import check_choice, check_range

IGNORED = -100  # the label of a position without a target
KD_LOSSES = (
    "teacher_ce", "forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "l1_weighted",
)
CACHED_LOSSES = ("teacher_ce", "forward_kl")  # those that need the teacher only where the teacher has mass
MIXTURES = {"jsd": 0.5, "skew_kl": 0.1, "skew_reverse_kl": 0.1}  # of the losses that mix both distributions
MOVING_SCHEDULES = ("linear", "cosine", "dwa", "grad_norm")
ALPHA_SCHEDULES = ("fixed", "adaptive_paper", "alternate", "alternate_micro_batch", *MOVING_SCHEDULES)
ALPHA_WINDOW = 20  # steps that a schedule looks back; a hundredth of the training where that is more
DWA_TEMPERATURE = 2.0  # as in Liu, Johns, Davison 2019
TAILS = ("drawn", "lumped", "dropped")  # the teacher's unlisted mass: shared by draws, one event, left out


def check_kd_options(name: str, temperature: float, mixture: float | None) -> float | None:
    """Return the mixture to use; ValueError for an unknown loss, or an option that it does not allow."""
    check_choice("kd_loss", name, KD_LOSSES)
    check_range("temperature", temperature, 1e-3)
    if name == "l1_weighted" and temperature != 1:
        raise ValueError(f"temperature={temperature!r} is not allowed; {name!r} has temperature 1 only")
    if name not in MIXTURES and mixture is not None:
        raise ValueError(f"mixture={mixture!r} is not allowed; kd_loss={name!r} mixes nothing, "
                         f"only {', '.join(MIXTURES)} do")
    mixture = MIXTURES.get(name) if mixture is None else mixture
    if name in MIXTURES:
        check_range("mixture", mixture, 0, 1 if name == "jsd" else 0.99)
    return mixture


def can_use_cache(name: str | None, temperature: float) -> bool:
    """True when a loss can be computed from cached targets, without running the teacher."""
    return name in CACHED_LOSSES and temperature == 1.0


def check_cached(name: str | None, temperature: float) -> None:
    """Raise ValueError for a loss that cannot be computed from cached targets."""
    if not can_use_cache(name, temperature):
        raise ValueError(f"kd_loss={name!r} at temperature={temperature:g} cannot read cached targets; "
                         "give the teacher instead")
