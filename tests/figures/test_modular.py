"""Figures of modular models."""

import itertools

import pandas as pd
import pytest

from mome.figures import modular


def test_the_switches_have_a_panel_a_variant_and_a_number_for_every_use_and_language(labels_of):
    cases = [case for case in itertools.product(("PLE", "JEET"), ("routed", "random", "mean"), ("en", "py"))
             if case[:2] != ("JEET", "mean")]
    table = pd.DataFrame([{"variant": variant, "group": use[:1], "use": use, "language": language,
                           "bits_per_byte": 1 + number + seed}
                          for number, (variant, use, language) in enumerate(cases) for seed in (0, 1)])
    figure = modular.plot_switches(table, "bits_per_byte", "bits per byte")
    ple, jeet, bar = figure.axes
    assert [ax.get_title() for ax in (ple, jeet)] == ["PLE", "JEET"]
    assert [text.get_text() for text in ple.texts] == [f"{1.5 + n:.2f}" for n in range(6)]
    assert [text.get_text() for text in jeet.texts] == [f"{1.5 + n:.2f}" for n in range(6, 10)]
    assert labels_of(ple.yaxis) == ["routed", "random", "mean"]
    assert labels_of(jeet.xaxis) == ["en", "py"]
    assert [line.get_ydata()[0] for line in ple.lines] == [2]  # "routed" and "random" are one group
    assert {ax.collections[0].get_clim() for ax in (ple, jeet)} == {(1, 11)}
    assert (bar.get_ylabel(), bar.get_yscale()) == ("bits per byte", "log")


def test_every_model_has_a_bar_of_all_and_one_of_active_parameters_first_model_on_top(labels_of, legend_of):
    sizes = pd.DataFrame({"parameters": [3.2e6, 2e6], "active_parameters": [1e6, 1.5e6], "tokens": 5},
                         index=pd.Index(["PLE", "dense"], name="model"))
    ax = modular.plot_sizes(sizes).axes[0]
    assert [[bar.get_width() for bar in bars] for bars in ax.containers] == [[3.2, 2.0], [1.0, 1.5]]
    assert [text.get_text() for text in ax.texts] == ["3.20", "2.00", "1.00", "1.50"]
    assert labels_of(ax.yaxis) == ["PLE", "dense"]
    low, high = ax.get_ylim()
    assert low > high
    assert ax.containers[0][0].get_y() < ax.containers[1][0].get_y() < 0.38
    assert legend_of(ax) == ["total", "active per sequence"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("million parameters", "")
    assert ax.get_xlim()[1] == pytest.approx(3.2 * 1.12)
    assert ax.figure.get_size_inches() == pytest.approx((7.2, 0.8 + 2 * 0.55))
