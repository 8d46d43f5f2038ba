#!/usr/bin/env python3
"""Imported and exported models against transformers: each family is saved by transformers, swept over by Tunelaw (untuned, full
tuning, LoRA), exported again, and both the folders that came in and those that went out must give transformers the test loss that
the store has.

    TUNELAW=build/tunelaw VENV/bin/python tests/golden/check_folders.py        (the packages of make_goldens.py; a few minutes)
"""
import json
import os
import sys
from pathlib import Path

import h5py
import torch
import transformers

os.environ['TUNELAW'] = str(Path(os.environ['TUNELAW']).resolve())
sys.path.insert(0, str(Path(__file__).parents[1] / 'sweep'))
from harness import Place  # noqa: E402

VOCABULARY, BOUND = 400, 1e-6
SHAPE = dict(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=160,
             pad_token_id=None, bos_token_id=None, eos_token_id=None)
GROUPED = dict(SHAPE, num_key_value_heads=2)
MODELS = {
    'llama': (transformers.LlamaForCausalLM, transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    'mistral': (transformers.MistralForCausalLM, transformers.MistralConfig(**GROUPED, sliding_window=512)),
    'qwen2': (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**GROUPED)),
    'olmo2': (transformers.Olmo2ForCausalLM, transformers.Olmo2Config(**GROUPED)),
    'gpt_neox': (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**SHAPE)),
    'gpt_neox-bf16-cut': (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**SHAPE)),
}
SWEEP = '''
name = "folders";
data = {{ dataset = "data.h5"; }};
models = ( {models} );
finetune = {{ examples = [ 64 ]; sequence_length = 64; batch = 8; max_steps = 8; evaluations = 2; }};
methods = ( {{ name = "none"; }}, {{ name = "full"; learning_rates = [ 1e-3 ]; }},
            {{ name = "lora"; ranks = [ 4 ]; learning_rates = [ 1e-2 ]; }} );
resources = {{ backend = "cpu"; }};
'''


def save_model(name, folder):
    """Weights large enough for every part of the model to matter."""
    torch.manual_seed(1)
    cls, config = MODELS[name]
    model = cls(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
        else:
            parameter.data *= 3
    cut = 'cut' in name
    model.to(torch.bfloat16 if cut else torch.float32).save_pretrained(folder, max_shard_size='100KB' if cut else '5GB')


def test_loss(folder, data):
    """Nats per target token, as transformers computes them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total, count = 0.0, 0
    with h5py.File(data) as f, torch.no_grad():
        tokens, offsets, sources = (f[f'examples/test/{part}'][:].astype(int) for part in ('tokens', 'offsets', 'sources'))
        for i, source in enumerate(sources):
            ids = torch.tensor(tokens[offsets[i]:offsets[i + 1]])
            logits = model(ids[None]).logits[0, :-1].double().log_softmax(-1)
            losses = -logits[torch.arange(len(ids) - 1), ids[1:]][source - 1:]
            total += losses.sum().item()
            count += len(losses)
    return total / count


def main():
    torch.set_num_threads(1)
    worst = 0.0
    with Place() as place:
        for name in MODELS:
            save_model(name, place.dir(name))
        with open(place.dir('folders.cfg'), 'w') as f:
            f.write(SWEEP.format(models=', '.join(f'{{ name = "{name}"; import = "{name}"; tokens = 1000; }}' for name in MODELS)))
        run = place.dir('run')
        place.run(run, config=place.dir('folders.cfg'))
        for row in json.loads(place.call('export', run, '--format', 'json').stdout):
            out = place.dir(f'out{row["row"]}')
            place.call('export', run, '--point', row['identity'], '--hf', out)
            folders = [out] + ([place.dir(row['model'])] if row['method'] == 'none' else [])
            errors = [abs(test_loss(folder, place.dir('data.h5')) / row['test_loss'] - 1) for folder in folders]
            worst = max(worst, *errors)
            print(f'{row["model"]:18} {row["method"]:5} out {errors[0]:.0e}' + (f', in {errors[1]:.0e}' if errors[1:] else ''), flush=True)
    print(f'worst relative difference {worst:.1e}')
    return worst > BOUND


if __name__ == '__main__':
    sys.exit(main())
