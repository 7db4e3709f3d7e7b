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


def test_routed_models_are_timed_beside_dense_ones_of_their_active_and_total_size():
    training, writing = bench.bench_moe(resolve_scale("smoke", TINY), ["en", "fr", "de", "py"], repeats=1)
    sizes = training.set_index("way").parameters
    assert list(sizes.index) == ["dense, same active", "JEET", "MoE-CE", "dense, same total"]
    assert sizes["dense, same active"] < sizes["JEET"] < sizes["MoE-CE"]
    assert abs(sizes["dense, same total"] / sizes["JEET"] - 1) < 0.3
    assert training["median"][0] == writing.set_index("way")["median"]["JEET"] == 1
    assert (writing["median"] > 0).all()
