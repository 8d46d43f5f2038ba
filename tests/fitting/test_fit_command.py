"""`tunelaw fit` as a user calls it: laws written as expressions, and what is asked wrongly."""
import json
import math
import os
import random
import subprocess
import tempfile
import unittest

PROGRAM = os.environ['TUNELAW']


def call(*words, code=0):
    done = subprocess.run([PROGRAM, 'fit', *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode != code:
        raise AssertionError(f'{words}: exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}')
    return done


class Expressions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix='tunelaw-')
        cls.table = f'{cls.folder.name}/points.csv'
        rng = random.Random(1)
        with open(cls.table, 'w') as f:
            f.write('size,tokens,loss,trunk\n')
            for n in (1e6, 3e6, 1e7, 3e7, 1e8):
                for d in (1e3, 1e4, 1e5, 1e6, 1e7):
                    loss = (40 * n ** -0.2 * d ** -0.1 + 0.7) * math.exp(rng.gauss(0, 1e-3))
                    f.write(f'{n},{d},{loss:.12f},{n}\n')

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def fit(self, *words, code=0):
        return call('--table', self.table, '--columns', 'N=size,D=tokens,L=loss,C=trunk', *words, code=code)

    def json(self, *words):
        return json.loads(self.fit('--json', *words).stdout)

    def test_a_law_of_the_table_as_text_is_that_law(self):
        text = self.json('--expression', 'A * N^-alpha * D^-beta + E')['fits']
        table = self.json('--law', 'multiplicative')['fits']
        self.assertEqual((len(text), text[0]['law'], text[0]['formula']), (1, 'expression', 'A * N^-alpha * D^-beta + E'))
        self.assertTrue(text[0]['converged'])
        self.assertAlmostEqual(text[0]['objective'] / table[0]['objective'], 1, places=5)
        self.assertAlmostEqual(text[0]['akaike'], table[0]['akaike'], places=2)
        for name, parameter in table[0]['parameters'].items():
            self.assertAlmostEqual(text[0]['parameters'][name]['value'] / parameter['value'], 1, places=2)
            self.assertAlmostEqual(text[0]['parameters'][name]['low'] / parameter['low'], 1, places=1)
        self.assertAlmostEqual(text[0]['levels_left_out']['mean_absolute_deviation'],
                               table[0]['levels_left_out']['mean_absolute_deviation'], places=4)

    def test_free_positive_start(self):
        fit = self.json('--expression', 'A * N^-alpha * D^-beta + E + c*log(N)', '--free', 'c', '--positive', 'alpha', '--start',
                        'A=10:100,c=0')['fits'][0]
        self.assertIn('log', fit['parameters']['alpha'])
        self.assertNotIn('log', fit['parameters']['c'])
        self.assertLess(abs(fit['parameters']['c']['value']), 0.02)
        page = self.fit('--expression', 'A * N^-alpha + E').stdout
        self.assertIn('expression: L = A * N^-alpha + E', page)
        self.assertLessEqual(max(map(len, page.splitlines())), 100)

    def test_profile_intervals(self):
        text = self.json('--expression', 'A * N^-alpha * D^-beta + E', '--intervals', 'profile')['fits'][0]['parameters']
        table = self.json('--law', 'multiplicative', '--intervals', 'profile')['fits'][0]['parameters']
        for name in table:
            for end in ('low', 'high'):
                self.assertAlmostEqual(text[name]['profile'][end] / table[name]['profile'][end], 1, places=2)

    def test_the_choice_between_laws(self):
        said = self.json()
        views = said['model_choice']
        self.assertEqual([law['law'] for law in views[0]['laws']], ['multiplicative', 'additive'])
        self.assertEqual(views[0]['better'], 'multiplicative')
        self.assertEqual(views[0]['laws'][0]['akaike_difference'], 0)
        self.assertGreater(views[0]['laws'][1]['akaike_difference'], 0)
        self.assertEqual({w['kind'] for w in said['warnings']} & {'shared_trunks'}, {'shared_trunks'})
        page = self.fit().stdout
        self.assertIn('which law', page)
        self.assertIn('share trunks (5 a fit)', page)

    def test_a_table_of_one_axis(self):
        path = f'{self.folder.name}/curve.csv'
        with open(path, 'w') as f:
            f.write('tokens,loss\n')
            f.writelines(f'{d},{8 * d ** -0.2 + 1.5!r}\n' for d in (100, 200, 400, 800, 1600, 3200))
        for column, law, formula, power in (('D', 'single', 'A·D^-β + E', 'beta'), ('N', 'joint', 'A·X^-α + E', 'alpha')):
            fits = json.loads(call('--table', path, '--columns', f'{column}=tokens,L=loss', '--json').stdout)['fits']
            self.assertEqual([(fit['law'], fit['formula']) for fit in fits], [(law, formula)])
            self.assertAlmostEqual(fits[0]['parameters'][power]['value'], 0.2, places=4)

    def test_a_knee_written_as_text_has_a_value_at_zero(self):
        path = f'{self.folder.name}/zero.csv'
        rng = random.Random(2)
        with open(path, 'w') as f:
            f.write('tokens,loss\n')
            f.writelines(f'{d},{(170 / (85 + d ** .66) + 2.1) * math.exp(rng.gauss(0, 1e-3))!r}\n'
                         for d in (0, 100, 200, 400, 800, 1600, 3200, 6400, 12800))
        words = ('--table', path, '--columns', 'D=tokens,L=loss', '--log', '--json')
        text, table = (json.loads(call(*words, *law).stdout)['fits'][0] for law in (
            ('--expression', 'B / (S + D^beta) + E', '--start', 'S=10:1000'), ('--law', 'rectified')))
        self.assertEqual(text['rows_used'], list(range(9)))
        self.assertAlmostEqual(text['objective'] / table['objective'], 1, places=6)
        for name in table['parameters']:
            self.assertAlmostEqual(text['parameters'][name]['value'] / table['parameters'][name]['value'], 1, places=3)
        for refused in ('B * D^-beta + E', 'B * D^beta + E', 'B * log(D) + E'):
            self.assertIn('D is not a positive number, as the law expression needs',
                          json.loads(call(*words, '--expression', refused, code=1).stdout)['fits'][0]['why'])

    def test_what_is_wrong_is_said(self):
        for words, says in (
                (('--expression', 'A * D^-beta)'), '--expression: character 12: an operator is expected; allowed: + - * / ^'),
                (('--expression', 'A*sin(D)'), 'no function is called sin; allowed: exp, log, sqrt'),
                (('--expression', 'A*D', '--free', 'B'), '--free: the expression has no parameter "B"; allowed: A'),
                (('--expression', 'A*D', '--free', 'A', '--positive', 'A'), 'A is named twice'),
                (('--expression', 'A*D', '--start', 'A=x'), '--start: "A"; allowed: NAME=NUMBER:NUMBER'),
                (('--expression', 'A*D', '--start', 'A=0'), '--start: a start of A at 0; allowed: above 0'),
                (('--expression', 'A*D', '--law', 'single'), 'give --law or --expression'),
                (('--expression', 'A*D', '--no-offset'), 'write the expression without its offset'),
                (('--expression', 'A*D', '--start', 'A=1,A=2'), '--start: A is named twice; allowed: once'),
                (('--free', 'A'), 'go with --expression'),
                (('--seeds', 'mean'), 'are for a run directory'),
                (('--law', 'cubic'), 'no law is called "cubic"; allowed: single'),
                (('--expression', '(' * 300), 'too deep; allowed: 48 levels')):
            done = self.fit(*words, code=1)
            self.assertIn(says, done.stderr)
            self.assertEqual(done.stdout, '')

    def test_a_table_that_is_none(self):
        twice = f'{self.folder.name}/twice.csv'
        with open(twice, 'w') as f:
            f.write('size,tokens,size,loss\n1,2,3,4\n')
        for path, says in ((self.folder.name, f'{self.folder.name}: a directory; allowed: a CSV file'),
                           (twice, f'{twice}:1: 2 columns are called "size"; allowed: one')):
            self.assertIn(says, call('--table', path, '--columns', 'N=size,D=tokens,L=loss', code=1).stderr)
        said = call('--table', twice, '--columns', 'D=tokens,L=loss', code=1)  # another column may be there twice
        self.assertIn('too few points', said.stdout)

    def test_profiles_are_shown_without_a_bootstrap(self):
        both, alone = (self.fit('--law', 'multiplicative', '--bootstrap', '0', '--intervals', kind).stdout for kind in ('both', 'profile'))
        self.assertEqual(both, alone)
        self.assertRegex(both, r'(?m)^table +multiplicative +\S+ \S+–\S+ ')


if __name__ == '__main__':
    unittest.main()
