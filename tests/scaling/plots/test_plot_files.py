"""Pictures as files: suffixes, sizes of text, refusals, and that no global state is touched."""

import sys

import numpy as np
import pytest
from planted_fits import curve_fit

import scaling
from scaling import plots
from scaling.cli import main
from scaling.errors import InputError
from scaling.plots import figure, labels

pytest.importorskip("matplotlib")


def test_command_draws_curves_that_were_not_fitted(curve, tmp_path, capsys):
    fit, source, out = tmp_path / "fit.json", tmp_path / "other.csv", tmp_path / "curves.svg"
    scaling.save(curve_fit("annealing", curve), fit)
    rows = np.column_stack([curve.steps, curve.schedule[curve.steps], curve.losses])
    np.savetxt(source, rows, delimiter=",", header="step,lr,loss", comments="")
    assert main(["plot", str(fit), "--out", str(out), "--held-out", str(source), "--warmup-steps", "20"]) == 0
    assert out.read_bytes().startswith(b"<?xml") and "saved" in capsys.readouterr().out
    assert main(["plot", str(fit), "--out", str(tmp_path / "curves.jpg")]) == 2
    assert "must end in .png, .pdf or .svg" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files_are_what_their_suffix_says_and_pyplot_stays_out(suffix, begin, tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    picture, panels = figure.new(figure.NARROW, 1.0)
    panels[0, 0].set_xlabel("words")
    plots.save(picture, tmp_path / f"one.{suffix}")
    data = (tmp_path / f"one.{suffix}").read_bytes()
    assert data.startswith(begin) and b"Date" not in data.replace(b"FontDescriptor", b"")
    assert suffix != "pdf" or b"/FontFile2" in data  # TrueType, embedded
    assert suffix != "svg" or b"<text" not in data  # outlines, which need no font
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_other_suffixes_and_folders_that_do_not_exist_are_refused(tmp_path):
    picture, _ = figure.new(figure.NARROW, 1.0)
    with pytest.raises(InputError, match="must end in .png, .pdf or .svg"):
        plots.save(picture, tmp_path / "law.jpg")
    with pytest.raises(InputError, match="No such file"):
        plots.save(picture, tmp_path / "nowhere" / "law.svg")


def test_no_text_is_clipped_and_none_is_smaller_than_8_points(cells_fit):
    picture = plots.plot(cells_fit)  # the one with the most text
    assert picture.get_figwidth() == figure.WIDE
    picture.canvas.draw()
    shown = [axes for axes in picture.axes if axes.get_visible()]
    texts = [text for axes in shown for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    ticks = [label for axes in shown for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    assert min(label.get_fontsize() for label in ticks) >= 8
    for text in [picture._suptitle, *texts]:
        if text.get_visible() and text.get_text():
            assert text.get_fontsize() >= 8
            at = text.get_window_extent()
            assert at.x0 >= -1 and at.x1 <= picture.bbox.x1 + 1, text.get_text()  # a pixel: 0.01 inch
            assert at.y0 >= -1 and at.y1 <= picture.bbox.y1 + 1, text.get_text()


def test_missing_matplotlib_is_one_line(law_fit, cells_fit, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    for fit in (law_fit, cells_fit):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxlm\[plots\]'"):
            plots.plot(fit)


def test_each_picture_refuses_the_other_law(law_fit, cells_fit, curve):
    with pytest.raises(InputError, match="plot_curves draws laws of whole curves"):
        plots.plot_curves(law_fit)
    with pytest.raises(InputError, match="plot_law draws laws of the loss in N and D"):
        plots.plot_law(cells_fit)
    with pytest.raises(InputError, match="plot_line draws laws of one input"):
        plots.plot_line(law_fit)
    with pytest.raises(InputError, match="plot_cells draws"):
        plots.plot_cells(law_fit)
    with pytest.raises(InputError, match="plot_frontier draws"):
        plots.plot_frontier(law_fit)
    with pytest.raises(InputError, match="only laws of whole curves"):
        plots.plot(law_fit, held_out=[curve])


@pytest.mark.parametrize(
    "name",
    [
        "chinchilla@besiroglu2024",
        "step_law@li2025",
        "frontier@porian2024-tuned",
        "annealing@tissue2024",
        "error@gadre2024-c4-17",
        "critical_batch@zhang2024",
    ],
)
def test_published_coefficients_have_no_rows_to_draw(name):
    with pytest.raises(InputError, match="carries no data|carry none"):
        plots.plot(scaling.published(*name.split("@")))


@pytest.mark.parametrize(
    ("value", "text"),
    [(950, "950"), (1e5, "100k"), (1.5e6, "1.5M"), (999_999, "1M"), (2e12, "2T"), (3e18, "3e18")],
)
def test_counts_are_short(value, text):
    assert labels.short(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (3e-4, "3e-4"), (0.0125, "1.25e-2"), (0.3, "0.3")])
def test_rates_are_plain(value, text):
    assert labels.plain(value) == text
