"""The Markov source: its entropy rate against independent computations and against samples."""

import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.data import Bytes, Synthetic, entropy_rate, prepare
from jaxlm.data.synthetic import sample, stationary, transition_matrix

SOURCES = {
    "order 1": Synthetic(vocabulary=12, order=1, tokens=1000),
    "order 2": Synthetic(vocabulary=6, order=2, tokens=1000, seed=5),
    "order 3": Synthetic(vocabulary=4, order=3, tokens=1000, sharpness=2.0),
}


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_probabilities(name):
    matrix = transition_matrix(SOURCES[name])
    assert matrix.min() > 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)  # rounding of a few sums


@pytest.mark.parametrize("name", SOURCES)
def test_stationary_law_is_the_eigenvector_of_the_context_chain(name):
    source = SOURCES[name]
    matrix = transition_matrix(source)
    contexts = len(matrix)
    chain = np.zeros((contexts, contexts))
    for context in range(contexts):
        for token in range(source.vocabulary):
            chain[context, (context * source.vocabulary + token) % contexts] += matrix[context, token]
    values, vectors = np.linalg.eig(chain.T)
    law = np.real(vectors[:, np.argmax(np.real(values))])
    # Both are solved to near machine precision; the gap of these chains is above .1.
    np.testing.assert_allclose(stationary(matrix), law / law.sum(), atol=1e-11)


@pytest.mark.parametrize("name", SOURCES)
def test_entropy_rate_is_the_log_loss_of_a_long_sample(name):
    source = SOURCES[name]
    path = sample(source, 200_000).astype(np.int64)
    context = sum(path[source.order - 1 - i:len(path) - 1 - i] * source.vocabulary**i
                  for i in range(source.order))
    losses = -np.log(transition_matrix(source)[context, path[source.order:]])
    # Five standard errors of the mean, taken over blocks because losses of neighbours correlate.
    blocks = losses[:len(losses) // 500 * 500].reshape(-1, 500).mean(axis=1)
    assert abs(losses.mean() - entropy_rate(source)) < 5 * blocks.std() / np.sqrt(len(blocks))


def test_uniform_source_has_the_entropy_of_a_die():
    # Sharpness 0 leaves the rows Zipfian: independent tokens of known law.
    source = Synthetic(vocabulary=6, order=1, sharpness=0.0)
    zipf = 1 / np.arange(1, 7)
    law = 0.99 * zipf / zipf.sum() + 0.01 / 6
    np.testing.assert_allclose(entropy_rate(source), -(law * np.log(law)).sum(), rtol=1e-12)


def test_loss_of_short_windows_is_the_log_loss_with_short_context():
    source = SOURCES["order 2"]
    path = sample(source, 200_000).astype(np.int64)
    size = source.vocabulary
    # The law of the next token given one token, counted from the sample itself.
    pairs = np.bincount(path[:-1] * size + path[1:], minlength=size**2).reshape(size, size)
    one = pairs / pairs.sum()
    first = -(one * np.log(one / one.sum(axis=1, keepdims=True))).sum()
    # 200,000 tokens give entropies of 36 cells to about 1/sqrt(200,000) = .002 nats.
    assert abs(entropy_rate(source, sequence=1) - first) < 0.01


def test_floor_of_windows_falls_to_the_rate():
    source = SOURCES["order 3"]
    floors = [entropy_rate(source, sequence=sequence) for sequence in (1, 2, 3, 10, 10_000)]
    assert floors == sorted(floors, reverse=True) and floors[-1] > entropy_rate(source)


def test_windows_of_a_first_order_chain_lose_nothing():
    source = SOURCES["order 1"]
    np.testing.assert_allclose(entropy_rate(source, sequence=7), entropy_rate(source), rtol=1e-14)


def test_sample_is_fixed_by_the_seed():
    # Golden: only uniform draws enter, so these hold for every NumPy whose PCG64 is the published one.
    np.testing.assert_array_equal(sample(Synthetic(vocabulary=8, order=2), 12),
                                  [6, 4, 1, 7, 6, 1, 1, 5, 0, 2, 0, 1])


def test_chain_that_does_not_mix_is_refused():
    lazy = np.array([[1 - 1e-9, 1e-9], [2e-9, 1 - 2e-9]])
    with pytest.raises(ConfigError, match="not stationary"):
        stationary(lazy)


def test_prepared_splits_are_two_paths(tmp_path):
    source = Synthetic(vocabulary=300, order=1, tokens=3000)
    done = prepare(source, Bytes(), tmp_path, heldout_fraction=0.2)
    assert (done.train.tokens, done.heldout.tokens, done.meta["dtype"]) == (2400, 600, "uint16")


def test_prepared_source_states_its_entropy(tmp_path):
    source = Synthetic(vocabulary=8, order=1, tokens=3000)
    assert f"{entropy_rate(source):.6f} nats" in prepare(source, Bytes(), tmp_path).meta["note"]
