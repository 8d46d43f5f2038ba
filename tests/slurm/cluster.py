"""A throw-away Slurm cluster (cluster.sh) and sweeps on it, for the tests of this folder: several at a time, on nodes of their own."""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f'{HERE}/../sweep')
import harness  # noqa: E402
from harness import Place, wait_for  # noqa: E402,F401

NODES = [f'n{number}' for number in range(1, 9)]
SLOW = 240  # seconds after which something that must happen has not: a busy machine takes its time


def together(scenarios):
    """Class decorator: each method scenario_X becomes test_X, which waits for it; those that were chosen begin together."""
    def result(name):
        return lambda self: self.futures[name].result()
    names = [name for name in vars(scenarios) if name.startswith('scenario_')]
    for name in names:  # unittest finds them
        setattr(scenarios, name.replace('scenario_', 'test_'), result(name))
    chosen = [word.split('.test_')[1] for word in sys.argv if '.test_' in word]
    scenarios.names = [name for name in names if not chosen or name.replace('scenario_', '') in chosen]
    return scenarios


class Cluster:
    """Eight virtual nodes. The program ends with exit code 77 and a reason where they are not possible."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix='tl-', dir='/tmp')  # short: unix sockets
        os.chmod(self.top, 0o755)  # munge wants its socket to be within reach
        self.folder = f'{self.top}/c'
        done = self.script('up', check=False)
        if done.returncode:
            shutil.rmtree(self.top)
            print(done.stderr)
            sys.exit(done.returncode)
        self.environment = {'SLURM_CONF': f'{self.folder}/etc/slurm.conf', 'OMPI_MCA_mpi_yield_when_idle': '1'}
        self.free, self.changed = list(NODES), threading.Condition()

    @contextlib.contextmanager
    def nodes(self, count):
        """So many nodes that no other test uses, up and idle; they may be cut, and come back."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.free) >= count)
            mine, self.free = self.free[:count], self.free[count:]
        try:
            self.wait_until_idle(mine)
            yield mine
        finally:
            for node in mine:
                self.script('node-up', node)
            with self.changed:
                self.free += mine
                self.changed.notify_all()

    def wait_until_idle(self, nodes):
        """What keeps a node from it is told; then its power is cut, once: no test waits in vain for what an earlier one left."""
        def busy():
            idle = self.slurm('sinfo', '-h', '-N', '-p', 'normal', '-n', ','.join(nodes), '-t', 'idle', '-o', '%N').split()
            return [node for node in nodes if node not in idle]
        try:
            wait_for(lambda: not busy(), SLOW / 4, 'idle nodes')
        except AssertionError:
            for node in busy():
                print(self.tell(node), file=sys.stderr)
                self.script('node-down', node)
                self.slurm('scontrol', 'update', f'nodename={node}', 'state=down', 'reason=test', check=False)
                self.slurm('scontrol', 'update', f'nodename={node}', 'state=undrain', check=False)
                self.script('node-up', node)
            wait_for(lambda: not busy(), SLOW, lambda: 'idle nodes:\n' + '\n'.join(map(self.tell, busy())))

    def tell(self, node):
        """What is known of a node, its jobs, and what has been said of it lately."""
        told = [self.slurm('scontrol', 'show', 'node', node, check=False), self.slurm('squeue', '-t', 'all', '-w', node, check=False)]
        for name, word in (('slurmctld', node), (f'slurmd-{node}', '')):
            with open(f'{self.folder}/log/{name}.log', errors='replace') as f:
                told += [f'{name}.log:', *[line.rstrip() for line in f if word in line][-20:]]
        return '\n'.join(told)

    def script(self, *words, check=True):
        return subprocess.run([f'{HERE}/cluster.sh', *words], env={**os.environ, 'CLUSTER': self.folder}, check=check, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)

    def down(self):
        self.script('down', check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def slurm(self, *words, check=True):
        done = subprocess.run(words, env={**os.environ, **self.environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f'{words}: {done.stdout}')
        return done.stdout.strip()

    def state(self, job):
        return self.slurm('squeue', '-h', '-t', 'all', '-o', '%T', '-j', job)

    def nodes_of(self, job):
        return self.slurm('scontrol', 'show', 'hostnames', self.slurm('squeue', '-h', '-o', '%N', '-j', job)).split()

    def wait_for_state(self, job, *states):
        wait_for(lambda: self.state(job) in states, SLOW, lambda: f'job {job} to be {" or ".join(states)}, it is {self.state(job)}')


class Run:
    """A sweep of a place, submitted to some nodes of a cluster."""

    def __init__(self, cluster, place, name, nodes, *words):
        self.cluster, self.place, self.dir = cluster, place, place.dir(name)
        self.others = ','.join(node for node in NODES if node not in nodes)
        self.submit(*words)

    def call(self, *words, check=True):
        return self.place.call(*words, env=self.cluster.environment, check=check)

    def submit(self, *words):
        words = [*words, *([] if '--' in words else ['--']), f'--exclude={self.others}']
        out = self.call('submit', self.place.config, '--dir', self.dir, '--rate', '1', '--time', '10', *words).stdout
        self.job = self.jobs()[-1]
        assert f'job {self.job}' in out, out

    def jobs(self):
        with open(f'{self.dir}/slurm/jobs') as f:
            return f.read().split()

    def log(self):
        """What the job has printed in all its starts."""
        try:
            with open(f'{self.dir}/logs/slurm-{self.job}.out') as f:
                return f.read()
        except FileNotFoundError:
            return ''

    def last_log(self):
        """What its newest start has printed."""
        return self.log().rsplit(': start ', 1)[-1]

    def starts(self):
        return self.log().count(': start ')

    def tell(self):
        return f'state {self.cluster.state(self.job)}, log:\n{self.log()}'

    def training(self):
        """Whether the newest start has a stage in mid-training: workers write their steps into files."""
        folder = f'{self.dir}/checkpoints'
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            with contextlib.suppress(OSError):
                if name.endswith('.step') and os.stat(f'{folder}/{name}').st_mtime > self.seen:
                    with open(f'{folder}/{name}') as f:
                        if int((f.read().split() or [0])[0]) > 0:
                            return True
        return False

    def wait_for_start(self, start):
        wait_for(lambda: self.starts() >= start or self.ended(), SLOW, lambda: f'start {start}; {self.tell()}')
        assert self.starts() >= start, f'the job has ended before start {start}; {self.tell()}'
        self.seen = time.time()  # what is older is of an earlier start

    def wait_for_training(self, start):
        self.wait_for_start(start)
        wait_for(lambda: self.training() or self.ended(), SLOW, lambda: f'training; {self.tell()}')
        assert not self.ended(), f'the sweep has ended before it could be disturbed; {self.tell()}'

    def wait_for_checkpoint(self):
        """A state of the newest start: without one it is a start without progress, and three of those end a job."""
        def there():
            with contextlib.suppress(OSError):
                with os.scandir(f'{self.dir}/checkpoints') as files:
                    return any(f.name.endswith('.h5') and f.stat().st_mtime > self.seen for f in files)
        wait_for(lambda: there() or self.ended(), SLOW, lambda: f'a checkpoint; {self.tell()}')
        assert not self.ended(), f'the sweep has ended before it could be disturbed; {self.tell()}'

    def ended(self):
        return self.cluster.state(self.job) in ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')

    def finish(self, seconds=SLOW):
        wait_for(self.ended, seconds, lambda: f'the job to end; {self.tell()}')
        assert self.cluster.state(self.job) == 'COMPLETED', self.tell()
