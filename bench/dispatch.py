#!/usr/bin/env python3
"""How fast the orchestrator itself is: a sweep of no-op stages over 4 ranks, each result committed durably to the store, beside Dask's scheduler on
4 worker processes (in memory, nothing kept), in turn in one run.

    VENV/bin/python bench/dispatch.py [--build build] [--points 100000] [--rounds 1] [--peer-tasks 20000] [--folder /tmp]

VENV has `distributed`; without it the peer is left out. Printed: stages per second with and without fdatasync, the time from the end of a stage to the
arrival of the worker's next one where stages take 20 ms, with and without, and the CPU use of ranks whose workers are busy for a minute."""
import argparse
import glob
import json
import os
import re
import resource
import shutil
import statistics
import struct
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument('--build', default='build')
parser.add_argument('--points', type=int, default=100000)
parser.add_argument('--rounds', type=int, default=1)
parser.add_argument('--peer-tasks', type=int, default=20000)
parser.add_argument('--folder', default=None)
parser.add_argument('--mpirun', default='mpirun')
options = parser.parse_args()
build = os.path.abspath(options.build)

CONFIG = '''
name = "dispatch";
data = {{ dataset = "data.h5"; }};
models = ( {{ name = "m"; import = "model"; tokens = 1000; }} );
finetune = {{ examples = [ {examples} ]; sequence_length = 8; batch = 1; max_steps = 1; evaluations = 1; seeds = [ {seeds} ]; }};
methods = ( {{ name = "full"; learning_rates = [ 1e-3 ]; }} );
resources = {{ backend = "cpu"; devices = {devices}; }};
'''


def write_model(folder):
    """A Llama of one layer in Hugging Face's layout."""
    width, heads, ffn, vocabulary = 8, 1, 8, 32
    os.mkdir(folder)
    with open(f'{folder}/config.json', 'w') as f:
        json.dump({'model_type': 'llama', 'architectures': ['LlamaForCausalLM'], 'hidden_size': width, 'intermediate_size': ffn, 'num_hidden_layers': 1,
                   'num_attention_heads': heads, 'num_key_value_heads': heads, 'vocab_size': vocabulary, 'tie_word_embeddings': True, 'hidden_act': 'silu',
                   'rms_norm_eps': 1e-5, 'rope_theta': 10000.0, 'max_position_embeddings': 64}, f)
    layer = 'model.layers.0.'
    shapes = {'model.embed_tokens.weight': [vocabulary, width], 'model.norm.weight': [width], f'{layer}input_layernorm.weight': [width],
              f'{layer}post_attention_layernorm.weight': [width], f'{layer}mlp.gate_proj.weight': [ffn, width], f'{layer}mlp.up_proj.weight': [ffn, width],
              f'{layer}mlp.down_proj.weight': [width, ffn]}
    shapes.update({f'{layer}self_attn.{name}_proj.weight': [width, width] for name in 'qkvo'})
    header, at, body = {}, 0, b''
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {'dtype': 'F32', 'shape': shape, 'data_offsets': [at, at + 4 * count]}
        body += struct.pack(f'<{count}f', *[0.01] * count)
        at += 4 * count
    text = json.dumps(header).encode()
    with open(f'{folder}/model.safetensors', 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + body)


def write_sweep(folder, points, devices):
    with open(f'{folder}/sweep-{points}-{devices}.cfg', 'w') as f:
        f.write(CONFIG.format(examples=', '.join(map(str, range(1, 41))), seeds=', '.join(map(str, range(1, points // 40 + 1))), devices=devices))
    return f.name


def prepare(folder):
    write_model(f'{folder}/model')
    for split, count in (('train', 40), ('valid', 4), ('test', 4)):
        with open(f'{folder}/{split}.tsv', 'w') as f:
            f.writelines(f'{i % 20 + 1} 2\t{i % 7 + 3} 1\n' for i in range(count))
    subprocess.run([f'{build}/tunelaw', 'data', '--ids', '--vocabulary', '32', *sum(([f'--pairs-{s}', f'{folder}/{s}.tsv'] for s in ('train', 'valid', 'test')), []),
                    '--out', f'{folder}/data.h5'], check=True, stdout=subprocess.DEVNULL)


def environment(folder, sync=True, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(('OMPI_', 'PMIX_', 'SLURM_'))}
    env.update(TMPDIR=folder, OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1', OMPI_MCA_btl_vader_backing_directory=folder,
               OMPI_MCA_btl_vader_single_copy_mechanism='none', **more)
    if not sync:
        env['LD_PRELOAD'] = f'{build}/bench/libno_sync.so'
    return env


def start(folder, config, dir, ranks=4, **more):
    return subprocess.Popen([options.mpirun, '--oversubscribe', '--bind-to', 'none', '-n', str(ranks), f'{build}/bench/bench_dispatch', 'run', config, '--dir', dir],
                            env=environment(folder, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(folder, config, points, ranks=4, **more):
    """Stages per second from the first assignment to the last commit, as the run's own log tells; microseconds of CPU a stage, user and system, of all
    processes from mpirun's start to its end."""
    dir = f'{folder}/run'
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = start(folder, config, dir, ranks, **more)
    said = process.communicate()[0]
    if process.returncode != 0 or f'{points} points: {points} done' not in said:
        raise SystemExit(f'the run ended with {process.returncode}\n{said[-2000:]}')
    with open(f'{dir}/logs/stages.jsonl') as f:
        finished = [json.loads(line)['finished'] for line in f]
    shutil.rmtree(dir)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = [1e6 * (getattr(after, name) - getattr(before, name)) / points for name in ('ru_utime', 'ru_stime')]
    return (len(finished) - 1) / (max(finished) - min(finished)), cpu


def dask(tasks):
    """Tasks per second of Dask's scheduler: 4 processes of one thread, results gathered, after a warm-up."""
    import dask.distributed

    def nothing(i):
        return i
    with dask.distributed.LocalCluster(n_workers=4, threads_per_worker=1, processes=True, host='127.0.0.1', dashboard_address=None) as cluster:
        with dask.distributed.Client(cluster) as client:
            client.gather(client.map(nothing, range(-200, 0)))
            begin = time.perf_counter()
            client.gather(client.map(nothing, range(tasks), pure=False))
            return tasks / (time.perf_counter() - begin)


def cpu_seconds(pid):
    with open(f'/proc/{pid}/stat') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def agents():
    found = []
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            with open(path) as f:
                words = f.read().split('\0')
            pid = int(path.split('/')[2])
            with open(f'/proc/{pid}/stat') as f:
                parent = int(f.read().rsplit(')', 1)[1].split()[1])
            with open(f'/proc/{parent}/comm') as f:
                if words[0].endswith('bench_dispatch') and words[1] == 'run' and f.read().strip() in ('mpirun', 'prterun', 'orted'):
                    found.append(pid)
        except (OSError, IndexError):
            continue
    return found


def idle(folder, config, seconds):
    """Share of a core that each rank uses while its workers are at work and silent."""
    dir = f'{folder}/idle'
    process = start(folder, config, dir, DISPATCH_WAIT_US=str(int(1e6 * (seconds + 15))))
    time.sleep(8)
    before = {pid: cpu_seconds(pid) for pid in agents()}
    time.sleep(seconds)
    used = [(cpu_seconds(pid) - before[pid]) / seconds for pid in agents() if pid in before]
    process.terminate()
    process.wait()
    shutil.rmtree(dir, ignore_errors=True)
    return used


def main(folder):
    prepare(folder)
    big = write_sweep(folder, options.points, 32)
    rates = {True: [], False: []}
    peers = []
    for _ in range(options.rounds):
        for sync in (False, True):
            rate, cpu = run(folder, big, options.points, sync=sync)
            rates[sync].append(rate)
            print(f'{"" if sync else "no "}sync: {rate:.0f} stages/s, CPU of a stage {cpu[0]:.0f} us user + {cpu[1]:.0f} us system', flush=True)
        try:
            peers.append(dask(options.peer_tasks))
        except ImportError:
            print('no peer: `pip install distributed`')
    small = write_sweep(folder, 2000, 8)
    for sync in (True, False):
        gaps = f'{folder}/gaps-{sync}'
        os.mkdir(gaps)
        run(folder, small, 2000, sync=sync, DISPATCH_WAIT_US='20000', DISPATCH_GAPS=gaps)
        found = sorted(float(line) for path in glob.glob(f'{gaps}/*') for line in open(path))
        at = {percent: found[len(found) * percent // 100] / 1e3 for percent in (50, 90, 99)}
        print(f'{"" if sync else "no "}sync: from the end of a stage to the next, stages of 20 ms: median {at[50]:.2f} ms, 90 % below {at[90]:.2f} ms, '
              f'99 % below {at[99]:.2f} ms', flush=True)
    used = idle(folder, write_sweep(folder, 40, 8), 20)
    print('CPU of ranks whose workers are silent: ' + ', '.join(f'{100 * u:.1f} %' for u in used) + ' of a core')
    peer = statistics.median(peers) if peers else float('nan')
    for sync in (False, True):
        ours = statistics.median(rates[sync])
        print(f'bench dispatch{"" if sync else "-no-sync"}: ours {ours:.0f} stages/s, dask {peer:.0f} tasks/s, ratio {ours / peer:.2f}')


if __name__ == '__main__':
    with tempfile.TemporaryDirectory(prefix='tunelaw-', dir=options.folder) as scratch:
        main(scratch)
