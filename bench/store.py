#!/usr/bin/env python3
"""The store beside SQLite and h5py, in turn, in one folder: commits in groups with and without syncs, scans, verification, and what
`tunelaw status` and `tunelaw export` take on a full store.

    /usr/bin/python3 bench/store.py [--build build] [--points 100000] [--rounds 3] [--folder /tmp]

A row is 9 KB in both: results and curve in a slot or a blob each, execution in 512 bytes. SQLite commits a group in one transaction, in WAL mode with
synchronous=FULL (every acknowledged transaction is durable, as here) or OFF."""
import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time

import h5py

parser = argparse.ArgumentParser()
parser.add_argument('--build', default='build')
parser.add_argument('--points', type=int, default=100000)
parser.add_argument('--rounds', type=int, default=3)
parser.add_argument('--folder', default=None)
options = parser.parse_args()


def ours(*words):
    return float(subprocess.run([f'{options.build}/bench/bench_store', *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout)


def command(*words):
    start = time.perf_counter()
    subprocess.run([f'{options.build}/tunelaw', *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def sqlite(path, count, group, sync):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute('pragma journal_mode=wal')
    database.execute(f'pragma synchronous={"full" if sync else "off"}')
    database.execute('create table rows (id integer primary key, identity text unique, status integer, loss real, result blob, execution blob, curve blob)')
    slot, small = os.urandom(4096), os.urandom(512)
    start = time.perf_counter()
    for first in range(0, count, group):
        database.execute('begin')
        database.executemany('insert into rows values (?, ?, ?, ?, ?, ?, ?)',
                             [(i, f'{i:032x}', 2, 1 / (i + 1), slot, small, slot) for i in range(first, min(first + group, count))])
        database.execute('commit')
    seconds = time.perf_counter() - start
    database.close()
    return seconds


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    return folder


def line(name, our_values, peer_values, unit, peer):
    a, b = statistics.median(our_values), statistics.median(peer_values)
    print(f'bench {name}: ours {a:.4g} {unit}, {peer} {b:.4g} {unit}, ratio {a / b:.3g}', flush=True)


def commits(folder):
    for sync in (True, False):
        for group in (1, 16, 256):
            count = {1: 300, 16: 1600, 256: 5120}[group] * (1 if sync else 4)
            pairs = [(count / ours('commit', fresh(f'{folder}/c'), count, group, int(sync)),
                      count / sqlite(f'{fresh(folder + "/s")}/db', count, group, sync)) for _ in range(options.rounds)]
            line(f'store_commit_{group}_{"sync" if sync else "nosync"}', [a for a, _ in pairs], [b for _, b in pairs], 'rows/s', 'SQLite')


def h5py_scan(path):
    start = time.perf_counter()
    with h5py.File(path, 'r') as f:
        assert f['results'].fields('committed')[:].sum() == options.points
    return time.perf_counter() - start


def h5py_read(path):
    start = time.perf_counter()
    with h5py.File(path, 'r') as f:
        for name in ('results', 'curves', 'execution'):
            for first in range(0, options.points, 4096):
                f[name][first:first + 4096]
    return time.perf_counter() - start


def h5py_export(path, out):
    import pandas
    start = time.perf_counter()
    with h5py.File(path, 'r') as f:
        table = pandas.concat([pandas.DataFrame(f[name][:]) for name in ('points', 'state', 'results', 'execution')], axis=1)
    table.to_csv(out)
    return time.perf_counter() - start


def reads(folder):
    run = fresh(f'{folder}/big')
    ours('make', run, options.points)
    path, out = f'{run}/results.h5', f'{folder}/out'
    pairs = [(ours('scan', run), h5py_scan(path)) for _ in range(options.rounds)]
    line('store_scan', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py')
    pairs = [(ours('verify', run), h5py_read(path)) for _ in range(options.rounds)]
    line('store_verify', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py_without_checksums')
    pairs = [(command('status', run), h5py_scan(path)) for _ in range(options.rounds)]
    line('store_status', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py_scan')
    pairs = [(command('export', run, '--out', out), h5py_export(path, out)) for _ in range(options.rounds)]
    line('store_export_csv', [a for a, _ in pairs], [b for _, b in pairs], 's', 'pandas')
    pairs = [(command('export', run, '--format', 'json', '--out', out), h5py_export(path, out)) for _ in range(1)]
    line('store_export_json', [a for a, _ in pairs], [b for _, b in pairs], 's', 'pandas_csv')


scratch = tempfile.mkdtemp(prefix='tunelaw-bench-', dir=options.folder)
try:
    commits(scratch)
    reads(scratch)
finally:
    shutil.rmtree(scratch)
