"""Makes tests/golden/tokenizers with the library tokenizers of Hugging Face: small tokenizers built as those of known models are (the same
steps, trained on a few sentences), and what they make of texts. Usage: make_tokenizers.py FOLDER"""
import json
import os
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    'The quick brown fox jumps over the lazy dog, and the dog does not mind it at all.', 'How finetuning scales with data: a law of powers, fitted to losses.',
    "I'll say that we've seen what they'd done; it's what you're told, and he'd know. DON'T!", 'Die Größe der Zelle wird geändert, während Sie die Spalte wählen.',
    'Où est-elle allée, la fenêtre entrouverte ? À côté de l’été.', 'Числа и буквы складываются в слова, слова в предложения.',
    '漢字と仮名を混ぜて書く。これは文です。', '한국어 문장은 이렇게 씁니다.', 'for (int i = 0; i < 1024; i++) { total += values[i] * 3.14159; }\n\treturn total;',
    'x = 12345678901234567890, y = 0.001, z = 1e-9, 2024-05-17 12:34:56', 'नमस्ते दुनिया', 'مرحبا بالعالم', 'สวัสดีชาวโลก', '😀 👩‍👩‍👧 🇩🇪 ❤️ ½ ² Ⅷ ①',
]
EXTRA = [
    '', ' ', '  ', '\n', '\n\n\n', ' a', 'a ', '  a  b   c    ', '\ta\t\tb', 'a\r\nb\r\n', 'a\n\n  b', '\u00a0nbsp\u2003em', 'e\u0301 \u00e9 n\u0303', 'ﬁ ligature ﬀ',
    '\u212b \u2126 \ufb01', '\u0130stanbul İ', '\u200b\u200dzero', 'a<|endoftext|>b', '<|endoftext|>', ' <|endoftext|> x', '<|im_start|>user\nhello<|im_end|>\n',
    '<s>text</s>', 'x <mask> y', 'x<mask>y', '<unk>', 'ab<|end', "can't CAN'T we'LL I'm", "'s 'S 'll", '12 345 6789', 'a1b22c333', '٣٤٥ ४५६ ¼', '▁already▁meta', 'a▁b',
    '!!!???...', '--==>>', '#!/bin/sh', 'snake_case camelCase', 'ǅ ŉ', '\ud7ff\ue000\ufffd', '\U0010ffff\U00010000', 'a' * 300, ' ' * 40, 'ab ' * 50, '\u3000全角　空白',
]
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = GPT4.replace(r'\p{N}{1,3}', r'\p{N}')


def train(tokenizer, size, special, alphabet):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [])
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer


def pythia():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    t.decoder = decoders.ByteLevel()
    train(t, 420, ['<|endoftext|>', '<|padding|>'], True)
    t.add_tokens([AddedToken(' ' * n, normalized=True) for n in range(6, 1, -1)])
    return t


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4), 'isolated'), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, 420, [], True)
    t.add_special_tokens(['<|begin_of_text|>', '<|endoftext|>', '<|im_start|>', '<|im_end|>'])
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single='<|begin_of_text|> $A', pair='<|begin_of_text|> $A $B', special_tokens=[('<|begin_of_text|>', t.token_to_id('<|begin_of_text|>'))])])
    return t


def qwen2():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN), 'isolated'), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, 420, [], True)
    t.add_special_tokens(['<|endoftext|>', '<|im_start|>', '<|im_end|>'])
    return t


def smollm():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    return train(t, 420, ['<|endoftext|>', '<|im_start|>', '<|im_end|>'], True)


def llama2():
    t = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])
    t.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)])
    train(t, 560, ['<unk>', '<s>', '</s>'] + [f'<0x{byte:02X}>' for byte in range(256)], False)
    t.add_special_tokens([AddedToken('<unk>', normalized=False), AddedToken('<s>', normalized=False), AddedToken('</s>', normalized=False)])
    t.post_processor = processors.TemplateProcessing(single='<s> $A', pair='<s> $A $B', special_tokens=[('<s>', 1)])
    return t


def mistral3():
    t = llama2()
    t.normalizer = None
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first', split=False)
    return t


def gemma():
    t = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Replace(' ', '▁')
    t.pre_tokenizer = pre_tokenizers.Split(' ', 'merged_with_previous')
    t.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()])
    train(t, 560, ['<pad>', '</s>', '<s>', '<unk>'] + [f'<0x{byte:02X}>' for byte in range(256)], False)
    t.add_tokens([AddedToken('\n' * n, normalized=False) for n in range(2, 5)])
    return t


def falcon():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation('contiguous'), pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex('[0-9][0-9][0-9]'), 'isolated'), pre_tokenizers.Split(Regex('[a-f]+'), 'merged_with_next')])
    t.decoder = decoders.ByteLevel()
    return train(t, 420, ['>>TITLE<<', '<|endoftext|>'], True)


def insertions():
    """Patterns that find nothing, and what is put there. Not before a split: the library then doubles what was inserted."""
    t = Tokenizer(models.BPE(unk_token='<unk>'))
    t.normalizer = normalizers.Sequence([normalizers.Replace(Regex('^'), '_'), normalizers.Replace(Regex('q*'), 'Q'), normalizers.Replace(Regex('$'), '.')])
    t.decoder = decoders.Fuse()
    return train(t, 420, ['<unk>'], False)


def lookahead():
    """A pattern that finds nothing, between digits, and cuts there; a replacing step with a pattern."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex(r'\s+$'), '')])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r'(?=(\d{3})+(?!\d))'), 'isolated'), pre_tokenizers.Split(Regex('(?=[XYZ])'), 'merged_with_previous'),
        pre_tokenizers.Split(Regex('x*'), 'merged_with_next'), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    return train(t, 420, ['<|endoftext|>'], True)


def metasplit():
    """Pieces with spaces inside, and at their ends; words without a decoder."""
    t = Tokenizer(models.BPE(unk_token='<unk>'))
    t.normalizer = normalizers.NFKD()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme='always', split=False), pre_tokenizers.Split(Regex('[.,]'), 'removed')])
    t.decoder = decoders.Metaspace(prepend_scheme='always', split=False)
    return train(t, 420, ['<unk>'], False)


def metaspace():
    t = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=False, byte_fallback=False))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme='first', split=True), pre_tokenizers.Punctuation('merged_with_previous')])
    t.decoder = decoders.Metaspace(prepend_scheme='first')
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    train(t, 300, ['<unk>', '<s>', '</s>'], False)
    t.add_tokens([AddedToken('<mask>', lstrip=True, rstrip=True, special=True)])
    t.add_tokens([AddedToken('Quick', normalized=True)])
    return t


def main(folder):
    rng = random.Random(1)
    texts = SENTENCES + EXTRA
    letters = ''.join(sorted(set(''.join(SENTENCES + EXTRA)))) + '     \n\n\t'
    texts += [''.join(rng.choice(letters) for _ in range(rng.randrange(1, 60))) for _ in range(60)]
    os.makedirs(folder, exist_ok=True)

    def decode(tokenizer, ids):  # texts have no zero byte
        return tokenizer.decode(ids).replace('\0', '\ufffd')

    for make in (pythia, llama3, qwen2, smollm, llama2, mistral3, gemma, falcon, insertions, lookahead, metasplit, metaspace):
        tokenizer = make()
        tokenizer.save(f'{folder}/{make.__name__}.json', pretty=False)
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        some = [[rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randrange(1, 20))] for _ in range(60)]
        cases = {'library': f'tokenizers {tokenizers.__version__}', 'vocabulary': max(tokenizer.get_vocab().values()) + 1,
                 'texts': [[text, i, decode(tokenizer, i)] for text, i in zip(texts, ids)], 'ids': [[i, decode(tokenizer, i)] for i in some]}
        with open(f'{folder}/{make.__name__}.cases.json', 'w') as f:
            json.dump(cases, f, ensure_ascii=True, separators=(',', ':'))


if __name__ == '__main__':
    main(sys.argv[1])
