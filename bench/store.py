#!/usr/bin/env python3
"""The store beside SQLite and h5py, in turn, in one folder: commits in groups with and without syncs, rows that ranks send to the committer, scans, verification,
and what the reading commands take on a full store, at rest and while a process writes to it without a pause.

    /usr/bin/python3 bench/store.py [--build build] [--points 100000] [--rounds 3] [--folder /tmp]

A row is 9 KB in both: results and curve in a slot or a blob each, execution in 512 bytes. SQLite commits a group in one transaction, in WAL mode with
synchronous=FULL (every acknowledged transaction is durable, as here) or OFF. The ranks' peer: as many processes on one SQLite database, 64 rows a transaction."""
import argparse
import multiprocessing
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


def ranks(count, folder, rows, sync):
    env = {**os.environ, 'OMPI_ALLOW_RUN_AS_ROOT': '1', 'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1', 'TMPDIR': scratch}
    words = ['mpirun', '--oversubscribe', '--bind-to', 'none', '-n', str(count), f'{options.build}/bench/bench_store_ranks', folder, str(rows), str(int(sync))]
    return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout)


def insert(path, first, end, sync, go):
    database = sqlite3.connect(path, isolation_level=None, timeout=100)
    database.execute(f'pragma synchronous={"full" if sync else "off"}')
    slot, small = os.urandom(4096), os.urandom(512)
    go.wait()
    for at in range(first, end, 64):
        database.execute('begin immediate')
        database.executemany('insert into rows values (?, ?, ?, ?, ?, ?, ?)',
                             [(i, f'{i:032x}', 2, 1 / (i + 1), slot, small, slot) for i in range(at, min(at + 64, end))])
        database.execute('commit')


def sqlite_ranks(count, path, rows, sync):
    sqlite(path, 0, 1, sync)
    go = multiprocessing.Barrier(count + 1)
    processes = [multiprocessing.Process(target=insert, args=(path, rows * i // count, rows * (i + 1) // count, sync, go)) for i in range(count)]
    for process in processes:
        process.start()
    go.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
        assert process.exitcode == 0
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


def rank_commits(folder):
    for count in (2, 4):
        for sync in (True, False):
            rows = 4096 if sync else 16384
            pairs = [(rows / ranks(count, fresh(f'{folder}/c'), rows, sync), rows / sqlite_ranks(count, f'{fresh(folder + "/s")}/db', rows, sync))
                     for _ in range(options.rounds)]
            line(f'store_{count}_ranks_{"sync" if sync else "nosync"}', [a for a, _ in pairs], [b for _, b in pairs], 'rows/s', 'SQLite')


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


def h5py_table(path):
    """The lines of docs/store-format.md: points and results as one pandas table."""
    import pandas
    start = time.perf_counter()
    with h5py.File(path, 'r') as f:
        table = pandas.DataFrame(f['points'][:]).join(pandas.DataFrame(f['results'][:]), rsuffix='_result').query('committed == 1')
    assert len(table) > options.points / 2
    return time.perf_counter() - start


def while_written(folder):
    """The same reads while a process rewrites states and commits rows as fast as it can."""
    run = fresh(f'{folder}/busy')
    ours('make', run, options.points, options.points - options.points // 20)
    path, out = f'{run}/results.h5', f'{folder}/out'
    writer = subprocess.Popen([f'{options.build}/bench/bench_store', 'write', run, '600'], stdout=subprocess.DEVNULL)
    try:
        for name, words in (('status', ['status', run]), ('export_csv', ['export', run, '--out', out]),
                            ('export_json', ['export', run, '--format', 'json', '--out', out]), ('show', ['show', run, str(options.points // 2)])):
            pairs = [(command(*words), h5py_table(path)) for _ in range(options.rounds)]
            line(f'store_{name}_while_written', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py_pandas_points_and_results')
        pairs = [(ours('observations', run), h5py_table(path)) for _ in range(options.rounds)]
        line('store_fit_reading_while_written', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py_pandas_points_and_results')
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()


def reads(folder):
    run = fresh(f'{folder}/big')
    ours('make', run, options.points, options.points)
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
    pairs = [(command('show', run, str(options.points // 2)), h5py_table(path)) for _ in range(options.rounds)]
    line('store_show', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py_pandas_points_and_results')
    pairs = [(ours('observations', run), h5py_table(path)) for _ in range(options.rounds)]
    line('store_fit_reading', [a for a, _ in pairs], [b for _, b in pairs], 's', 'h5py_pandas_points_and_results')


scratch = tempfile.mkdtemp(prefix='tunelaw-bench-', dir=options.folder)
try:
    commits(scratch)
    rank_commits(scratch)
    reads(scratch)
    shutil.rmtree(f'{scratch}/big')
    while_written(scratch)
finally:
    shutil.rmtree(scratch)
