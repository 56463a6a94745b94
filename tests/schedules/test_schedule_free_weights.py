"""The weights that take the place of a schedule in schedule-free training, against recorded ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_schedule_goldens import golden

from jaxlm.optim import schedule_free_sgd


@pytest.mark.parametrize("warmup", [0, 100])
@pytest.mark.parametrize("r", [0.0, 1.0])
def test_rates_and_averaging_weights_equal_the_released_formula(warmup, r):
    data, case = golden("schedule_free_weights"), f"warm{warmup}_r{r}"
    rates, averaging = data[f"lr_{case}"], data[f"ckp1_{case}"]
    tx, params = schedule_free_sgd(2.5e-3, warmup=warmup, r=r), jnp.ones(1)

    def body(state, _):
        _, state = tx.update(jnp.zeros(1), state, params)
        return state, (state.lr_max, state.weight_sum)

    _, (lr_max, weight_sum) = jax.lax.scan(body, tx.init(params), None, length=len(rates))
    weight_sum = np.concatenate([[0.0], weight_sum])
    np.testing.assert_allclose(lr_max, rates, rtol=1e-6)  # rates never fall
    # float32 state; c = w_t / sum of w = 1 - (sum before)/(sum after).
    np.testing.assert_allclose(1.0 - weight_sum[:-1] / weight_sum[1:], averaging, rtol=0, atol=1e-5)
