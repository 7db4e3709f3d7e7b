from mome import bench, recipes
from mome.config import resolve_scale
from tests.conftest import TINY


def test_every_way_to_distil_is_timed_against_hard_labels_and_against_the_cache():
    scale = resolve_scale("smoke", TINY)
    table = bench.time_kd(scale, 4 * scale.context, repeats=2).set_index("way")
    assert len(table) == 6
    assert table.times_ce[recipes.HARD_LABELS] == table.times_cached["KD, cached"] == 1
    assert (table[["times_ce", "times_cached", "milliseconds"]] > 0).all(axis=None)
    assert table.bytes_per_token.between(4 * scale.targets_per_token + 4, 4 * scale.targets_per_token + 12).all()  # and the files' headers
    assert (table.vocab_size == scale.vocab_size).all()
