"""Texts of a sweep's points: kept, measured, made again from the weights; what a changed group does to finished points; tasks over several devices."""
import json
import math
import os
import unittest

import harness
from harness import Place

GROUP = 'generate = {{ metrics = [ "bleu", "chrf" ]; beams = {beams}; max_new_tokens = 20; examples = 20; save = true; }}; '


def with_texts(place, name, beams):
    """The place's sweep file with the group, as another file."""
    with open(place.config) as f:
        text = f.read()
    assert 'seeds = [ 1 ]; };' in text
    with open(place.dir(name), 'w') as f:
        f.write(text.replace('seeds = [ 1 ]; };', 'seeds = [ 1 ]; ' + GROUP.format(beams=beams) + '};'))
    return place.dir(name)


class Texts(unittest.TestCase):
    def test_texts_of_every_point_and_again(self):
        with Place(length=3) as place:
            dir, plain = place.dir('r'), place.dir('plain')
            with open(f'{place.folder}/pairs.test.tsv') as f:
                pairs = [line.rstrip('\n').split('\t') for line in f][:20]
            place.run(dir, ranks=2, config=with_texts(place, 'texts.cfg', 2))
            points, results = harness.table(dir, 'points'), harness.table(dir, 'results')
            self.assertTrue(all(results['generated'] == 20) and all(results['beams'] == 2) and all(results['max_new_tokens'] == 20))
            self.assertFalse(any(math.isnan(x) for x in results['bleu']))
            self.assertTrue(all(math.isnan(x) for x in results['rouge1']), 'a metric that nobody asked for')
            self.assertGreater(results['chrf'].max(), results['chrf'].min())
            for point, result in zip(points, results):
                with open(f'{dir}/generations/{point["identity"].decode()}.jsonl') as f:
                    lines = [json.loads(line) for line in f]
                self.assertEqual([[line['source'], line['reference']] for line in lines], pairs)
            self.assertEqual(os.listdir(f'{dir}/generations').__len__(), len(points), 'drafts are left')

            best = int(results['chrf'].argmax())
            said = place.call('generate', dir, '--point', str(best), '--examples', '20', '--out', place.dir('again.jsonl')).stdout
            self.assertIn('the same texts as those of the result', said)
            self.assertIn(f'chrf    {results["chrf"][best]:.2f}', said)
            with open(place.dir('again.jsonl')) as again, open(f'{dir}/generations/{points["identity"][best].decode()}.jsonl') as first:
                self.assertEqual(again.read(), first.read())
            with open(place.dir('mine.txt'), 'w') as f:
                f.write(pairs[0][0] + '\n')
            mine = place.call('generate', dir, '--point', str(best), '--text', place.dir('mine.txt'), '--examples', '1')
            self.assertNotIn('not 1', mine.stderr)
            mine = json.loads(mine.stdout)
            for words, has in ((['--text', place.dir('mine.txt')], 'mine.txt has 1 line'),
                               (['--split', 'valid'], 'the split valid has 60 examples')):
                more = place.call('generate', dir, '--point', str(best), '--examples', '61', '--out', place.dir('more.jsonl'), *words)
                self.assertIn(f'{has}, not 61: these are all\n', more.stderr)
            with open(place.dir('again.jsonl')) as f:
                self.assertEqual(mine['hypothesis'], json.loads(f.readline())['hypothesis'])
            self.assertNotEqual(place.call('generate', dir, '--point', '0', '--out', '/dev/null', check=False).returncode, 0)

            before, stages = harness.result_bytes(dir), len(harness.executed(dir))
            place.run(dir, config=with_texts(place, 'greedy.cfg', 1))
            self.assertIn('evaluation     finetune.generate.beams: 2 -> 1', place.output(dir))
            self.assertIn('finished points keep what they have', place.output(dir))
            self.assertEqual(len(harness.executed(dir)), stages, 'something was run again')
            self.assertEqual(harness.result_bytes(dir), before)

            said = place.call('evaluate', dir).stdout
            self.assertIn(f'{len(points)} points measured, 0 were so already, 0 could not be', said)
            again = harness.table(dir, 'results')
            self.assertTrue(all(again['beams'] == 1))
            self.assertNotEqual(list(again['generations']), list(results['generations']))
            for name in ('identity', 'test_loss', 'pretrain_loss', 'best_digest', 'steps'):
                self.assertEqual(list(again[name]), list(results[name]))
            place.call('verify', dir)
            said = place.call('generate', dir, '--point', str(best), '--examples', '20', '--out', place.dir('greedy.jsonl')).stdout
            self.assertIn('the same texts as those of the result', said)
            with open(place.dir('greedy.jsonl')) as ours, open(f'{dir}/generations/{points["identity"][best].decode()}.jsonl') as kept:
                self.assertEqual(ours.read(), kept.read())
            self.assertIn(f'0 points measured, {len(points)} were so already', place.call('evaluate', dir).stdout)
            place.run(dir, config=place.dir('greedy.cfg'))
            self.assertEqual(len(harness.executed(dir)), stages, 'something was run again')

            place.run(plain)  # what is generated changes no training
            for name in ('identity', 'test_loss', 'pretrain_loss', 'best_digest'):
                self.assertEqual(list(harness.table(plain, 'results')[name]), list(results[name]))
            self.assertIn('has no group finetune.generate', place.call('evaluate', plain, check=False).stderr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
