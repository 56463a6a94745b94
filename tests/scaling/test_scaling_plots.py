"""Pictures: what they hold, and that no global state is touched."""

import sys

import numpy as np
import pytest

import scaling
from scaling import plots
from scaling.errors import InputError

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def law_fit():
    n = np.repeat([1e5, 3e5, 1e6], 3)
    d = n * np.tile([10, 20, 40], 3)
    loss = 1.2 + (n / 1e5) ** -0.4 + 1.2 * (d / 5e6) ** -0.35
    data = {"N": n, "D": d, "loss": loss * (1 + 1e-3 * np.sin(np.arange(9)))}
    how = scaling.Bootstrap(draws=10, strata="N", scheme="residual")
    return scaling.fit("chinchilla", data, unit="nats/token", counting="non_embedding", bootstrap=how)


@pytest.fixture(scope="module")
def curve():
    steps = np.arange(20, 200, 10)
    schedule = np.where(np.arange(200) < 100, 1e-2, 1e-3)
    return scaling.Curve(
        name="drop", schedule=schedule, steps=steps, losses=3 + steps**-0.4 - 0.05 * (steps > 100)
    )


def texts(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_law_picture_has_sizes_units_and_held_out_points(law_fit):
    n, d = np.array([3e6]), np.array([6e7])
    held_out = plots.HeldOut(N=n, D=d, prediction=scaling.predict(law_fit, N=n, D=d), truth=np.array([1.9]))
    figure = plots.plot_law(law_fit, predictions=[held_out])
    assert {"N = 100k", "N = 300k", "N = 1M", "observed, held out"} <= set(texts(figure))
    assert figure.axes[0].get_ylabel() == "loss (nats/token)"
    assert figure.axes[1].get_xlabel() == "training tokens D"


def test_many_sizes_become_a_colour_scale(law_fit):
    n = np.geomspace(1e5, 1e6, 30)
    figure = plots.plot_law(law_fit, {"N": n, "D": 20 * n, "loss": np.full(30, 3.0)})
    assert figure.axes[-1].get_ylabel() == "N (non-embedding parameters)"


def test_curve_picture_marks_held_out_curves(curve):
    fit = scaling.fit_curves([curve], unit="nats/token")
    figure = plots.plot_curves(fit, held_out=[(curve.schedule * 0.9, curve.steps, curve.losses)])
    assert texts(figure) == ["drop (fitted)", "curve 0 (held out)", "observed"]


def test_saved_picture_is_png_and_pyplot_stays_out(law_fit, tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plots.save(plots.plot_law(law_fit), tmp_path / "law.png")
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_each_picture_refuses_the_other_law(law_fit, curve):
    with pytest.raises(InputError, match="plot_curves draws the annealing law"):
        plots.plot_curves(law_fit)
    with pytest.raises(InputError, match="plot_law draws laws in N and D"):
        plots.plot_law(scaling.fit_curves([curve], unit="nats/token"))


@pytest.mark.parametrize(
    ("value", "text"), [(950, "950"), (1e5, "100k"), (1.5e6, "1.5M"), (999_999, "1M"), (2e12, "2T")]
)
def test_counts_are_short(value, text):
    assert plots._short(value) == text
