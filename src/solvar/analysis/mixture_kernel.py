"""The sums of expectation maximisation over particles whose latents are known with an error each.

More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

import math

from solvar.compilation import compiled


@compiled()
def gather(  # type: ignore[no-untyped-def]
    information,
    towards,
    weight,
    log_share,
    pull,
    inverse,
    constant,
    joint,
    evidence,
    count,
    first,
    second,
    a,
    c,
    x,
    q,
):
    """Log evidence of each particle with each Gaussian, and the moments that its share of them adds.

    Parameters
    ----------
    information, towards : (N, m, m), (N, m)
        W and b of each particle's likelihood exp(-xᵀWx/2 + bᵀx).
    weight : (N,)
    log_share, constant : (K,)
        log π and -(log|S| + μᵀS⁻¹μ)/2 of each Gaussian.
    pull, inverse : (K, m), (K, m, m)
        S⁻¹μ and S⁻¹.
    joint : (N, K)
        Gets the log of π_k times the evidence.
    evidence : (N,)
        Gets their log sum.
    count, first, second : (K,), (K, m), (K, m, m)
        Added to: Σ q, Σ q x, Σ q (x xᵀ + A⁻¹), with x and A⁻¹ what is known of a latent from both.
    a, c, x, q : (K, m, m), (K, m), (m,), (K,)
        Room to work in.
    """
    n, m = towards.shape
    groups = log_share.shape[0]
    for i in range(n):
        most = -math.inf
        for k in range(groups):
            log_det = 0.0
            for row in range(m):
                for column in range(row + 1):
                    value = information[i, row, column] + inverse[k, row, column]
                    for j in range(column):
                        value -= a[k, row, j] * a[k, column, j]
                    if row == column:
                        value = math.sqrt(value)
                        log_det += math.log(value)
                        a[k, row, row] = value
                    else:
                        a[k, row, column] = value / a[k, column, column]
            square = 0.0
            for row in range(m):
                value = towards[i, row] + pull[k, row]
                for j in range(row):
                    value -= a[k, row, j] * c[k, j]
                value /= a[k, row, row]
                c[k, row] = value
                square += value * value
            joint[i, k] = log_share[k] + constant[k] - log_det + 0.5 * square
            most = max(most, joint[i, k])
        total = 0.0
        for k in range(groups):
            q[k] = math.exp(joint[i, k] - most)
            total += q[k]
        evidence[i] = most + math.log(total)
        for k in range(groups):
            part = weight[i] * q[k] / total
            if part < 1e-9:
                continue
            count[k] += part
            # x = L⁻ᵀ c, then A⁻¹ = L⁻ᵀ L⁻¹ column by column
            for row in range(m - 1, -1, -1):
                value = c[k, row]
                for j in range(row + 1, m):
                    value -= a[k, j, row] * x[j]
                x[row] = value / a[k, row, row]
            for row in range(m):
                first[k, row] += part * x[row]
                for column in range(row + 1):
                    second[k, row, column] += part * x[row] * x[column]
            for unit in range(m):
                for row in range(unit, m):
                    value = 1.0 if row == unit else 0.0
                    for j in range(unit, row):
                        value -= a[k, row, j] * x[j]
                    x[row] = value / a[k, row, row]
                for row in range(m - 1, unit - 1, -1):
                    value = x[row]
                    for j in range(row + 1, m):
                        value -= a[k, j, row] * x[j]
                    x[row] = value / a[k, row, row]
                for row in range(unit, m):
                    second[k, row, unit] += part * x[row]
