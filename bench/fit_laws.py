#!/usr/bin/env python3
"""The fitter beside scipy, in one run on one core: the same points, law, loss and starts.

    fit_laws.py [BENCH_FIT_LAWS [ROUNDS]]     needs numpy and scipy

One fit: from each start of the fitter's grid a short way (the peer: 30 iterations of L-BFGS-B), the ten best to the end. The
bootstrap: refits under exponential weights from the fit, of which the peer makes 200 and its time is scaled. The peer
has the analytic gradient, in vectorised numpy over centred axes. The two take turns, ROUNDS (3) times; medians count.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ['OMP_NUM_THREADS'] = os.environ['OPENBLAS_NUM_THREADS'] = '1'
import numpy as np
from scipy.optimize import minimize

DELTA = 1e-3
RESAMPLES = 4000
TIMED = 200
TRUTH = np.log([480, 2100, 1.8]), (0.35, 0.37)


def points():
    random = np.random.default_rng(1)
    x, d = (np.exp(random.uniform(np.log(low), np.log(high), 250)) for low, high in ((5e7, 1.6e10), (5e8, 3e11)))
    (a, b, e), (alpha, beta) = TRUTH
    loss = np.exp(a) * x ** -alpha + np.exp(b) * d ** -beta + np.exp(e)
    return x, d, loss * np.exp(0.01 * random.standard_normal(250))


def design(x, d):
    """Terms are design @ theta with theta = log A, alpha, log B, beta, log E."""
    out = np.zeros((3, len(x), 5))
    out[0, :, 0] = out[1, :, 2] = out[2, :, 4] = 1
    out[0, :, 1] = -(np.log(x) - np.log(x).mean())
    out[1, :, 3] = -(np.log(d) - np.log(d).mean())
    return out.reshape(-1, 5)


def objective(theta, terms, log_loss, weight):
    """Sum of Huber losses of log L over DELTA and its gradient, by log-sum-exp, as Hoffmann et al. fit it."""
    logs = (terms @ theta).reshape(3, -1)
    largest = logs.max(0)
    parts = np.exp(logs - largest)
    total = parts.sum(0)
    r = largest + np.log(total) - log_loss
    slope = np.clip(r, -DELTA, DELTA)
    value = weight @ (slope * (r - slope / 2))
    return value / DELTA, ((parts * (weight * slope / total)).ravel() @ terms) / DELTA


def scipy_run(start, data, weight, iterations, gtol):
    return minimize(objective, start, (*data, weight), 'L-BFGS-B', True,
                    options=dict(maxiter=iterations, maxfun=100000, ftol=1e-15, gtol=gtol))


def scipy_fit(starts, data):
    ones = np.ones(len(data[1]))
    began = time.perf_counter()
    scouts = sorted((scipy_run(start, data, ones, 30, 1e-9) for start in starts), key=lambda r: r.fun)
    best = min((scipy_run(scout.x, data, ones, 10000, 1e-9) for scout in scouts[:10]), key=lambda r: r.fun)
    return time.perf_counter() - began, best


def scipy_bootstrap(theta, data, random):
    began = time.perf_counter()
    for _ in range(TIMED):
        scipy_run(theta, data, random.exponential(size=len(data[1])), 10000, 1e-6)
    return (time.perf_counter() - began) * RESAMPLES / TIMED


def ours(program, path, threads):
    text = subprocess.run([program, path, str(RESAMPLES)], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, 'OMP_NUM_THREADS': str(threads)}).stdout.splitlines()
    count, fit, best, _, bootstrap = map(float, text[0].split())
    rows = np.array([[float(word) for word in line.split()] for line in text[1:]])
    return fit, bootstrap, best, rows[:int(count)], rows[-1]


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else 'build/bench/bench_fit_laws'
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    x, d, loss = points()
    data, random = (design(x, d), np.log(loss)), np.random.default_rng(3)
    times = {key: [] for key in ('fit', 'bootstrap', 'two', 'scipy fit', 'scipy bootstrap')}
    with tempfile.NamedTemporaryFile('w', suffix='.txt') as file:
        file.writelines(f'{p!r} {q!r} {l!r}\n' for p, q, l in zip(x.tolist(), d.tolist(), loss.tolist()))
        file.flush()
        for _ in range(rounds):
            fit, bootstrap, best, starts, end = ours(program, file.name, 1)
            seconds, theirs = scipy_fit(starts, data)
            for key, value in (('fit', fit), ('bootstrap', bootstrap), ('scipy fit', seconds),
                               ('scipy bootstrap', scipy_bootstrap(end, data, random)),
                               ('two', ours(program, file.name, 2)[1])):
                times[key].append(value)
    middle = {key: statistics.median(values) for key, values in times.items()}
    print(f'250 points, {len(starts)} starts, {RESAMPLES} resamples (scipy: {TIMED} timed), {rounds} rounds')
    print(f'objective {best:.12g}, of scipy {theirs.fun * DELTA:.12g}')
    print(f'500 starts at this rate: {middle["fit"] * 500 / len(starts):.3f} s; bootstrap on 2 cores {middle["two"]:.3f} s')
    for name in ('fit', 'bootstrap'):
        peer = middle[f'scipy {name}']
        print(f'bench {name}: ours {middle[name]:.3f} s, scipy {peer:.1f} s, ratio {peer / middle[name]:.0f}')


if __name__ == '__main__':
    main()
