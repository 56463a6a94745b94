"""The registry of laws: a new law is one file beside this one and one line here."""

from scaling.errors import InputError
from scaling.law import Law
from scaling.laws import annealing, chinchilla

LAWS: dict[str, Law] = {
    "chinchilla": chinchilla.LAW,
    "annealing": annealing.LAW,
}


def get(name: str) -> Law:
    """Returns the law called `name`; raises `InputError` listing the known ones."""
    if name not in LAWS:
        raise InputError(f"law = {name!r}: must be one of {', '.join(LAWS)}")
    return LAWS[name]
