"""The rule that divides text into training and held-out parts."""

import doctest

import pytest

import jaxlm.data.document as document
import jaxlm.data.order as order
import jaxlm.data.synthetic as synthetic


@pytest.mark.parametrize("module", [document, order, synthetic])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5])
def test_share_is_close_by_bytes(fraction):
    sizes = {f"document {i}": 100 + 37 * i % 1000 for i in range(200)}
    held = sum(sizes[key] for key in document.heldout_keys(sizes, fraction))
    # A key is taken only if that brings the sum nearer, so half the largest key bounds the error;
    # far smaller keys follow and fill the gap.
    assert abs(held / sum(sizes.values()) - fraction) < 0.005


def test_order_of_documents_does_not_matter():
    sizes = {f"document {i}": 100 + i for i in range(50)}
    backwards = dict(reversed(sizes.items()))
    assert document.heldout_keys(sizes, 0.1) == document.heldout_keys(backwards, 0.1)


def test_one_large_document_is_left_to_the_cut():
    assert document.heldout_keys({"all": 1000}, 0.1) == frozenset()


def test_something_is_left_for_training():
    assert len(document.heldout_keys({"a": 1, "b": 1}, 0.5)) == 1


def test_cut_keeps_every_character():
    text = "\n".join(f"line {i}" for i in range(100))
    train, heldout = document.cut(text, 0.1)
    assert train + heldout == text


def test_cut_is_at_a_line_and_near_the_fraction():
    text = "\n".join(f"line {i}" for i in range(100))
    train, heldout = document.cut(text, 0.1)
    assert train.endswith("\n") and abs(len(heldout) / len(text) - 0.1) < 0.02  # within a line


def test_cut_without_lines():
    assert document.cut("x" * 100, 0.1) == ("x" * 90, "x" * 10)
