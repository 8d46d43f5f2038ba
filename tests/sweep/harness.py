"""What the end-to-end tests share: a small language to learn, a sweep over it, runs under mpirun, and ways to kill them.

Nothing here needs a network. Every process is started in a private TMPDIR, and only processes below the started one are ever killed."""
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

import h5py

PROGRAM = os.environ['TUNELAW']
MPIRUN = os.environ.get('MPIRUN', 'mpirun')  # of the MPI that the program was built with
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

NOUNS = 'cat dog bird tree house river stone road child song'.split()
VERBS = 'sees finds takes likes hears paints'.split()
ADJECTIVES = 'red small old quiet bright'.split()
GERMAN = dict(zip(NOUNS + VERBS + ADJECTIVES + ['the', 'and'],
                  'katze hund vogel baum haus fluss stein weg kind lied sieht findet nimmt mag hört malt '
                  'rot klein alt still hell der und'.split()))


def sentence(rng):
    """Source and target: word by word, adjectives after the noun in the target."""
    def phrase():
        noun, adjective = rng.choice(NOUNS), rng.choice(ADJECTIVES) if rng.random() < 0.5 else None
        source = ['the'] + ([adjective] if adjective else []) + [noun]
        target = ['der', GERMAN[noun]] + ([GERMAN[adjective]] if adjective else [])
        return source, target
    a, b, verb = phrase(), phrase(), rng.choice(VERBS)
    return ' '.join(a[0] + [verb] + b[0]), ' '.join(a[1] + [GERMAN[verb]] + b[1])


def write_text(folder, seed=1, sizes=(600, 60, 60), documents=1500):
    """pairs.SPLIT.tsv and text.txt of the small language."""
    rng = random.Random(seed)
    for split, count in zip(('train', 'valid', 'test'), sizes):
        with open(f'{folder}/pairs.{split}.tsv', 'w') as f:
            f.writelines('\t'.join(sentence(rng)) + '\n' for _ in range(count))
    with open(f'{folder}/text.txt', 'w') as f:
        for _ in range(documents):
            f.write(' . '.join(sentence(rng)[rng.randrange(2)] for _ in range(6)) + '\n')


CONFIG = '''
name = "test";
data = {{ dataset = "data.h5"; valid_examples = 40; test_examples = 60; }};
models = (
  {{ name = "s"; layers = 1; width = 16; heads = 2; kv_heads = 1; ffn = 32; }},
  {{ name = "m"; layers = 2; width = 32; heads = 4; kv_heads = 2; ffn = 64; }}
);
pretrain = {{ tokens = [ {tokens}, {more_tokens} ]; sequence_length = 64; batch = 8; learning_rate = 3e-3;
             schedule = "inverse_sqrt"; warmup_steps = 5; clip_norm = 1.0; seed = 1; }};
finetune = {{ examples = [ 64, 256 ]; sequence_length = 64; batch = 16; epochs = {epochs}; max_steps = {steps}; schedule = "cosine";
             final_ratio = 0.1; warmup_steps = 3; evaluations = 4; clip_norm = 1.0; seeds = [ 1 ]; }};
methods = (
  {{ name = "none"; }},
  {{ name = "full"; learning_rates = [ 3e-3 ]; }},
  {{ name = "lora"; ranks = [ 2 ]; alpha = 8.0; learning_rates = [ 1e-2 ]; }},
  {{ name = "prompt"; lengths = [ 4 ]; learning_rates = [ 1e-1 ]; }}
);
held_out = ( {{ model = "m"; examples = [ 256 ]; }} );
resources = {{ backend = "cpu"; tensor_parallel = {degree}; threads = 1; devices = {devices}; attempts = {attempts};
              checkpoint_seconds = 0.3; hang_seconds = {hang}; keep_weights = true; }};
{more}
'''


class Place:
    """A temporary folder with text, a data set and a sweep file; removed at the end."""

    def __init__(self, degree=1, devices=2, attempts=3, hang=60.0, length=1, more=''):
        """length: how many times longer than the shortest useful sweep."""
        self.folder = tempfile.mkdtemp(prefix='tunelaw-')
        self.tmp = f'{self.folder}/t'
        self.extra = {}  # environment of runs that are started
        os.mkdir(self.tmp)
        self.config = f'{self.folder}/sweep.cfg'
        write_text(self.folder)
        with open(self.config, 'w') as f:
            f.write(CONFIG.format(degree=degree, devices=devices, attempts=attempts, hang=hang, more=more, tokens=12800 * length,
                                  more_tokens=25600 * length, epochs=3.0 * length, steps=40 * length))
        self.call('data', '--pairs-train', f'{self.folder}/pairs.train.tsv', '--pairs-valid', f'{self.folder}/pairs.valid.tsv',
                  '--pairs-test', f'{self.folder}/pairs.test.tsv', '--text', f'{self.folder}/text.txt', '--vocabulary', '400',
                  '--task', 'small', '--out', f'{self.folder}/data.h5')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def dir(self, name):
        return f'{self.folder}/{name}'

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(('OMPI_', 'PMIX_', 'SLURM_'))}
        env.update(TMPDIR=self.tmp, OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1',
                   OMPI_MCA_btl_vader_backing_directory=self.tmp, OMPI_MCA_btl_tcp_if_include='lo',
                   OMPI_MCA_oob_tcp_if_include='lo', OMPI_MCA_orte_tmpdir_base=self.tmp)
        return env

    def call(self, *words, check=True, env=None):
        """One command of the program, to its end; returns the completed process with text output."""
        done = subprocess.run([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240,
                              env={**self.environment(), **(env or {})}, cwd=self.folder)
        if check and done.returncode != 0:
            raise AssertionError(f'{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}')
        return done

    def start(self, dir, ranks=0, config=None, more=(), mpirun=(), before=()):
        """Start a run in its own session: under mpirun, with more words to it, or alone (ranks = 0); behind the words `before`."""
        words = [PROGRAM, 'run', config or self.config, '--dir', dir, *more]
        if ranks:
            words = [MPIRUN, *mpirun, '--oversubscribe', '--bind-to', 'none', '-n', str(ranks)] + words
        words = [*before, *words]
        log = open(dir.rstrip('/') + '.out', 'a')
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env={**self.environment(), **self.extra}, cwd=self.folder, start_new_session=True)
        log.close()
        return process

    def output(self, dir):
        with open(dir.rstrip('/') + '.out') as f:
            return f.read()

    def run(self, dir, ranks=0, config=None, code=0, seconds=240):
        process = self.start(dir, ranks, config)
        try:
            got = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # it is the first of its session
            raise
        if got != code:
            raise AssertionError(f'run ended with {got}, not {code}\n{self.output(dir)}')


def processes_below(pid):
    """(pid, parent, command line) of every live process below `pid`."""
    table = {}
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            with open(f'/proc/{entry}/stat') as f:
                fields = f.read().rsplit(')', 1)[1].split()
            with open(f'/proc/{entry}/cmdline') as f:
                words = f.read().split('\0')
        except OSError:
            continue
        if fields[0] != 'Z':
            table[int(entry)] = (int(fields[1]), words)
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        for child, (above, words) in table.items():
            if above == parent:
                found.append((child, parent, words))
                todo.append(child)
    return found


def kinds_below(process):
    """The processes of a run by kind: mpirun, agent, launcher, worker. A process that has just begun may have no command line yet."""
    kinds = {'mpirun': [], 'agent': [], 'launcher': [], 'worker': []}
    below = processes_below(process.pid)
    runs = {pid for pid, _, words in below if len(words) > 1 and words[1] == 'run'}
    with open(f'/proc/{process.pid}/cmdline') as f:
        top = f.read().split('\0')
    alone = top[1:2] == ['run']
    (kinds['agent'] if alone else kinds['mpirun']).append(process.pid)
    if alone:
        runs.add(process.pid)
    for pid, parent, words in below:
        if len(words) > 1 and words[1] == 'worker':
            kinds['worker'].append(pid)
        elif pid in runs:
            kinds['launcher' if parent in runs else 'agent'].append(pid)
    return kinds


def kinds_left(process):
    """Live processes of the session of a run that has ended."""
    left = []
    for entry in os.listdir('/proc'):
        if entry.isdigit() and int(entry) != process.pid:
            try:
                with open(f'/proc/{entry}/stat') as f:
                    fields = f.read().rsplit(')', 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == process.pid and fields[0] != 'Z':
                left.append(int(entry))
    return left


def end_of_mpirun(process):
    """The exit code of an mpirun that has lost its ranks. Open MPI 4.1 with PMIx 4.2 seldom waits for itself in PMIx_server_finalize, for good."""
    try:
        return f'exit {process.wait(timeout=30)}'
    except subprocess.TimeoutExpired:
        process.kill()
        return f'exit {process.wait()} of an mpirun that had no process left'


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def result_bytes(dir):
    """The bytes of /results, padding and markers included."""
    with h5py.File(f'{dir}/results.h5', 'r') as f:
        data = f['results']
        offset, size = data.id.get_offset(), data.id.get_storage_size()
    with open(f'{dir}/results.h5', 'rb') as f:
        f.seek(offset)
        return f.read(size)


def table(dir, name):
    with h5py.File(f'{dir}/results.h5', 'r') as f:
        return f[name][:]


def executed(dir):
    with open(f'{dir}/logs/stages.jsonl') as f:
        return [json.loads(line) for line in f if line.strip()]


def check_accounts(test, place, dir, config=None):
    """The log against the plan: each stage is done once, and the FLOPs that were executed are those of the plan and of the steps that were repeated."""
    stages = {s['identity']: s for s in json.loads(place.call('plan', config or place.config, '--json').stdout)['stages']}
    done = [e for e in executed(dir) if e['status'] in ('done', 'diverged')]
    test.assertEqual(sorted(e['stage'] for e in done), sorted(stages))
    flops = repeated = 0
    for e in done:
        test.assertEqual(e['executed_steps'], e['steps'] + e['repeated_steps'], e)
        test.assertGreaterEqual(e['repeated_steps'], e['recomputed_steps'], e)
        step = stages[e['stage']]['flops'] / max(1, e['steps'])
        flops += step * e['executed_steps']
        repeated += step * e['repeated_steps']
    planned = sum(s['flops'] for s in stages.values())
    test.assertAlmostEqual(flops / (planned + repeated), 1.0, delta=1e-9)
    return repeated / planned


def wait_for(condition, seconds=60, what='a condition'):
    """The first true value of condition(). what: text, or a function that gives it when it is needed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f'waited {seconds} s for {what() if callable(what) else what}')


def take_numbers(words, *names):
    """Take `--NAME NUMBER` out of the words of a test, as unittest does not know them; the numbers by name."""
    taken = {}
    for name in names:
        if f'--{name}' in words:
            at = words.index(f'--{name}')
            taken[name] = int(words[at + 1])
            del words[at:at + 2]
    return taken
