"""The product of activations and a weight matrix, with a gradient that a CPU makes fast."""

import jax

from jaxlm.params.activations import native_bfloat16, platform, transposed


def matmul(x_NxD: jax.Array, weights_DxF: jax.Array) -> jax.Array:
    """Returns x W in the dtype of `x_NxD`, (N, F); leading axes may be two, (B, T, D)."""
    weights_DxF = weights_DxF.astype(x_NxD.dtype)
    return _matmul(x_NxD, weights_DxF) if x_NxD.ndim == 2 and platform() == "cpu" else x_NxD @ weights_DxF


@jax.custom_vjp
def _matmul(x_NxD: jax.Array, weights_DxF: jax.Array) -> jax.Array:
    return x_NxD @ weights_DxF


def _forward(x_NxD: jax.Array, weights_DxF: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x_NxD @ weights_DxF, (x_NxD, weights_DxF)


def _backward(saved: tuple[jax.Array, jax.Array], dy_NxF: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (dy W^T, x^T dy); of x and dy the narrower one is transposed, on its own.

    XLA's product that contracts the rows of both is slower than a copy and a plain product.
    """
    x_NxD, weights_DxF = saved
    weights_FxD = transposed(weights_DxF) if native_bfloat16(weights_DxF) else weights_DxF.T
    return dy_NxF @ weights_FxD, transposed_product(x_NxD, dy_NxF)


def transposed_product(x_NxD: jax.Array, y_NxF: jax.Array) -> jax.Array:
    """Returns x^T y, (D, F)."""
    if x_NxD.shape[1] > y_NxF.shape[1]:
        return jax.lax.optimization_barrier(transposed_product(y_NxF, x_NxD)).T
    return transposed(x_NxD) @ y_NxF


_matmul.defvjp(_forward, _backward)
