#!/usr/bin/env python3
"""fit, advise and plan --identify as a user calls them: on a store of known laws (make_store) and on sweeps of the harness."""
import ctypes
import json
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import unittest

import h5py

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'sweep'))
import harness
from harness import PROGRAM, Place, wait_for

# A, alpha, beta, E of Zhang et al. 2024, table 4, En-De over model size
PUBLISHED = {'full': (1.2e5, .52, .15, .75), 'prompt': (3.9e3, .40, .051, .62), 'lora': (2.1e3, .36, .081, .62)}


def loss(method, size, examples):
    a, alpha, beta, e = PUBLISHED[method]
    return a * size ** -alpha * examples ** -beta + e


def call(*words, check=True):
    done = subprocess.run([PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240)
    if check and done.returncode:
        raise AssertionError(f'{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}')
    return done


def make_store(dir, seeds=1, noise=1e-5, methods=PUBLISHED, config=None):
    os.mkdir(dir)
    laws = [f'{method}:{",".join(map(str, methods[method]))}' for method in methods]
    subprocess.run([os.environ['MAKE_STORE'], dir, str(seeds), str(noise), *([f'config={config}'] if config else []), *laws],
                   check=True)
    return dir


class Watch:
    """Whether anybody opens a file: inotify's word."""
    OPEN = 0x20

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, path.encode(), self.OPEN) < 0:
            raise OSError(ctypes.get_errno(), path)

    def opened(self):
        try:
            return len(os.read(self.fd, 4096)) > 0
        except BlockingIOError:
            return False


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix='tunelaw-')
        cls.exact = make_store(f'{cls.folder.name}/exact')
        cls.noisy = make_store(f'{cls.folder.name}/noisy', seeds=3, noise=3e-3)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def refused(self, said, *words):
        done = call(*words, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(said, done.stderr)
        self.assertEqual(done.stdout, '')

    def test_advise_names_method_model_loss_and_how_sure(self):
        head, *rows = call('advise', self.noisy, '--examples', '50K', '--model', '8B').stdout.splitlines()
        got = re.match(r'take (\S+) 4 with 8000000000 parameters: expected loss ([\d.]+) \(90 %: ([\d.]+) to ([\d.]+)\) at 50000 ex', head)
        self.assertEqual(got[1], 'lora')
        want = loss('lora', 8e9, 50e3)
        self.assertAlmostEqual(float(got[2]), want, delta=3e-3)
        self.assertLess(float(got[3]), float(got[4]))
        self.assertLess(abs(float(got[2]) - want), 2 * (float(got[4]) - float(got[3])))
        self.assertNotIn('beyond', head)
        table = [row for row in rows if '8000000000' in row]
        self.assertEqual(len(table), 3)
        self.assertIn('100 %', table[0])
        self.assertAlmostEqual(float(table[0].split('%')[1].split()[0]), 8e9 * 50e3 * 1e-12, delta=4)  # seconds
        losses = [float(row.split('8000000000')[1].split()[0]) for row in table]
        self.assertEqual(losses, sorted(losses))

    def test_advise_over_all_models_and_by_profile(self):
        said = call('advise', self.noisy, '--examples', 50000).stdout
        self.assertIn('take lora 4 with 16000000000 parameters', said)
        self.assertEqual(len(re.findall(r'^(?:full|lora 4|prompt 4) ', said, re.M)), 15)
        head = call('advise', self.noisy, '--examples', 50000, '--intervals', 'profile', '--level', 95).stdout.splitlines()[0]
        low, high = map(float, re.search(r'\(95 %: ([\d.]+) to ([\d.]+)\)', head).groups())
        self.assertTrue(low <= loss('lora', 16e9, 50e3) <= high)
        self.assertLess(high - low, 0.01)

    def test_advise_as_json_says_the_same(self):
        words = ('advise', self.noisy, '--examples', '50K', '--model', '8B', '--budget', 500)
        rows = [line.split() for line in call(*words).stdout.splitlines() if ' 8000000000 ' in line and not line.startswith('take')]
        made = json.loads(call(*words, '--json').stdout)
        self.assertEqual((made['examples'], made['model'], made['budget_seconds']), (50e3, 8e9, 500))
        self.assertEqual([o['method'] for o in made['options']], [row[0] for row in rows])
        for option, row in zip(made['options'], rows):
            at = row.index('8000000000')
            self.assertEqual(f'{option["loss"]:.4f}', row[at + 1])
            self.assertEqual(f'[{option["low"]:.4f},', row[at + 2])
            self.assertEqual(f'{100 * option["best_share"]:.0f}', row[at + 4])
            self.assertTrue(option['within_budget'] and not option['beyond_size'] and not option['beyond_examples'])
        self.assertEqual(sum(o['best_share'] for o in made['options']), 1)

    def test_a_plot_that_fails_is_told_and_leaves_nothing(self):
        broken, run = f'{self.folder.name}/broken', f'{self.folder.name}/unplotted'
        os.mkdir(broken)
        with open(f'{broken}/gnuplot', 'w') as f:
            f.write('#!/bin/sh\necho; echo "      ^"; echo "line 3: undefined variable: y" >&2; exit 1\n')
        os.chmod(f'{broken}/gnuplot', 0o755)
        os.mkdir(run)
        shutil.copy(f'{self.exact}/results.h5', run)
        done = subprocess.run([PROGRAM, 'report', f'{run}/results.h5'], env=dict(os.environ, PATH=f'{broken}:{os.environ["PATH"]}'),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240)
        self.assertEqual((done.returncode, done.stderr), (1, 'tunelaw: gnuplot failed: line 3: undefined variable: y\n'))
        self.assertEqual(os.listdir(run), ['results.h5'])

    def test_all_who_fit_read_alike(self):
        """The same words give report and advise the points and laws that they give fit."""
        words = ('--seeds', 'mean', '--metric', 'valid_loss', '--resample', 'points', '--level', 80, '--law', 'additive')
        fitted = call('fit', self.noisy, *words, '--json').stdout
        made = json.loads(fitted)
        self.assertEqual(len(made['rows']), 150)
        self.assertEqual({f['law'] for f in made['fits']}, {'additive'})
        if shutil.which('gnuplot'):
            call('report', self.noisy, *words)
            with open(f'{self.noisy}/fit.json') as f:
                self.assertEqual(f.read(), fitted)
            elsewhere = f'{self.folder.name}/elsewhere.html'
            call('report', self.noisy, '--law', 'multiplicative', '--out', elsewhere)
            with open(f'{self.noisy}/fit.json') as f, open(elsewhere) as page, open(f'{self.noisy}/report.html') as beside:
                self.assertEqual(f.read(), fitted)  # which the page in the directory cites
                self.assertIn('fit.json with every number', beside.read())
                text = page.read()
                self.assertNotIn('fit.json', text)
                self.assertIn('elsewhere-report/ with the script', text)
        advice = json.loads(call('advise', self.noisy, *words, '--examples', 50000, '--json').stdout)
        self.assertEqual((advice['metric'], advice['interval_level']), ('valid_loss', .8))
        self.assertEqual({option['law'] for option in advice['options']}, {'additive'})
        for command in ('fit', 'report', 'advise'):
            more = ('--examples', 5) if command == 'advise' else ()
            for option in ('x', 'seeds', 'metric', 'loss', 'resample', 'intervals', 'level', 'law'):
                self.refused('allowed: ', command, self.noisy, *more, f'--{option}', 'nothing')

    def test_advise_keeps_the_budget(self):
        said = call('advise', self.exact, '--examples', '50K', '--budget', 120).stdout  # 1e-12 s by parameter and example
        self.assertIn('take lora 4 with 2000000000 parameters', said)
        over = [line for line in said.splitlines() if 'over the budget' in line]
        self.assertEqual(len(over), 9)
        self.assertTrue(all('0 %' in line for line in over))
        self.assertIn('nothing is within 1 seconds', call('advise', self.exact, '--examples', '50K', '--budget', 1).stdout)

    def test_advise_says_when_it_extrapolates(self):
        said = call('advise', self.exact, '--examples', '1B', '--model', '64B').stdout
        self.assertIn('beyond the points that were fitted', said.splitlines()[0])
        self.assertEqual(said.count('extrapolates in size  extrapolates in examples'), 3)
        self.assertNotIn('extrapolates', call('advise', self.exact, '--examples', '10K', '--model', '1B').stdout)

    def test_what_a_stored_sweep_file_names_is_not_opened(self):
        """A store may come from anybody: its text is read for the group `fit`, and leads to no other file."""
        outside = f'{self.folder.name}/outside.cfg'
        with open(outside, 'w') as f:
            f.write('fit = { huber_delta = 0.5; };\n')
        watch = Watch(outside)
        named = f'data = {{ dataset = "{outside}"; }};\nmodels = ( {{ name = "a"; import = "{outside}"; }} );\n'
        commands = [('fit', '--bootstrap', 0), ('report', '--bootstrap', 0), ('advise', '--examples', '50K', '--bootstrap', 0)]
        for number, text in enumerate((f'@include "{outside}"\n', f'x = 1;\n \t@include "{outside}"\n', named)):
            store = make_store(f'{self.folder.name}/hostile-{number}', config=text)
            for command, *words in commands:
                said = call(command, store, *words).stdout
                self.assertFalse(watch.opened(), (text, command))
                if command == 'fit':  # a text that includes another is refused, and the fit's defaults hold
                    self.assertEqual('@include is not allowed' in said, '@' in text)
                    self.assertIn('Huber 0.001', said)
        with open(outside):
            self.assertTrue(watch.opened())  # that it can be seen
        os.close(watch.fd)

    def test_a_metric_that_was_not_measured_is_told(self):
        done = call('fit', f'{self.exact}/results.h5', '--metric', 'pretrain_loss', check=False)
        self.assertEqual((done.returncode, done.stderr), (1, 'tunelaw: no law could be fitted (above)\n'))
        self.assertIn('\npretrain_loss was not measured for 150 points, so there is nothing to fit\n', done.stdout)
        if shutil.which('gnuplot'):
            page = f'{self.folder.name}/unmeasured.html'
            call('report', self.exact, '--metric', 'pretrain_loss', '--out', page)
            with open(page) as f:
                self.assertIn('<li>pretrain_loss was not measured for 150 points: they are in no fit</li>', f.read())

    def test_advise_takes_a_model_by_its_name(self):
        with h5py.File(f'{self.exact}/results.h5', 'r') as f:
            point = f['points'][0]
        name = point['model'].decode()
        by_name, by_size = (call('advise', self.exact, '--examples', '50K', '--json', '--model', word).stdout
                            for word in (name, point['parameters']))
        self.assertEqual(by_name, by_size)
        self.refused(f'--model is "nobody"; allowed: "{name}"', 'advise', self.exact, '--examples', '50K', '--model', 'nobody')

    def test_advise_refuses(self):
        self.refused('give --examples', 'advise', self.exact)
        self.refused('which run directory', 'advise', '--examples', 5)
        self.refused('/nonexistent', 'advise', '/nonexistent', '--examples', 5)
        for option, word in (('examples', '-5'), ('examples', 'many'), ('examples', '0.5'), ('examples', '1.0001K'), ('model', '0'),
                             ('budget', '1h')):
            self.refused(f'--{option} is "{word}"; allowed', 'advise', self.exact, '--examples', 5, f'--{option}={word}')
        self.refused('allowed: bootstrap, profile', 'advise', self.exact, '--examples', 5, '--intervals', 'both')

    def test_methods_meet_where_the_published_laws_do(self):
        """0, 1 and 2 roots within what is searched: a hundredth of the fewest to 10^4 times the most examples."""
        call('fit', self.exact, '--intervals', 'both')
        with open(f'{self.exact}/fit.json') as f:
            crossings = json.load(f)['crossings']
        want = {('full', 'prompt'): {1e9: [2.413e5], 2e9: [3.590e5], 4e9: [1.966e6, 4.85e10], 8e9: [], 16e9: []},
                ('full', 'lora'): {size: [] for size in (1e9, 2e9, 4e9, 8e9, 16e9)},
                ('lora', 'prompt'): {1e9: [1093], 2e9: [2753], 4e9: [6938], 8e9: [17483], 16e9: [44054]}}
        self.assertEqual(len(crossings), 15)
        for entry in crossings:
            roots = want[entry['first'].split()[0], entry['second'].split()[0]][entry['parameters']]
            self.assertEqual(len(entry['examples']), len(roots), entry)
            for got, root in zip(entry['examples'], roots):
                self.assertLess(abs(math.log(got['value'] / root)), 0.01)
                profile = got['profile']
                self.assertTrue(profile['low'] < got['value'] < (profile['high'] or math.inf), got)
                self.assertEqual(profile['high'] is None, profile['high_open'])

    def test_what_is_drawn_changes_intervals_alone(self):
        fits = {}
        for what in ('trunks', 'seeds', 'points', 'runs'):
            made = json.loads(call('fit', self.noisy, '--resample', what, '--json').stdout)
            self.assertEqual(made['options']['resample'], what)
            fits[what] = next(f for f in made['fits'] if f['method'] == 'full' and f['law'] == 'multiplicative')
        self.assertEqual([fits[what]['clusters'] for what in fits], [5, 3, 150, 15])
        values = {what: fits[what]['parameters']['alpha']['value'] for what in fits}
        lows = {fits[what]['parameters']['alpha']['low'] for what in fits}
        self.assertEqual(len(set(values.values())), 1)
        self.assertEqual(len(lows), 4)
        self.refused('allowed: trunks, seeds, points, runs', 'fit', self.noisy, '--resample', 'rows')

    def test_profiles_stand_beside_or_in_place(self):
        for kind in ('profile', 'both'):
            made = json.loads(call('fit', self.noisy, '--intervals', kind, '--json').stdout)
            fit = next(f for f in made['fits'] if f['method'] == 'lora' and f['law'] == 'multiplicative')
            for name, want in zip(('A', 'alpha', 'beta', 'E'), PUBLISHED['lora']):
                got = fit['parameters'][name]
                self.assertTrue(got['profile']['low'] < got['value'] < got['profile']['high'])
                self.assertLess(abs(got['value'] - want), 2 * (got['profile']['high'] - got['profile']['low']))
                self.assertEqual(got['low'] == got['profile']['low'], kind == 'profile')
            self.assertEqual(fit['resamples'], 0 if kind == 'profile' else 200)
        self.refused('allowed: bootstrap, profile, both', 'fit', self.noisy, '--intervals', 'none')


class Sweeps(unittest.TestCase):
    def test_identify_expects_the_errors_that_fits_have(self):
        """A planned grid, its losses made 60 times from the law that --identify names, fitted by the program."""
        noise, trials = 0.002, 60
        with Place() as place:
            with open(place.config) as f:
                text = f.read()
            for old, new in (('examples = [ 64, 256 ]', 'examples = [ 32, 64, 128, 256, 512 ]'),
                             ('models = (', 'models = ({ name = "l"; layers = 4; width = 64; heads = 4; kv_heads = 2; ffn = 128; },'),
                             ('tokens = [ 12800, 25600 ]', 'tokens = [ 12800, 25600, 51200 ]')):
                self.assertIn(old, text)
                text = text.replace(old, new)
            with open(place.config, 'w') as f:
                f.write(text)
            said = place.call('plan', place.config, '--identify', '--noise', str(100 * noise)).stdout
            points = json.loads(place.call('plan', place.config, '--json').stdout)['points']
            block = said[said.index('\nfull: L = A·N^-α·P^-γ·D^-β + E'):].split('\n\n')[0]
            theta = {s: float(v) for s, v in re.findall(r'^  (\S+) ([\d.e+-]+), expected', block, re.M)}
            expected = {s: float(v) for s, v in re.findall(r'^  (\S+) [\d.e+-]+, expected standard error ([\d.e+-]+)$', block, re.M)}
            self.assertEqual(set(theta), {'A', 'α', 'γ', 'β', 'E'})
            gains = [float(v) for v in re.findall(r'gain ([\d.e+-]+) a second', block)]
            self.assertEqual((len(gains), gains), (5, sorted(gains, reverse=True)))
            rows = [(p['parameters'], p['pretrain_tokens'], p['finetune_examples']) for p in points
                    if p['method'] == 'full' and not p['held_out']]
            self.assertGreater(len(rows), 40)
            draw, found = random.Random(4), {'alpha': [], 'gamma': [], 'beta': []}
            for _ in range(trials):
                with open(place.dir('made.csv'), 'w') as f:
                    f.write('n,p,d,l\n')
                    for n, p, d in rows:
                        made = theta['A'] * n ** -theta['α'] * p ** -theta['γ'] * d ** -theta['β'] + theta['E']
                        f.write(f'{n},{p},{d},{made * math.exp(noise * draw.gauss(0, 1))!r}\n')
                fit = json.loads(place.call('fit', '--table', place.dir('made.csv'), '--columns', 'N=n,P=p,D=d,L=l', '--law', 'joint',
                                            '--log', '--delta', 'inf', '--bootstrap', '0', '--json').stdout)['fits'][0]
                for name in found:
                    found[name].append(fit['parameters'][name]['value'])
            for name, symbol in (('alpha', 'α'), ('gamma', 'γ'), ('beta', 'β')):
                ratio = statistics.stdev(found[name]) / expected[symbol]
                print(f'{name}: spread of {trials} fits {statistics.stdev(found[name]):.4g}, expected {expected[symbol]:.4g}')
                self.assertTrue(0.7 < ratio < 1.4, f'{name}: {ratio}')

    def test_identify_takes_laws_of_the_sweep_file(self):
        """A law of the table written as text is expected to be known as well; learning rates of a cell are one loss."""
        laws = ('fit = { laws = ( { name = "text"; expression = "A * N^-alpha * P^-gamma * D^-beta + E"; start = { A = [ 20.0 ]; '
                'alpha = [ 0.1 ]; gamma = [ 0.1 ]; beta = [ 0.1 ]; E = [ 1.0 ]; }; }, '
                '{ name = "slice"; expression = "A * N^-alpha * D^-beta"; } ); };')
        with Place(more=laws) as place:
            with open(place.config) as f:
                text = f.read()
            for old, new in (('examples = [ 64, 256 ]', 'examples = [ 32, 64, 128, 256 ]'), ('learning_rates = [ 3e-3 ]',
                                                                                           'learning_rates = [ 1e-3, 3e-3 ]')):
                self.assertIn(old, text)
                text = text.replace(old, new)
            with open(place.config, 'w') as f:
                f.write(text)
            said = place.call('plan', place.config, '--identify', '--rate', '5').stdout
            made = json.loads(place.call('plan', place.config, '--identify', '--rate', '5', '--json').stdout)
            found = {(law['method'], law['law']): law for law in made['laws']}
            self.assertEqual(set(found), {(m, law) for m in ('full', 'lora', 'prompt') for law in ('joint', 'text', 'slice')})
            joint, text, cut = (found['full', law] for law in ('joint', 'text', 'slice'))
            self.assertEqual((joint['points'], text['points'], cut['points']), (14, 14, 7))  # 2 x 2 x 4 less held out; one P
            self.assertIn('full, text: L = A * N^-alpha * P^-gamma * D^-beta + E, 14 points, parameters guessed', said)
            for name in ('alpha', 'gamma', 'beta'):
                a, b = (law['parameters'][name] for law in (joint, text))
                self.assertTrue(a['identified'] and b['identified'])
                self.assertTrue(0.5 < a['standard_error'] / b['standard_error'] < 2, name)
                self.assertIn(f'{b["value"]:.4g}, expected standard error {b["standard_error"]:.2g}', said)
            self.assertEqual({p['pretrain_tokens'] for p in cut['points_that_help_most']}, {25600})

    def test_what_is_cut_and_seen_more_often_is_told(self):
        with Place() as place:
            with open(place.config) as f:
                text = f.read()
            for old, new in (('{ name = "full";', '{ name = "full"; sequence_length = 14;'), ('batch = 16; epochs = 3.0', 'batch = 256; epochs = 3.0'),
                             ('warmup_steps = 3;', '')):
                self.assertIn(old, text)
                text = text.replace(old, new)
            with open(place.config, 'w') as f:
                f.write(text)
            wanted = [r'sweep\.cfg: data "small": examples longer than sequence_length 14 of method full are cut: \d+ of 600 train '
                      r"\([\d.]+ % of the targets' tokens are lost\), \d+ of 40 valid \([\d.]+ %\), \d+ of 60 test \([\d.]+ %\)$",
                      r'sweep\.cfg: batch 256 of methods full, lora, prompt: a step is a whole batch, and epochs 3 come to 4 at 64 examples$']
            place.run(place.dir('run'))
            said = place.call('plan', place.config, '--rate', '1')
            made = place.call('plan', place.config, '--rate', '1', '--json')
            json.loads(made.stdout)
            for text in (said.stdout, made.stderr, place.output(place.dir('run'))):
                for line in wanted:
                    self.assertEqual(len(re.findall(line, text, re.M)), 1, (line, text))
            points, results = (harness.table(place.dir('run'), name) for name in ('points', 'results'))
            tested = {p['method'].decode(): int(r['test_tokens']) for p, r in zip(points, results)}
            self.assertLess(tested['full'], tested['lora'])
            listed = ', '.join(f'{method} {tested[method]}' for method in ('full', 'lora', 'prompt', 'none'))
            said = place.call('fit', place.dir('run'), '--bootstrap', '0', check=False).stdout
            self.assertIn(f'warning: task "small": points were tested on different numbers of target tokens ({listed})', said)

    def test_watch_follows_a_sweep_to_its_end(self):
        with Place(length=6) as place:
            dir = place.dir('run')
            process = place.start(dir)
            wait_for(lambda: os.path.exists(f'{dir}/results.h5'), what='the store')
            watch = subprocess.Popen([PROGRAM, 'fit', dir, '--watch=0.2', '--bootstrap', '20'], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
            said, errors = watch.communicate(timeout=240)
            self.assertEqual((watch.returncode, errors), (0, ''))
            self.assertEqual(process.wait(timeout=60), 0, place.output(dir))
            fitted = [int(n) for n in re.findall(r'^\d+ points: (\d+) to fit', said, re.M)]
            print(f'{len(fitted)} fits of {fitted} points')
            self.assertGreater(len(fitted), 2)
            self.assertEqual(fitted, sorted(fitted))
            self.assertEqual(fitted[-1], len([p for p in harness.table(dir, 'points') if p['finetune_examples'] and not p['held_out']]))
            self.assertIn('not finished', said)
            self.assertNotIn('not finished', said[said.rindex('points:'):])
            with open(f'{dir}/fit.json') as f:
                self.assertEqual(len(json.load(f)['left_out']), 0)


if __name__ == '__main__':
    unittest.main()
