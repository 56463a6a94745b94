"""The benchmark's baseline trains, and imports nothing of jaxlm."""

import ast
import importlib.util
import math
import pathlib

import jax
import pytest

PATH = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "bench" / "plain_step.py"
VOCABULARY = 64


@pytest.fixture(scope="module")
def plain_step():
    spec = importlib.util.spec_from_file_location("plain_step", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def losses(plain_step):
    step, state, batch = plain_step.make(layers=1, width=32, heads=2, feed_forward=64, vocabulary=VOCABULARY,
                                         sequence=16, batch=4)
    values = []
    for _ in range(30):
        state, loss = step(state, batch)
        values.append(float(loss))
    return values


def test_loss_starts_near_that_of_the_uniform_distribution(losses):
    # Logits have std 0.02 * sqrt(32) = 0.11 at init, which adds about 0.11^2 / 2 nats.
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.05)


def test_loss_falls_on_a_repeated_batch(losses):
    assert losses[-1] < losses[0] - 0.1


def test_default_parameters_and_attention_cost_28_31_mflop_per_token(plain_step):
    shapes = jax.eval_shape(lambda: plain_step.make()[1][0])
    # 6 FLOPs per token for each entry of a matrix (the tied table counts once, as head), 12 D T a layer.
    matrices = sum(leaf.size for leaf in jax.tree.leaves(shapes["blocks"]) if leaf.ndim == 2)
    flops = 6 * (matrices + shapes["embedding"].size) + 12 * 256 * 256 * len(shapes["blocks"])
    assert flops / 1e6 == pytest.approx(28.31, abs=0.005)


def test_a_later_token_does_not_change_an_earlier_output(plain_step):
    _, (params, _), (inputs, _) = plain_step.make(layers=1, width=16, heads=2, feed_forward=16,
                                                  vocabulary=VOCABULARY, sequence=8, batch=1)

    def mixed(tokens):
        x = params["embedding"][tokens].reshape(-1, 16)
        return plain_step.attention(x, params["blocks"][0], tokens.shape, 2)

    changed = inputs.at[0, 5].set((inputs[0, 5] + 1) % VOCABULARY)
    assert (mixed(inputs)[:5] == mixed(changed)[:5]).all()


def test_refuses_heads_that_do_not_divide_the_width(plain_step):
    with pytest.raises(ValueError, match="heads = 3: must divide width = 32"):
        plain_step.make(width=32, heads=3)


def test_imports_nothing_of_jaxlm():
    modules = set()
    for node in ast.walk(ast.parse(PATH.read_text())):
        modules |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        modules |= {node.module} if isinstance(node, ast.ImportFrom) else set()
    assert not [name for name in modules if name.split(".")[0] in ("jaxlm", "scaling")]
