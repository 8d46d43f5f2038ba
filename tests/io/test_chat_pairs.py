#!/usr/bin/python3
"""configs/chat_pairs.py and `tunelaw data --separator ''` against what transformers made of the same conversations (tests/golden/chats.json)."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / 'tests/golden/chats.json').read_text())['models']
NAMES = {'user': 'human', 'assistant': 'gpt'}


def lines(path, rows):
    path.write_text(''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows))
    return path


class ChatPairs(unittest.TestCase):
    def setUp(self):
        self.place = Path(tempfile.mkdtemp(prefix='chat-'))
        self.addCleanup(shutil.rmtree, self.place)

    def folder(self, name, config=None):
        golden = GOLDEN[name]
        folder = self.place / name
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / f'tests/golden/tokenizers/{golden["tokenizer"]}.json', folder / 'tokenizer.json')
        (folder / 'tokenizer_config.json').write_text(json.dumps(golden['config'] if config is None else config))
        return folder

    def convert(self, folder, chats, *words):
        out = self.place / 'pairs.jsonl'
        out.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, ROOT / 'configs/chat_pairs.py', folder, chats, out, *words], capture_output=True, text=True)
        return done, [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else None

    def chats(self, name, rows=None):
        return lines(self.place / 'chats.jsonl', rows or [{'messages': case['messages']} for case in GOLDEN[name]['cases']])

    def turns(self, name):
        return [turn for case in GOLDEN[name]['cases'] for turn in case['turns']]

    def tokens(self, folder, pairs):
        """Of the data set's training examples, each with its begin and end."""
        out = self.place / 'data.h5'
        split = [lines(self.place / f'{part}.jsonl', pairs) for part in ('train', 'valid', 'test')]
        text = lines(self.place / 'text.jsonl', [{'text': pair['source']} for pair in pairs])
        subprocess.run([os.environ['TUNELAW'], 'data', '--tokenizer', folder, '--separator', '', '--pairs-train', split[0], '--pairs-valid', split[1],
                        '--pairs-test', split[2], '--text', text, '--valid-text', text, '--out', out], check=True, capture_output=True)
        with h5py.File(out) as file:
            train = file['examples/train']
            ids, offsets = train['tokens'][:].tolist(), train['offsets'][:].tolist()
            return [ids[a:b] for a, b in zip(offsets, offsets[1:])], train['sources'][:].tolist()

    def test_pairs_and_their_tokens_are_those_of_transformers(self):
        for name, golden in GOLDEN.items():
            folder = self.folder(name)
            done, pairs = self.convert(folder, self.chats(name))
            self.assertEqual(done.returncode, 0, done.stderr)
            turns, begin, end = self.turns(name), golden['config']['bos_token'] or '', golden['config']['eos_token']
            self.assertEqual(len(pairs), len(turns))
            for pair, turn in zip(pairs, turns):
                whole = begin + pair['source'] + pair['target'] + end
                self.assertEqual(begin + pair['source'], turn['before'], name)
                self.assertEqual(whole, turn['whole'].rstrip(), name)
            tokens, sources = self.tokens(folder, pairs)
            for ours, source, turn in zip(tokens, sources, turns):
                theirs = turn['ids']
                self.assertEqual(ours, theirs[:len(ours)], name)
                self.assertLessEqual(len(theirs) - len(ours), 1, name)  # a newline behind the end
                self.assertLess(source, len(ours))

    def test_other_forms_of_conversations_and_templates(self):
        name = 'headers'
        _, wanted = self.convert(self.folder(name), self.chats(name))
        other = [{'conversations': [{'from': NAMES[m['role']], 'value': m['content']} for m in case['messages']]} for case in GOLDEN[name]['cases']]
        config = dict(GOLDEN[name]['config'])
        template = config.pop('chat_template')
        config['bos_token'] = {'content': config['bos_token']}
        folder = self.folder(name, config)
        (folder / 'chat_template.jinja').write_text(template)
        self.assertEqual(self.convert(folder, self.chats(name, other))[1], wanted)
        last = self.convert(folder, self.chats(name, other), '--last')[1]
        self.assertEqual(last, [wanted[0], wanted[2]])

    def test_what_is_wrong_is_one_line_and_leaves_nothing(self):
        name = 'instruct'
        good = {'messages': GOLDEN[name]['cases'][0]['messages']}
        bad = {'not JSON': '{', 'no list `messages`': '{"text": "x"}', 'a message without a role': '{"messages": ["x"]}',
               'no answer of the assistant': '{"messages": [{"role": "user", "content": "x"}]}',
               'roles must alternate': json.dumps({'messages': good['messages'][:1] + good['messages']})}
        for why, line in bad.items():
            chats = self.place / 'chats.jsonl'
            chats.write_text(json.dumps(good) + '\n\n' + line + '\n')
            done, pairs = self.convert(self.folder(name), chats)
            self.assertEqual(done.returncode, 1, why)
            self.assertIsNone(pairs, why)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(f'{chats}:3: ', done.stderr)
            self.assertIn(why, done.stderr)
        done, pairs = self.convert(self.folder(name, {}), self.chats(name))
        self.assertEqual((done.returncode, pairs), (1, None))
        self.assertIn('no chat template; looked for chat_template.jinja', done.stderr)


if __name__ == '__main__':
    unittest.main()
