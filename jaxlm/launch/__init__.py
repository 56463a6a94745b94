"""Slices, plans for them, and the commands that launch studies on them."""
