"""Measures of learning in stages, on matrices written by hand."""

import numpy as np
import pandas as pd
import pytest
from cases import each

from mome.evaluate.forgetting import (
    backward_transfer,
    forgetting,
    forward_transfer,
    intransigence,
    measure_lost,
    measure_stages,
)

ORDER = ["en", "fr", "de"]
MATRIX = pd.DataFrame([[2.0, 6.0, 7.0], [3.0, 1.0, 6.5], [4.0, 2.5, 1.5]], index=ORDER, columns=ORDER)


def test_forgetting_is_from_the_best_since_learned_transfers_are_mean_changes_intransigence_a_difference():
    assert forgetting(MATRIX).to_dict() == {"en": 2.0, "fr": 1.5}
    improved = MATRIX.copy()
    improved.loc["fr", "en"] = 1.0
    improved.loc["en", "fr"] = 0.1
    assert forgetting(improved).to_dict() == {"en": 3.0, "fr": 1.5}
    baseline = pd.Series(8.0, index=ORDER)
    assert backward_transfer(MATRIX) == pytest.approx(-(2.0 + 1.5) / 2)
    assert forward_transfer(MATRIX, baseline) == pytest.approx((2 + 1.5) / 2)
    assert intransigence(MATRIX, pd.Series({"de": 1.5, "en": 1.0, "fr": 1.5})).to_dict() == {
        "en": 1.0, "fr": -0.5, "de": 0.0}


def test_measures_of_a_sequence_add_up():
    same = pd.Series(5.0, index=ORDER)
    assert measure_stages(MATRIX, untrained=same + 3, unigram=same, reference=same - 4) == pytest.approx({
        "average_score": 8 / 3, "forgetting": 1.75, "backward_transfer": -1.75, "forward_transfer": 3.5 / 2,
        "forward_transfer_unigram": (-1 - 1.5) / 2, "intransigence": (1 + 0 + 0.5) / 3})


def test_what_was_lost_is_the_end_over_or_minus_the_own_stage_in_each_unit():
    table = measure_lost(MATRIX, 0.5 * MATRIX.replace(3.0, 1.0), arm="plain", seed=3)
    assert list(table) == ["arm", "seed", "language", "perplexity_ratio", "nats_lost", "bits_per_byte_lost",
                           "forgetting"]
    assert table.iloc[:, :3].values.tolist() == [["plain", 3, "en"], ["plain", 3, "fr"]]
    assert table.nats_lost.tolist() == [2.0, 1.5]
    assert table.perplexity_ratio.tolist() == pytest.approx(np.exp([2.0, 1.5]))
    assert table.bits_per_byte_lost.tolist() == [1.0, 0.75]
    assert table.forgetting.tolist() == [2.0, 1.5]


@each("matrix", [MATRIX[["fr", "en", "de"]], MATRIX.iloc[:2], MATRIX.iloc[:1, :1]])
def test_a_matrix_whose_rows_and_columns_disagree_is_refused(matrix):
    for measure in (forgetting, backward_transfer, lambda bits: measure_lost(MATRIX, bits)):
        with pytest.raises(ValueError, match="same order"):
            measure(matrix)
