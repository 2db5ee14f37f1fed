"""Plain NumPy gradient descent, written from the formulas in float64: no autodiff, no JAX.

Nothing of the library is imported here. Samples are columns.
"""

import numpy as np


def mse(f, y):
    """mean_i (f_i − y_i)² and its gradient in f."""
    return np.mean((f - y) ** 2), 2 * (f - y) / f.size


def all_pairs(f, y):
    """mean_{i,j} (f_i − y_j)² over all pairs, spelled out, and its gradient in f."""
    pairs = f[:, None] - y[None, :]
    return np.mean(pairs**2), 2 * pairs.sum(axis=1) / pairs.size


LOSSES = {"mse": mse, "all_pairs": all_pairs}


def two_layer(w_in, w_out, a, b, data, eta_a, eta_b, steps, loss, w_star=0.0):
    """Train and test losses of f = w_outᵀ φ((W* + B A) φ(W_in x)) at t = 0 … steps."""
    x_train, y_train, x_test, y_test = data
    z, z_test = np.maximum(w_in @ x_train, 0), np.maximum(w_in @ x_test, 0)
    c, c_test = (0.0, 0.0) if np.ndim(w_star) == 0 else (w_star @ z, w_star @ z_test)
    curves = []
    for _ in range(steps + 1):
        h = a @ z
        p = c + b @ h
        value, g = LOSSES[loss](w_out @ np.maximum(p, 0), y_train)
        value_test, _ = LOSSES[loss](w_out @ np.maximum(c_test + b @ (a @ z_test), 0), y_test)
        curves.append((value, value_test))
        dp = np.outer(w_out, g) * (p > 0)
        db, da = dp @ h.T, (b.T @ dp) @ z.T
        a, b = a - eta_a * da, b - eta_b * db
    return np.array(curves)


def feature_layer(w_in, w_out, a, b, data, eta_a, eta_b, steps, loss):
    """Train and test losses of f = w_outᵀ B A φ(W_in x) at t = 0 … steps."""
    x_train, y_train, x_test, y_test = data
    z, z_test = np.maximum(w_in @ x_train, 0), np.maximum(w_in @ x_test, 0)
    curves = []
    for _ in range(steps + 1):
        value, g = LOSSES[loss](w_out @ (b @ (a @ z)), y_train)
        value_test, _ = LOSSES[loss](w_out @ (b @ (a @ z_test)), y_test)
        curves.append((value, value_test))
        dp = np.outer(w_out, g)
        db, da = dp @ (a @ z).T, b.T @ dp @ z.T
        a, b = a - eta_a * da, b - eta_b * db
    return np.array(curves)


def linear(a, b, data, eta_a, eta_b, steps, loss):
    """Train and test losses of f = b aᵀ x at t = 0 … steps; a (n,), b scalar."""
    x_train, y_train, x_test, y_test = data
    curves = []
    for _ in range(steps + 1):
        s = a @ x_train
        value, g = LOSSES[loss](b * s, y_train)
        value_test, _ = LOSSES[loss](b * (a @ x_test), y_test)
        curves.append((value, value_test))
        da, db = b * (x_train @ g), s @ g
        a, b = a - eta_a * da, b - eta_b * db
    return np.array(curves)
