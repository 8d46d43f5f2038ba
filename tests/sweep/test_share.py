"""Finetuning sizes that train their common beginning once: the rows are those of points that are trained alone, whatever is killed, lost or
changed on the way, and nothing of the common beginning stays."""
import json
import os
import random
import re
import time
import unittest

import harness
from harness import Place

SEED = 7
FINETUNE = '''finetune = { examples = [ 64, 128, 256, 448 ]; sequence_length = 64; batch = 16; epochs = 1.0; schedule = "wsd"; decay_share = 0.25;
             final_ratio = 0.1; warmup_steps = 3; evaluation_steps = 3; order = "stream"; share = true; clip_norm = 1.0; seeds = [ 1 ]; };'''


def share(place, finetune=FINETUNE, resources='', name='sweep.cfg'):
    """The place's sweep with this finetuning; the path of its file."""
    with open(place.config) as f:
        text = re.sub(r'finetune = \{.*?\};', finetune, f.read(), count=1, flags=re.S)
    text = text.replace('keep_weights = true;', 'keep_weights = true; ' + resources)
    with open(place.dir(name), 'w') as f:
        f.write(text)
    return place.dir(name)


def plan_of(place, config):
    return json.loads(place.call('plan', config, '--json').stdout)


def files(dir):
    return {name.split('.')[0] for name in os.listdir(f'{dir}/checkpoints')}


class Share(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Place()
        cls.shared_config = share(cls.place)
        cls.alone_config = share(cls.place, FINETUNE.replace('share = true', 'share = false'), name='alone.cfg')
        cls.shared, cls.alone = cls.place.dir('shared'), cls.place.dir('alone')
        cls.place.run(cls.alone, config=cls.alone_config)
        cls.place.run(cls.shared, config=cls.shared_config)
        cls.plan = plan_of(cls.place, cls.shared_config)

    @classmethod
    def tearDownClass(cls):
        cls.place.__exit__()

    def test_the_rows_are_those_of_points_trained_alone(self):
        self.assertEqual(harness.result_bytes(self.shared), harness.result_bytes(self.alone))
        self.assertEqual(harness.table(self.shared, 'points').tobytes(), harness.table(self.alone, 'points').tobytes())
        self.assertEqual(harness.table(self.shared, 'curves').tobytes(), harness.table(self.alone, 'curves').tobytes())
        dir = self.place.dir('ranks')
        self.place.run(dir, ranks=2, config=self.shared_config)
        self.assertEqual(harness.result_bytes(dir), harness.result_bytes(self.alone))

    def test_executed_stages_equal_the_plan(self):
        log = harness.executed(self.shared)
        self.assertEqual(len(log), len({e['stage'] for e in log}))
        ran, planned = {e['stage']: e for e in log}, {s['identity']: s for s in self.plan['stages']}
        self.assertEqual(set(ran), set(planned))
        for identity, stage in planned.items():
            self.assertEqual((ran[identity]['kind'], ran[identity]['status']), (stage['kind'], 'done'))
            self.assertEqual((ran[identity]['from_step'], ran[identity]['to_step']), (stage['first_step'], stage['last_step']))
        # (0, 3], (3, 6], (6, 12] of 4, 8, 16 and 28 steps, for each of 3 methods and 4 bases
        prefixes = [s for s in self.plan['stages'] if s['kind'] == 'prefix']
        self.assertEqual({(s['first_step'], s['last_step']) for s in prefixes}, {(0, 3), (3, 6), (6, 12)})
        self.assertEqual(len(prefixes), 3 * 3 * 4)

    def test_what_it_saves_is_computed_once_and_said(self):
        steps = lambda dir: sum(e['to_step'] - e['from_step'] for e in harness.executed(dir) if e['kind'] != 'pretrain')
        self.assertEqual(steps(self.alone), 12 * (4 + 8 + 16 + 28))
        self.assertEqual(steps(self.shared), 12 * (12 + 1 + 2 + 4 + 16))
        alone = plan_of(self.place, self.alone_config)
        self.assertEqual(alone['flops_alone'], self.plan['flops_alone'])
        self.assertLess(self.plan['flops'], alone['flops'])
        executed = sum(e['flops'] for e in harness.executed(self.shared))
        self.assertAlmostEqual(executed / self.plan['flops'], 1.0, delta=0.02)
        text = self.place.call('plan', self.shared_config).stdout
        saved = round(100 * (1 - self.plan['flops'] / self.plan['flops_alone']))
        self.assertIn(f'sharing saves {saved} %', text)
        self.assertIn('36 of finetuning', text)

    def test_nothing_of_what_was_shared_stays(self):
        kept = {s['identity'] for s in self.plan['stages'] if s['kind'] != 'prefix'}
        self.assertLessEqual(files(self.shared), kept)
        points = harness.table(self.shared, 'points')
        for row in (3, 7, 12):  # best weights are a point's own
            self.place.call('verify', self.shared, '--reevaluate', points['identity'][row].decode())

    def test_tasks_of_an_array(self):
        for index in ('0/3', '1/3', '2/3', '3/3'):
            stages = json.loads(self.place.call('plan', self.shared_config, '--array-task', index, '--json').stdout)['stages']
            self.assertEqual({s['kind'] for s in stages} - {'pretrain'}, set() if index == '0/3' else {'prefix', 'finetune'})
        prefixes = [s['identity'] for index in (1, 2, 3) for s in json.loads(
            self.place.call('plan', self.shared_config, '--array-task', f'{index}/3', '--json').stdout)['stages'] if s['kind'] == 'prefix']
        self.assertEqual(len(prefixes), len(set(prefixes)))  # what shares goes to one task


class Trunks(unittest.TestCase):
    def test_a_token_count_alone_gives_the_same_bytes(self):
        """Pretraining that two token counts share, against a sweep of each count by itself."""
        with Place() as place:
            place.run(place.dir('both'))
            both = {bytes(r['identity']): bytes(r) for r in harness.table(place.dir('both'), 'results')}
            with open(place.config) as f:
                text = f.read()
            counts = re.search(r'pretrain = \{ tokens = \[ (\d+), (\d+) \]', text)
            alone, trained = {}, []
            for count in counts.groups():
                config, dir = place.dir(f'{count}.cfg'), place.dir(count)
                with open(config, 'w') as f:
                    f.write(text.replace(counts.group(0), f'pretrain = {{ tokens = [ {count} ]'))
                place.run(dir, config=config)
                alone.update({bytes(r['identity']): bytes(r) for r in harness.table(dir, 'results')})
                trained += [e['to_step'] - e['from_step'] for e in harness.executed(dir) if e['kind'] == 'pretrain']
            self.assertEqual(alone, both)
            shared = [e['to_step'] - e['from_step'] for e in harness.executed(place.dir('both')) if e['kind'] == 'pretrain']
            self.assertLess(sum(shared), sum(trained))


class Losses(unittest.TestCase):
    def test_kills_lost_states_and_a_change_of_mind(self):
        rng = random.Random(SEED)
        print(f'seed {SEED}', flush=True)
        longer = FINETUNE.replace('batch = 16', 'batch = 2')
        with Place(attempts=20) as place:
            shared = share(place, longer, 'checkpoint_steps = 5;')
            alone = share(place, longer.replace('share = true', 'share = false'), name='alone.cfg')
            place.run(place.dir('alone'), ranks=2, config=alone)
            expected = harness.result_bytes(place.dir('alone'))
            stages = plan_of(place, shared)['stages']
            kinds = {s['identity']: s['kind'] for s in stages}
            for number in range(3):
                dir, hits = place.dir(f'killed{number}'), 0
                for moment in sorted(rng.randrange(2, len(stages)) for _ in range(3)):
                    process = place.start(dir, ranks=2, config=shared)
                    harness.wait_for(lambda: process.poll() is not None or (
                        os.path.exists(f'{dir}/logs/stages.jsonl') and len(harness.executed(dir)) >= moment), 120, 'stages')
                    time.sleep(rng.uniform(0, 0.2))
                    if process.poll() is None:
                        harness.kill(harness.kinds_below(process)['agent'])
                        hits += 1
                        process.wait(timeout=60)
                    there = [name for name in os.listdir(f'{dir}/checkpoints') if name.endswith('.h5') and '.best-' not in name]
                    if number == 1:  # bases under finished prefixes, prefixes under points in flight
                        for name in there:
                            if kinds[name[:32]] == ('pretrain' if moment % 2 else 'prefix'):
                                os.unlink(f'{dir}/checkpoints/{name}')
                place.run(dir, ranks=2, config=alone if number == 2 else shared)
                self.assertEqual(harness.result_bytes(dir), expected)
                self.assertGreater(hits, 0)
                if number == 2:
                    continue  # prefixes of a sweep that shares no more stay
                self.assertLessEqual(files(dir), {i for i, kind in kinds.items() if kind != 'prefix'})
                done = [e['stage'] for e in harness.executed(dir) if e['status'] == 'done']
                if number == 0:
                    self.assertEqual(len(done), len(set(done)), 'a completed stage was run again')

    def test_a_damaged_prefix_is_trained_again(self):
        with Place(attempts=20) as place:
            config = share(place)
            place.run(place.dir('whole'), config=config)
            plan, dir = plan_of(place, config), place.dir('r')
            prefixes = {s['identity'] for s in plan['stages'] if s['kind'] == 'prefix'}
            process = place.start(dir, config=config)

            def finished():
                return os.path.exists(f'{dir}/logs/stages.jsonl') and [
                    e['stage'] for e in harness.executed(dir)
                    if e['stage'] in prefixes and os.path.exists(f'{dir}/checkpoints/{e["stage"]}.h5')]
            found = harness.wait_for(finished, what='a prefix')
            harness.kill(harness.kinds_below(process)['agent'])
            process.wait(timeout=60)
            for identity in found:
                path = f'{dir}/checkpoints/{identity}.h5'
                if os.path.exists(path):
                    os.truncate(path, os.path.getsize(path) // 2)
            place.run(dir, config=config)
            self.assertEqual(harness.result_bytes(dir), harness.result_bytes(place.dir('whole')))

    def test_points_that_diverge(self):
        with Place() as place:
            for name in ('shared', 'alone'):
                config = share(place, FINETUNE.replace('share = true', f'share = {str(name == "shared").lower()}'), name=f'{name}.cfg')
                with open(config) as f:
                    text = f.read().replace('name = "full"; learning_rates = [ 3e-3 ]',
                                            'name = "full"; learning_rates = [ 1e3 ]; optimiser = "sgd"; clip_norm = 0.0')
                with open(config, 'w') as f:
                    f.write(text)
                place.run(place.dir(name), config=config)
            self.assertEqual(harness.result_bytes(place.dir('shared')), harness.result_bytes(place.dir('alone')))
            log = harness.executed(place.dir('shared'))
            self.assertEqual({e['status'] for e in log}, {'done', 'diverged'})
            last = {s['identity']: s['last_step'] for s in plan_of(place, place.dir('shared.cfg'))['stages']}
            short = [e for e in log if e['kind'] == 'prefix' and e['to_step'] < last[e['stage']]]
            self.assertGreater(len(short), 0)  # where the common beginning diverges, it ends, and its points with it


if __name__ == '__main__':
    unittest.main(verbosity=2)
