"""AdamW in float64 NumPy, written from the paper (Loshchilov & Hutter 2017, 1711.05101, algorithm 2)."""

import numpy as np


class AdamWTwin:
    """Holds float64 arrays by name and updates them; `decayed` names those with weight decay."""

    def __init__(self, params, *, decayed, b1, b2, eps, clip_norm=None):
        self.params = {name: np.asarray(array, np.float64) for name, array in params.items()}
        self.decayed, self.b1, self.b2, self.eps, self.clip_norm = set(decayed), b1, b2, eps, clip_norm
        self.first = {name: np.zeros_like(array) for name, array in self.params.items()}
        self.second = {name: np.zeros_like(array) for name, array in self.params.items()}
        self.updates = 0

    def update(self, grads, *, lr, weight_decay):
        """Changes the parameters by one update; returns the change by name."""
        grads = {name: np.asarray(grad, np.float64) for name, grad in grads.items()}
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
        scale = 1.0 if self.clip_norm is None or norm <= self.clip_norm else self.clip_norm / norm
        self.updates += 1
        changes = {}
        for name, param in self.params.items():
            grad = scale * grads[name]
            self.first[name] = self.b1 * self.first[name] + (1 - self.b1) * grad
            self.second[name] = self.b2 * self.second[name] + (1 - self.b2) * grad**2
            first = self.first[name] / (1 - self.b1**self.updates)
            second = self.second[name] / (1 - self.b2**self.updates)
            decay = weight_decay * param if name in self.decayed else 0.0
            changes[name] = -lr * (first / (np.sqrt(second) + self.eps) + decay)
            self.params[name] = param + changes[name]
        return changes
