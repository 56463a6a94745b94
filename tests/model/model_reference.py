"""The model's equations in float64 NumPy, one token and head at a time where that is plainest."""

import math

import numpy as np


def logits(config, params, tokens_BxT):
    """Returns the logits (B * T, V) of `params`, a nested dict as the model's."""
    p = _float64(params)
    rows = [_sequence(config, p, tokens) for tokens in np.asarray(tokens_BxT)]
    return np.concatenate(rows)


def _sequence(config, p, tokens):
    x = p["embedding"]["tokens"][tokens]
    if config.positions == "learned":
        x = x + p["embedding"]["positions"][: len(tokens)]
    for layer in range(config.layers):
        block = _at(p["blocks"], layer)
        x = x + _attention(config, block["attention"], _norm(config, x, block["attention_norm"]))
        x = x + _feed_forward(config, block["feed_forward"], _norm(config, x, block["feed_forward_norm"]))
    x = _norm(config, x, p["final_norm"])
    return x @ (p["embedding"]["tokens"].T if config.tied else p["head"]["kernel"])


def _attention(config, p, x):
    time, size = len(x), config.size_per_head
    out = np.zeros((time, config.query_width))
    for head in range(config.heads):
        group = head * config.kv_groups // config.heads
        q = (x @ p["query"])[:, head * size:(head + 1) * size]
        k = (x @ p["key"])[:, group * size:(group + 1) * size]
        v = (x @ p["value"])[:, group * size:(group + 1) * size]
        if config.qk_norm:
            q, k = _norm(config, q, p["query_norm"]), _norm(config, k, p["key_norm"])
        if config.positions == "rope":
            q, k = _rotate(q), _rotate(k)
        for t in range(time):
            weights = np.exp(k[: t + 1] @ q[t] / math.sqrt(size))
            out[t, head * size:(head + 1) * size] = weights @ v[: t + 1] / weights.sum()
    return out @ p["output"]


def _rotate(x):
    """Multiplies x[i] + j x[i + K/2] by exp(j t theta^(-2 i / K))."""
    time, size = x.shape
    pairs = x[:, : size // 2] + 1j * x[:, size // 2:]
    turned = pairs * np.exp(1j * np.outer(np.arange(time), 1e4 ** (-2 * np.arange(size // 2) / size)))
    return np.concatenate([turned.real, turned.imag], axis=1)


def _feed_forward(config, p, x):
    h = x @ p["up"]
    if config.activation == "swiglu":
        gate = x @ p["gate"]
        h = gate / (1 + np.exp(-gate)) * h
    else:
        h = h / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return h @ p["down"]


def _norm(config, x, p):
    if config.norm == "layernorm":
        x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"]


def _float64(tree):
    return {k: _float64(v) if isinstance(v, dict) else np.asarray(v, np.float64) for k, v in tree.items()}


def _at(tree, layer):
    return {k: _at(v, layer) if isinstance(v, dict) else v[layer] for k, v in tree.items()}
