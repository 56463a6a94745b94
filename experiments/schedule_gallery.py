"""Draws every schedule of jaxlm.schedules, by name: python experiments/schedule_gallery.py [--out FOLDER]."""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import schedules
from jaxlm.schedules import InverseSqrtShape, PowerShape, Schedule
from scaling.plots.figure import PALETTE, SMALL, new

UPDATES, WARMUP = 1000, 50

# Panels: a title and the curves in it, by what tells them apart.
Panel = tuple[str, dict[str, Schedule]]


def panels() -> list[Panel]:
    """Returns the panels, row by row: what runs use, what a cooldown may look like, cycles, further data, no length."""
    peak = {"warmup": WARMUP}
    shapes = ("linear", "sqrt", "cosine", "square", "mirror_cosine", "exponential", "inverse")
    decays = {name: schedules.wsd(UPDATES, decay=400, shape=name, final=0.1, **peak) for name in shapes}
    ends = (250, 500, 1000)
    ramp = schedules.linear_ramp(start=8, end=64, tokens=6400 * 32, sequence=32)
    grains = ramp.in_grains(ramp.tokens_before(UPDATES))
    return [
        ("constant, linear, cosine", {
            "constant": schedules.constant(**peak), "linear": schedules.linear(UPDATES, **peak),
            "cosine": schedules.cosine(UPDATES, final=0.1, **peak)}),
        ("wsd: shapes by name", decays),
        ("wsd: shapes with parameters", {
            "(1-u)^1.5": schedules.wsd(UPDATES, decay=400, shape=PowerShape(outer=1.5), **peak),
            "1-u^0.3": schedules.wsd(UPDATES, decay=400, shape=PowerShape(inner=0.3), **peak),
            "inverse root": schedules.wsd(UPDATES, decay=400, shape=InverseSqrtShape(), **peak),
            "half_life_decay": schedules.half_life_decay(UPDATES, decay=400, half_life=100.0, **peak)}),
        ("cosine_tail, step_decay", {
            "cosine_tail": schedules.cosine_tail(UPDATES, tail=200, **peak),
            "step_decay": schedules.step_decay(UPDATES, **peak)}),
        ("wsd_s", {
            "jump back": schedules.wsd_s(ends, decay=50, **peak),
            "re-warm, lower peaks": schedules.wsd_s(ends, decay=50, rewarmup=40, shape="linear", final=0.0,
                                                   peaks=[(ends[0] / end) ** 0.5 for end in ends], **peak)}),
        ("cyclic_cosine", {
            "4 cycles": schedules.cyclic_cosine(UPDATES, cycles=4, rewarmup=50, final=0.1, **peak),
            "cycles that double": schedules.cyclic_cosine(UPDATES, cycles=(143, 429, 1000), **peak)}),
        ("infinite, rewarm_redecay", {
            "infinite": schedules.infinite(UPDATES, cooldown=300, constant=0.55, anneal=150, **peak),
            "rewarm_redecay": schedules.rewarm_redecay(schedules.cosine(500, final=0.1, **peak), start=500,
                                                       updates=UPDATES, peak_lr=0.8, warmup=20)}),
        ("inverse_sqrt, power", {
            "inverse_sqrt": schedules.inverse_sqrt(**peak),
            "from 300": schedules.inverse_sqrt(start=300, timescale=300, **peak),
            "power, tail": schedules.with_cooldown(schedules.power(start=100, **peak), UPDATES, decay=100,
                                                       shape="linear")}),
        ("linear_ramp, by_tokens", {
            "batch / 64": lambda t: ramp.batch(t) / 64,
            "linear in tokens": schedules.by_tokens(schedules.linear(grains), ramp)}),
    ]


def draw(out: pathlib.Path) -> pathlib.Path:
    """Writes `schedules_gallery.png` into `out` and returns its path."""
    shown = panels()
    columns, t = 3, np.arange(UPDATES)
    picture, axes = new(9.4, 6.4, heights=(1,) * (len(shown) // columns), widths=(1,) * columns)
    for place, (title, curves) in zip(np.ravel(axes), shown, strict=True):
        for i, (name, schedule) in enumerate(curves.items()):
            rates = np.asarray(jax.jit(schedule)(jnp.asarray(t)))
            place.plot(t, rates, color=PALETTE[i % len(PALETTE)], lw=1.3, label=name)
        few = len(curves) <= 3
        place.set_title(title, fontsize=SMALL + 1)
        place.set(ylim=(-0.03, 1.3 if few else 1.08), xlim=(-10, UPDATES + 10), yticks=(0, 0.5, 1))
        place.legend(fontsize=SMALL - 1, loc="upper center" if few else (0.08, 0.02), ncols=len(curves) if few else 1,
                     frameon=False, handlelength=1.2, labelspacing=0.2, columnspacing=1.0)
    for place in axes[-1]:
        place.set_xlabel("update")
    for place in axes[:, 0]:
        place.set_ylabel("rate / peak_lr")
    path = out / "schedules_gallery.png"
    picture.savefig(path, dpi=76, pil_kwargs={"optimize": True})
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    print(draw(parser.parse_args().out))
