"""Figures as data: what goes in comes back, and only plots of the workbook are drawn."""

import json

import numpy as np
import pandas as pd
import pytest

from mome.figures.arms import plot_matrix
from mome.runs.drawing import describe_plot, draw_plot, from_json, to_json

TABLE = pd.DataFrame({"arm": ["a", "no", None], "x": [1.5, np.nan, np.inf], "n": [1, 2, 3],
                      "is": [True, False, True]})


@pytest.mark.parametrize("table", [TABLE, TABLE.set_index("arm"), TABLE.iloc[:0], TABLE[["x"]].T,
                                   TABLE.iloc[1:]])
def test_a_table_comes_back_from_json_with_its_index_types_and_missing_values(table):
    back = from_json(json.loads(json.dumps(to_json(table), allow_nan=False)))
    exact = {"check_dtype": len(table) > 0, "check_index_type": "equiv" if len(table) else False}
    pd.testing.assert_frame_equal(back, table, **exact, check_column_type=False)


def test_series_mappings_with_any_keys_and_nested_lists_come_back_and_numbers_keep_six_digits():
    value = {1: [np.float32(0.5), (2, "b")], "t": {"en": np.int64(3)}, 0.25: None, "long": 1.23456789}
    assert from_json(json.loads(json.dumps(to_json(value)))) == {
        1: [0.5, [2, "b"]], "t": {"en": 3}, 0.25: None, "long": 1.23457}
    series = pd.Series([1.0, 2.0], index=["en", "fr"], name="bits")
    pd.testing.assert_series_equal(from_json(to_json(series)), series)


@pytest.mark.parametrize("name", ["os.system", "arms.start_panels", "../x.plot_a", "arms.plot_arms.x", 3])
def test_what_is_no_plot_of_the_workbook_is_not_called(name):
    with pytest.raises(ValueError, match="plot="):
        draw_plot(json.dumps({"plot": name, "arguments": [], "options": {}}))


def test_an_argument_that_is_no_data_is_refused():
    with pytest.raises(ValueError, match="function is not allowed"):
        describe_plot(plot_matrix, (lambda value: value,), {})
