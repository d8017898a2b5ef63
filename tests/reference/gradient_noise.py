"""Slow, obvious float64 versions of the gradient noise functions."""

import numpy as np
import torch
from scipy.stats import t as student_t


def per_example_gradients(model, loss_fn, inputs, targets):
    """One backward pass per example; rows are flattened gradients."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for x, y in zip(inputs, targets, strict=True):
        gradients = torch.autograd.grad(
            loss_fn(model(x[None]), y[None]), parameters, allow_unused=True, materialize_grads=True
        )
        rows.append(torch.cat([g.flatten() for g in gradients]).double().numpy())
    return np.stack(rows)


def noise_scale(gradients):
    """Trace of the sample covariance, and the mean inner product of two different examples."""
    n = len(gradients)
    trace_sigma = np.trace(np.atleast_2d(np.cov(gradients.T)))
    gram = gradients @ gradients.T
    grad_sq_norm = (gram.sum() - np.trace(gram)) / (n * (n - 1))
    return trace_sigma, grad_sq_norm


def discounted_means(numerators, denominators, decay):
    """Weighted means, variances and covariance of the means, effective number: by definition, over plain lists."""
    n = len(numerators)
    weights = np.array([decay ** (n - 1 - i) for i in range(n)])
    s, g = np.asarray(numerators), np.asarray(denominators)
    mean_s, mean_g = np.average(s, weights=weights), np.average(g, weights=weights)
    effective = weights.sum() ** 2 / (weights**2).sum()
    free = effective - 1
    return (
        mean_s,
        mean_g,
        np.average((s - mean_s) ** 2, weights=weights) / free,
        np.average((g - mean_g) ** 2, weights=weights) / free,
        np.average((s - mean_s) * (g - mean_g), weights=weights) / free,
        effective,
    )


def fieller_accepts(theta, s, g, var_s, var_g, cov, df, level):
    """Whether a t test of E[s] = theta E[g] at this level does not reject."""
    variance = var_s - 2 * theta * cov + theta**2 * var_g
    return (s - theta * g) ** 2 <= student_t.ppf((1 + level) / 2, df) ** 2 * variance


def two_phase_means(part, whole, calibrated, decay):
    """Regression estimates of the means of the whole, and their variances, by definition; and the means of the part.

    Both of shape (2, observations); ``calibrated`` marks the observations at which the whole is known.
    """
    weights = decay ** np.arange(part.shape[1] - 1, -1, -1.0)
    some = weights[calibrated]
    n, n_c = (w.sum() ** 2 / (w**2).sum() for w in (weights, some))
    means, variances = [], []
    for x, y in zip(part, whole, strict=True):
        x_c, y_c = x[calibrated], y[calibrated]

        def cov(a, b, w, count):
            spread = np.average((a - np.average(a, weights=w)) * (b - np.average(b, weights=w)), weights=w)
            return spread * count / (count - 1)

        slope = cov(x_c, y_c, some, n_c) / cov(x_c, x_c, some, n_c)
        means.append(np.average(y_c - slope * x_c, weights=some) + slope * np.average(x, weights=weights))
        residual = y_c - slope * x_c
        unexplained = cov(residual, residual, some, n_c) * (n_c - 1) / (n_c - 2)
        variances.append(unexplained / n_c + slope**2 * cov(x, x, weights, n) / n)
    return means, variances, [np.average(x, weights=weights) for x in part]
