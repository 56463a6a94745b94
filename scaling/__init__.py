"""Scaling laws: run records, fits, intervals and pictures. Needs numpy and scipy only."""

from scaling import diagnostics, record
from scaling.bootstrap import Bootstrap
from scaling.curve_fit import fit_curves
from scaling.curves import Curve, interpolated_schedule
from scaling.engine import fit
from scaling.errors import InputError
from scaling.fitted import Fit, load, published, save
from scaling.intervals import Prediction, compute_optimal, predict, predict_curve
from scaling.law import Law, Parameter, Published
from scaling.laws import LAWS
from scaling.prior import Prior
from scaling.scores import pred_e, r2, worst_e

__all__ = [
    "LAWS",
    "Bootstrap",
    "Curve",
    "Fit",
    "InputError",
    "Law",
    "Parameter",
    "Prediction",
    "Prior",
    "Published",
    "compute_optimal",
    "diagnostics",
    "fit",
    "fit_curves",
    "interpolated_schedule",
    "load",
    "pred_e",
    "predict",
    "predict_curve",
    "published",
    "r2",
    "record",
    "save",
    "worst_e",
]
