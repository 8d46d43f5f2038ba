"""What a run must not be led to: files elsewhere by links in its directory, programs that it was not told of, data that are not those it was planned
with, another run's points behind its back, an end by a signal that asks for a drain."""
import json
import os
import signal
import stat
import subprocess
import unittest

import harness
from harness import Place

def start(place, dir, *words, ranks=0, env=None):
    """As Place.start, with more words and the two outputs apart: FILE.out and FILE.err."""
    command = [harness.PROGRAM, 'run', place.config, '--dir', dir, *words]
    if ranks:
        command = ['mpirun', '--oversubscribe', '--bind-to', 'none', '-n', str(ranks)] + command
    with open(f'{dir}.out', 'w') as out, open(f'{dir}.err', 'w') as err:
        return subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=place.folder, start_new_session=True,
                                env={**place.environment(), **(env or {})})


def text(path):
    with open(path) as f:
        return f.read()


def tree(dir):
    """Every file and folder below, links not followed."""
    for folder, folders, names in os.walk(dir):
        for name in folders + names:
            yield f'{folder}/{name}'


class Files(unittest.TestCase):
    def test_planted_links(self):
        """Somebody who may write in the run directory cannot make a run write elsewhere."""
        with Place() as place:
            dir, victim = place.dir('r'), place.dir('victim')
            with open(victim, 'w') as f:
                f.write('precious')
            for folder in ('logs', 'checkpoints', 'report'):
                os.makedirs(f'{dir}/{folder}')
            planted = ['status.json', 'logs/parameters.txt', 'fit.json', 'report.html', 'out.csv', 'out.json', 'results.h5']
            planted = [name + '.tmp' for name in planted] + ['status.json', 'fit.json', 'report.html', 'logs/parameters.txt', 'out.csv']
            planted += ['report/gnuplot.log'] + [f'report/{kind}-{n}.{end}' for kind in ('examples', 'size', 'residuals', 'methods')
                                                 for n in range(12) for end in ('gp', 'dat', 'svg')]
            for name in planted:
                os.symlink(victim, f'{dir}/{name}')
            place.run(dir)
            refused = place.call('export', dir, '--out', f'{dir}/out.csv', check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn('a symbolic link', refused.stderr)
            place.call('export', dir, '--format', 'json', '--out', f'{dir}/out.json')
            place.call('report', dir, '--bootstrap', '0')
            self.assertEqual(text(victim), 'precious')
            self.assertEqual(len(json.loads(text(f'{dir}/out.json'))), 28)
            self.assertIn('<svg', text(f'{dir}/report.html'))
            self.assertFalse(os.path.islink(f'{dir}/report/gnuplot.log'))
            place.call('verify', dir)

    def test_links_in_the_place_of_logs_are_refused(self):
        with Place() as place:
            victim = place.dir('victim')
            with open(victim, 'w') as f:
                f.write('precious')
            for name in ('results.lock', 'logs/rank-0.log', 'logs/stages.jsonl', 'results.h5'):
                dir = place.dir(name.replace('/', '-'))
                os.makedirs(f'{dir}/logs')
                os.symlink(victim, f'{dir}/{name}')
                done = place.call('run', place.config, '--dir', dir, check=False)
                self.assertEqual(done.returncode, 1, name)
                self.assertIn(f'{dir}/{name}', done.stderr)
                self.assertEqual(text(victim), 'precious', name)
            plan = json.loads(place.call('plan', place.config, '--json', '--rate', '1').stdout)
            dir, stage = place.dir('stage'), next(s for s in plan['stages'] if s['kind'] == 'finetune')
            os.makedirs(f'{dir}/logs')
            os.symlink(victim, f'{dir}/logs/{stage["identity"]}.log')
            place.run(dir, code=1)
            self.assertEqual(text(victim), 'precious')
            self.assertRegex(place.output(dir), 'log: Too many levels of symbolic links')

    def test_modes(self):
        """By umask: with 077 nobody else reads anything, and never may anybody else write."""
        with Place() as place:
            for mask in (0o077, 0o022):
                dir = place.dir(f'r{mask}')
                before = os.umask(mask)
                try:
                    place.run(dir)
                    place.call('report', dir, '--bootstrap', '0')
                    place.call('export', dir, '--out', f'{dir}/out.csv')
                finally:
                    os.umask(before)
                found = list(tree(dir))
                self.assertGreater(len(found), 60)
                for path in found:
                    self.assertEqual(stat.S_IMODE(os.lstat(path).st_mode) & mask, 0, path)
                    self.assertFalse(os.path.islink(path), path)


class Executed(unittest.TestCase):
    def test_nothing_that_lies_about_is_executed(self):
        """Whatever is called like something that the program runs or loads, in its working folder, the run directory, beside the data, in PATH, and
        where HDF5 would look for filters: a run maps and executes the program and the system's libraries alone."""
        with Place(length=4) as place:
            dir, marker = place.dir('r'), place.dir('executed')
            os.makedirs(f'{dir}/logs')
            for folder in (place.folder, dir):
                for name in ('tunelaw', 'worker', 'gnuplot', 'sbatch', 'scancel', 'squeue', 'nvidia-smi', 'sh'):
                    with open(f'{folder}/{name}', 'w') as f:
                        f.write(f'#!/bin/sh\necho {name} >>{marker}\n')
                    os.chmod(f'{folder}/{name}', 0o755)
                for name in ('libtunelaw_cuda.so', 'tunelaw_cuda.so', 'libh5filter.so'):
                    subprocess.run(['cp', os.environ['EARLY_SIGNAL_SHIM'], f'{folder}/{name}'], check=True)
            process = start(place, dir, env={'PATH': f'{place.folder}:{os.environ["PATH"]}', 'HDF5_PLUGIN_PATH': place.folder})
            workers = harness.wait_for(lambda: harness.kinds_below(process)['worker'], what='a worker')
            harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and harness.executed(dir), what='a stage')
            for pid in [process.pid, *workers]:
                try:
                    self.assertEqual(os.readlink(f'/proc/{pid}/exe'), os.path.realpath(harness.PROGRAM))
                    lines = text(f'/proc/{pid}/maps').splitlines()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                for line in lines:
                    if 'x' in line.split()[1]:
                        self.assertNotIn(place.folder, line)
            self.assertEqual(process.wait(timeout=240), 0, text(f'{dir}.err'))
            self.assertFalse(os.path.exists(marker), 'something was executed')

    def test_a_config_names_no_program(self):
        with Place() as place:
            config = text(place.config)
            for change in ('backend = "./libtunelaw_cuda.so"', 'backend = "cpu"; plugin = "./x.so"', 'backend = "cpu"; launcher = "./x"'):
                with open(place.config, 'w') as f:
                    f.write(config.replace('backend = "cpu"', change))
                done = place.call('run', place.config, '--dir', place.dir('r'), check=False)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, r'sweep.cfg:\d+: .*allowed')
                self.assertFalse(os.path.exists(place.dir('r')))


class Data(unittest.TestCase):
    def flip(self, place):
        """One token of the pretraining text becomes another that is in the vocabulary; the header stays."""
        import h5py
        with h5py.File(f'{place.folder}/data.h5', 'r+') as f:
            f['text/train'][100] = 5 if f['text/train'][100] != 5 else 6

    def test_content_that_is_not_that_of_the_header(self):
        """Found before the first row is committed, once, in one line."""
        with Place() as place:
            for ranks in (0, 2):
                dir = place.dir(f'r{ranks}')
                self.flip(place) if ranks == 0 else None
                self.assertNotEqual(start(place, dir, ranks=ranks).wait(timeout=120), 0)
                lines = [line for line in text(f'{dir}.err').splitlines() if line.startswith('tunelaw: ')]
                self.assertEqual(len(lines), 1, lines)
                self.assertRegex(lines[0], r'data.h5: the content has digest .* it was changed or damaged')
                self.assertEqual(int(harness.table(dir, 'results')['committed'].sum()), 0)

    def test_data_that_change_while_a_run_is_at_work(self):
        """The run ends at once and says so; no point has failed, and with the data back it goes on."""
        with Place(length=4) as place:
            place.run(place.dir('whole'))
            data, kept = f'{place.folder}/data.h5', f'{place.folder}/kept.h5'
            harness.write_text(place.folder, seed=2)
            place.call('data', '--pairs-train', f'{place.folder}/pairs.train.tsv', '--pairs-valid', f'{place.folder}/pairs.valid.tsv',
                       '--pairs-test', f'{place.folder}/pairs.test.tsv', '--text', f'{place.folder}/text.txt', '--vocabulary', '400',
                       '--task', 'small', '--out', f'{place.folder}/other.h5')
            for ranks in (0, 2):
                dir = place.dir(f'r{ranks}')
                process = start(place, dir, ranks=ranks)
                harness.wait_for(lambda: os.path.exists(f'{dir}/logs/stages.jsonl') and len(harness.executed(dir)) > 1, what='two stages')
                os.rename(data, kept)
                os.link(f'{place.folder}/other.h5', data)
                self.assertNotEqual(process.wait(timeout=120), 0)
                lines = [line for line in text(f'{dir}.err').splitlines() if line.startswith('tunelaw: ')]
                self.assertEqual(len(lines), 1, lines)
                self.assertRegex(lines[0], r'the data has changed: digest .*; put the data set back that this run began with')
                self.assertEqual([e['status'] for e in harness.executed(dir)].count('crashed'), 1)
                os.rename(kept, data)
                self.assertEqual(start(place, dir, ranks=ranks).wait(timeout=240), 0, text(f'{dir}.err'))
                self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))
                self.assertEqual(int(harness.table(dir, 'state')['attempts'].max()) <= 2, True)


class Waiting(unittest.TestCase):
    def test_drift_is_judged_under_the_lock(self):
        """What another run has finished while this one waited for it counts."""
        with Place(length=4) as place:
            dir, config = place.dir('r'), text(place.config)
            first = start(place, dir)
            harness.wait_for(lambda: os.path.exists(f'{dir}/results.h5') and harness.kinds_below(first)['worker'], what='a store')
            stopped = [pid for pids in harness.kinds_below(first).values() for pid in pids]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            self.assertEqual(int(harness.table(dir, 'results')['committed'].sum()), 0)
            with open(place.config, 'w') as f:
                f.write(config.replace('batch = 16;', 'batch = 32;'))
            waiting = place.dir('waiting')
            with open(waiting, 'w') as out:
                second = subprocess.Popen([harness.PROGRAM, 'run', place.config, '--dir', dir, '--wait', '200'], stdout=out, stderr=out,
                                          cwd=place.folder, env=place.environment())
            harness.wait_for(lambda: 'waiting up to' in text(waiting) or second.poll() is not None, what='the second run to wait')
            self.assertIn('goes on', text(waiting))
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(first.wait(timeout=240), 0, text(f'{dir}.err'))
            finished = harness.result_bytes(dir)
            self.assertEqual(second.wait(timeout=60), 1, text(waiting))
            self.assertRegex(text(waiting), r'needs --accept-drift\n(.*\n)*tunelaw: .* finished points would leave the sweep')
            self.assertEqual(harness.result_bytes(dir), finished)
            self.assertEqual(int(harness.table(dir, 'points')['removed'].sum()), 0)


class Signals(unittest.TestCase):
    def test_a_drain_before_main(self):
        """mpirun hands a signal on to a rank that it has just started: it drains as any other."""
        with Place() as place:
            dir = place.dir('r')
            self.assertEqual(start(place, dir, env={'LD_PRELOAD': os.environ['EARLY_SIGNAL_SHIM']}).wait(timeout=60), 3, text(f'{dir}.err'))
            self.assertIn('draining', text(f'{dir}.out'))
            place.run(dir)


if __name__ == '__main__':
    unittest.main(verbosity=2)
