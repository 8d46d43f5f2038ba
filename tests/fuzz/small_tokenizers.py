"""Seeds of fuzz_tokenizer: the tokenizers of tests/golden/tokenizers with few pieces. Usage: small_tokenizers.py FOLDER"""
import glob
import json
import os
import sys

for path in glob.glob(f'{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/golden/tokenizers/*.json'):
    if path.endswith('.cases.json'):
        continue
    with open(path) as f:
        tokenizer = json.load(f)
    model = tokenizer['model']
    letters = [piece for piece in model['vocab'] if len(piece) == 1][:24] + ['<unk>', '<0xF0>', '<0x9F>', '<0x98>', '<0x80>']
    pieces = {piece: i for i, piece in enumerate(piece for piece in letters if piece in model['vocab'])}
    merges = []
    for left, right in model['merges']:
        if left in pieces and right in pieces and len(merges) < 8:
            pieces.setdefault(left + right, len(pieces))
            merges.append([left, right])
    model['vocab'], model['merges'] = pieces, merges
    for i, token in enumerate(tokenizer['added_tokens']):
        token['id'] = len(pieces) + i
    with open(f'{sys.argv[1]}/{os.path.basename(path)}', 'w') as f:
        json.dump(tokenizer, f)
