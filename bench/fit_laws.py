#!/usr/bin/env python3
"""The fitter beside scipy, in one run on one core: the same points, law, loss and number of starts.

    fit_laws.py [BENCH_FIT_LAWS [SCIPY_STARTS]]     needs numpy and scipy

scipy runs L-BFGS-B with the same analytic gradient, vectorised over the points, from SCIPY_STARTS starts (20), and its
time is scaled to the number of starts that the fitter takes; its bootstrap is as many warm refits, scaled too.
"""
import itertools
import os
import subprocess
import sys
import tempfile
import time

os.environ['OMP_NUM_THREADS'] = '1'
import numpy as np
from scipy.optimize import minimize

DELTA = 1e-3
TRUTH = np.log([480, 2100, 1.8]), (0.35, 0.37)


def points():
    random = np.random.default_rng(1)
    x, d = (np.exp(random.uniform(np.log(low), np.log(high), 250)) for low, high in ((5e7, 1.6e10), (5e8, 3e11)))
    (a, b, e), (alpha, beta) = TRUTH
    loss = np.exp(a) * x ** -alpha + np.exp(b) * d ** -beta + np.exp(e)
    return x, d, loss * np.exp(0.01 * random.standard_normal(250))


def objective(theta, log_x, log_d, log_loss, weight):
    """Sum of Huber losses of log L and its gradient, by log-sum-exp, as Hoffmann et al. fit it."""
    a, alpha, b, beta, e = theta
    terms = np.stack([a - alpha * log_x, b - beta * log_d, np.full_like(log_x, e)])
    largest = terms.max(0)
    parts = np.exp(terms - largest)
    total = parts.sum(0)
    r = largest + np.log(total) - log_loss
    small = np.abs(r) <= DELTA
    value = np.where(small, r * r / 2, DELTA * (np.abs(r) - DELTA / 2))
    slope = weight * np.where(small, r, DELTA * np.sign(r))
    share = parts / total * slope
    return (weight * value).sum() / DELTA, np.array([share[0].sum(), -(share[0] * log_x).sum(), share[1].sum(),
                                                     -(share[1] * log_d).sum(), share[2].sum()]) / DELTA


def scipy_fit(start, data, weight):
    return minimize(objective, start, (*data, weight), 'L-BFGS-B', True,
                    options=dict(maxiter=10000, maxfun=100000, ftol=1e-15, gtol=1e-9))


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else 'build/bench/bench_fit_laws'
    starts = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    x, d, loss = points()
    with tempfile.NamedTemporaryFile('w', suffix='.txt') as file:
        file.writelines(f'{p!r} {q!r} {l!r}\n' for p, q, l in zip(x.tolist(), d.tolist(), loss.tolist()))
        file.flush()
        ours = subprocess.run([program, file.name, '4000'], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    count, seconds, best, resamples, bootstrap = int(ours[0]), float(ours[1]), float(ours[2]), int(ours[3]), float(ours[4])
    data, ones = (np.log(x), np.log(d), np.log(loss)), np.ones(250)
    grid = list(itertools.product((0, 5, 10, 15, 20), (0.1, 0.5, 1), (0, 5, 10, 15, 20), (0.1, 0.5, 1), (-1, 0, 1)))
    chosen = [grid[i] for i in np.random.default_rng(2).choice(len(grid), starts, False)]
    began = time.perf_counter()
    results = [scipy_fit(np.array(start, float), data, ones) for start in chosen]
    theirs = (time.perf_counter() - began) / starts
    theta = min(results, key=lambda r: r.fun)
    began = time.perf_counter()
    random = np.random.default_rng(3)
    for _ in range(starts):
        scipy_fit(theta.x, data, random.exponential(size=250))
    warm = (time.perf_counter() - began) / starts
    print(f'250 points, {count} starts, {resamples} resamples; scipy: {starts} of each timed')
    print(f'objective {best:.12g}, of scipy {theta.fun * DELTA:.12g}')
    for name, ours, peer in (('fit', seconds, theirs * count), ('bootstrap', bootstrap, warm * resamples)):
        print(f'bench {name}: ours {ours:.3f} s, scipy {peer:.1f} s, ratio {peer / ours:.0f}')


if __name__ == '__main__':
    main()
