"""Figures are drawn without a screen, in the usual style whatever ran before, and closed after each test."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    with plt.rc_context():
        plt.rcdefaults()
        yield
    plt.close("all")


@pytest.fixture
def legend_of():
    """What a legend says, line by line."""
    return lambda ax: [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture
def labels_of():
    """The texts of an axis's ticks in the order of their places."""
    return lambda axis: [text.get_text() for text in axis.get_ticklabels()]
