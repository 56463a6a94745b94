"""Laws, one file each, and the registry that names them."""

from scaling.laws.registry import LAWS, get

__all__ = ["LAWS", "get"]
