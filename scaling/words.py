"""What the words of the command line `scaling` mean; each raises `InputError` that names the word."""

import argparse
import io
from pathlib import Path

import numpy as np

from scaling import fitted
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.laws import LAWS
from scaling.prior import Prior
from scaling.record import files


def fit(text: str) -> Fit:
    """Returns the fit in a JSON file, or the published one that LAW/KEY names."""
    law, _, key = text.partition("/")
    return fitted.published(law, key) if law in LAWS and not Path(text).exists() else fitted.load(text)


def place(text: str) -> files.AnyPath:
    """Returns a local path or URL."""
    try:
        return files.folder(text)
    except InputError as error:  # argparse would swallow the text of any other exception
        raise argparse.ArgumentTypeError(str(error)) from None


def schedule(path: files.AnyPath) -> np.ndarray:
    """Returns the array in a .npy file."""
    try:
        return np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False)
    except OSError as error:
        raise InputError(f"--schedule = {str(path)!r}: {error.strerror or 'not a .npy file'}") from None
    except (ValueError, EOFError):
        raise InputError(f"--schedule = {str(path)!r}: not a .npy file") from None


def prior(text: str) -> Prior:
    """Returns the prior that NAME=VALUE:SD declares."""
    name, value = assignment(text)
    centre, _, sd = value.partition(":")
    try:
        return Prior(parameter=name, value=float(centre), sd=float(sd))
    except ValueError:
        raise InputError(f"--prior = {text!r}: must read NAME=VALUE:SD") from None


def assignment(text: str) -> tuple[str, str]:
    """Returns the two sides of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"{text!r}: must read NAME=VALUE")
    return name, value
