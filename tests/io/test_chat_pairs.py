#!/usr/bin/python3
"""configs/chat_pairs.py and `tunelaw data --as-written` against what transformers made of the same conversations (tests/golden/chats.json)."""
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
        """Of the data set's training examples; what is said of them."""
        out = self.place / 'data.h5'
        split = [lines(self.place / f'{part}.jsonl', pairs) for part in ('train', 'valid', 'test')]
        text = lines(self.place / 'text.jsonl', [{'text': pair['source']} for pair in pairs])
        done = subprocess.run([os.environ['TUNELAW'], 'data', '--tokenizer', folder, '--as-written', '--pairs-train', split[0], '--pairs-valid', split[1],
                               '--pairs-test', split[2], '--text', text, '--valid-text', text, '--out', out], check=True, capture_output=True, text=True)
        with h5py.File(out) as file:
            train = file['examples/train']
            ids, offsets = train['tokens'][:].tolist(), train['offsets'][:].tolist()
            return [ids[a:b] for a, b in zip(offsets, offsets[1:])], train['sources'][:].tolist(), done.stderr

    def test_pairs_and_their_tokens_are_those_of_transformers(self):
        for name, golden in GOLDEN.items():
            folder = self.folder(name)
            done, pairs = self.convert(folder, self.chats(name))
            self.assertEqual(done.returncode, 0, done.stderr)
            turns = self.turns(name)
            self.assertEqual([(pair['source'], pair['source'] + pair['target']) for pair in pairs], [(turn['before'], turn['whole']) for turn in turns], name)
            tokens, sources, said = self.tokens(folder, pairs)
            self.assertEqual(tokens, [turn['ids'] for turn in turns], name)
            for ids, source in zip(tokens, sources):
                self.assertTrue(0 < source < len(ids))
            self.assertEqual(f'{3 * len(turns)} examples have no end token' in said, name == 'turns', said)  # of three splits

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

    def test_what_may_stand_beside(self):
        name = 'headers'
        folder, (case,) = self.folder(name), GOLDEN[name]['cases'][:1]
        system = {'role': 'system', 'content': 'Be short.'}
        wanted = self.convert(folder, self.chats(name, [{'messages': [system] + case['messages']}]))[1]
        turns = [{'from': NAMES[m['role']], 'value': m['content']} for m in case['messages']]
        rows = [{'conversations': turns, 'system': 'Be short.', 'id': 3, 'self': 'x', 'bos_token': 'x', 'raise_exception': 'x', 'add_generation_prompt': 1, 'namespace': 1}]
        chats = self.chats(name, rows)
        chats.write_bytes(b'\xef\xbb\xbf' + chats.read_bytes().replace(b'\n', b'\r\n'))
        self.assertEqual(self.convert(folder, chats)[1], wanted)
        tools = [{'name': 'add', 'sum': 'größer'}]
        template = ('{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content or m.tool_calls }}{% endfor %}'
                    '{% if add_generation_prompt %}<assistant>{% endif %}')
        calls = [{'role': 'user', 'content': 'x'}, {'role': 'assistant', 'content': None, 'tool_calls': [7]}]
        pairs = self.convert(self.folder(name, {'chat_template': template}), self.chats(name, [{'messages': calls, 'tools': tools}]))[1]
        self.assertEqual(pairs, [{'source': json.dumps(tools, ensure_ascii=False) + '<user>x<assistant>', 'target': '[7]'}])

    def test_what_is_written_is_a_plain_file_of_its_own(self):
        name = 'headers'
        folder, chats = self.folder(name), self.chats(name)
        before = chats.read_bytes()
        link, fifo = self.place / 'link', self.place / 'fifo'
        link.symlink_to('behind')
        os.mkfifo(fifo)
        for out, why in ((chats, 'is one of the conversations'), (fifo, 'no plain file'), (self.place, 'no plain file'), (self.place / 'no/out', 'No such file')):
            done = subprocess.run([sys.executable, ROOT / 'configs/chat_pairs.py', folder, chats, out], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr.count('\n')), (1, 1), done.stderr)
            self.assertTrue(done.stderr.startswith(f'chat_pairs: {out}: ') and why in done.stderr, done.stderr)
        self.assertTrue(fifo.is_fifo() and chats.read_bytes() == before)
        subprocess.run([sys.executable, ROOT / 'configs/chat_pairs.py', folder, chats, link], check=True, capture_output=True, umask=0o27)
        self.assertTrue(link.is_symlink())
        self.assertEqual((self.place / 'behind').stat().st_mode & 0o777, 0o640)
        self.assertEqual([p.name for p in self.place.iterdir() if p.name.startswith('.')], [])

    def test_a_conversion_that_is_ended_leaves_nothing(self):
        fifo = self.place / 'chats'
        os.mkfifo(fifo)
        with subprocess.Popen([sys.executable, ROOT / 'configs/chat_pairs.py', self.folder('headers'), fifo, self.place / 'out']) as running:
            with open(fifo, 'wb'):  # waits for the reader
                self.assertEqual(len(list(self.place.glob('.chat_pairs-*'))), 1)
                running.terminate()
                self.assertEqual(running.wait(60), 143)
        self.assertEqual(sorted(path.name for path in self.place.iterdir()), ['chats', 'headers'])

    def test_what_is_wrong_is_one_line_and_leaves_nothing(self):
        name = 'instruct'
        good = {'messages': GOLDEN[name]['cases'][0]['messages']}
        user, answer = ({'role': 'user', 'content': 'x'}, {'role': 'assistant', 'content': 'y'})
        bad = {'not JSON': '{', 'no list `messages`': '{"text": "x"}', 'message 1: not an object': '{"messages": ["x"]}',
               'message 1: without a role': '{"messages": [{"content": "x"}]}',
               'no answer of the assistant; roles: user': json.dumps({'messages': [user]}),
               'roles must alternate': json.dumps({'messages': good['messages'][:1] + good['messages']}),
               'message 2: its content is no text': json.dumps({'messages': [user, {'role': 'assistant', 'content': None}]}),
               'message 1: its content is no text': json.dumps({'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'x'}]}, answer]}),
               'message 2: its content': json.dumps({'messages': [user, {'role': 'assistant', 'content': 'a\0b'}]}),
               'message 1: from "human2"; allowed: human': '{"conversations": [{"from": "human2", "value": "x"}]}',
               'message 1: from ["human"]': '{"conversations": [{"from": ["human"], "value": "x"}]}',
               'message 2: the answer is empty': json.dumps({'messages': [user, {'role': 'assistant', 'content': ' \n'}]}),
               'surrogates not allowed': '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "y"}]}',
               '`tools` is no list': json.dumps({'messages': [user, answer], 'tools': '[]'}),
               'beside a message of the system': '{"system": "x", "conversations": [{"from": "human", "value": "y"}, {"from": "system", "value": "y"}]}',
               '`system` is no text': '{"system": ["x"], "conversations": [{"from": "human", "value": "y"}]}',
               'message 2: the answer': '{"system": "x", "conversations": [{"from": "human", "value": "y"}, {"from": "gpt", "value": ""}]}',
               'message 1: its content': '{"conversations": [{"from": "human"}]}',
               'recursion': '{"messages": ' + 100000 * '['}
        for why, line in bad.items():
            chats = self.place / 'chats.jsonl'
            chats.write_text(json.dumps(good) + '\n\n' + line + '\n')
            done, pairs = self.convert(self.folder(name), chats)
            self.assertEqual(done.returncode, 1, why)
            self.assertIsNone(pairs, why)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(f'{chats}:3: ', done.stderr)
            self.assertIn(why, done.stderr)
        chats.write_bytes(json.dumps(good).encode() + b'\n\xff\n')
        self.assertIn(f'{chats}:2: ', self.convert(self.folder(name), chats)[0].stderr)
        for template, why in (("{{ raise_exception('a\\nb') }}", 'the chat template: a b'), ('{{ 1 // 0 }}', 'the chat template: '),
                              ("{{ '{x}'.format() }}", 'the chat template: '), ('{% for %}', 'the chat template: '),
                              ([{'name': 'x'}, 'y', {'name': ['x']}], 'no chat template'), ('{{ messages[0].content }}\0', 'U+0000'),
                              ('{{ messages | length }}', 'message 2: with its answer the template writes other words before it\n')):
            done, pairs = self.convert(self.folder(name, {'chat_template': template}), lines(chats, [good]))
            self.assertEqual((done.returncode, pairs, done.stderr.count('\n')), (1, None, 1), done.stderr)
            self.assertIn(why, done.stderr)
        done, pairs = self.convert(self.folder(name, {}), self.chats(name))
        self.assertEqual((done.returncode, pairs), (1, None))
        self.assertIn('no chat template; looked for chat_template.jinja', done.stderr)


if __name__ == '__main__':
    unittest.main()
