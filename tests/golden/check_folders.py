#!/usr/bin/env python3
"""Imported and exported models and adapters against transformers and PEFT: each family is saved by transformers, swept over by Tunelaw
(untuned, full tuning, LoRA, prompt tuning), exported again (adapters as PEFT folders, too), and both the folders that came in and those
that went out must give transformers and PEFT the test loss that the store has. Then adapters of random weights are saved by PEFT and
evaluated by Tunelaw as they are.

    TUNELAW=build/tunelaw VENV/bin/python tests/golden/check_folders.py        (the packages of make_goldens.py; a few minutes)
"""
import json
import os
import sys
from pathlib import Path

import h5py
import peft
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
    'llama3': (transformers.LlamaForCausalLM, transformers.LlamaConfig(**GROUPED, rope_parameters=dict(
        rope_type='llama3', rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64))),
    'mistral': (transformers.MistralForCausalLM, transformers.MistralConfig(**GROUPED, sliding_window=512)),
    'qwen2': (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**GROUPED)),
    'qwen3': (transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**GROUPED)),
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
            {{ name = "lora"; ranks = [ 4 ]; learning_rates = [ 1e-2 ]; }}, {{ name = "prompt"; lengths = [ 3 ]; learning_rates = [ 1e-1 ]; }},
            {{ name = "prefix"; lengths = [ 3 ]; learning_rates = [ 1e-1 ]; }}, {{ name = "ia3"; learning_rates = [ 1e-1 ]; }} );
resources = {{ backend = "cpu"; }};
'''
AS_IT_IS = '''
name = "adapters";
data = {{ dataset = "data.h5"; }};
models = ( {{ name = "m"; import = "{model}"; tokens = 1000; }} );
finetune = {{ examples = [ 64 ]; sequence_length = 64; batch = 8; max_steps = 8; evaluations = 2; }};
methods = ( {{ name = "none"; start = "{adapter}"; }} );
resources = {{ backend = "cpu"; }};
'''
LORA = dict(task_type='CAUSAL_LM', r=4, lora_alpha=6)


def adapters_of(name):
    """What PEFT makes beside a model; the places of matrices have other names in GPT-NeoX."""
    chosen = ['query_key_value', 'dense_4h_to_h'] if 'neox' in name else ['q_proj', 'v_proj', 'down_proj']
    return {
        'lora': peft.LoraConfig(**LORA, target_modules=chosen, lora_dropout=0.1),
        'rslora': peft.LoraConfig(**LORA, target_modules='all-linear', use_rslora=True),
        'prompt': peft.PromptTuningConfig(task_type='CAUSAL_LM', num_virtual_tokens=5),
        'prefix': peft.PrefixTuningConfig(task_type='CAUSAL_LM', num_virtual_tokens=5),
        'project': peft.PrefixTuningConfig(task_type='CAUSAL_LM', num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=24),
        'ia3': peft.IA3Config(task_type='CAUSAL_LM', target_modules=chosen, feedforward_modules=chosen[-1:]),
    }


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


def load(folder, adapter=None):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return (peft.PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def test_loss(model, data):
    """Nats per target token, as transformers and PEFT compute them."""
    total, count = 0.0, 0
    with h5py.File(data) as f, torch.no_grad():
        tokens, offsets, sources = (f[f'examples/test/{part}'][:].astype(int) for part in ('tokens', 'offsets', 'sources'))
        for i, source in enumerate(sources):
            ids = torch.tensor(tokens[offsets[i]:offsets[i + 1]])
            logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0, -len(ids):-1]  # a prompt stands before
            losses = -logits.double().log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]][source - 1:]
            total += losses.sum().item()
            count += len(losses)
    return total / count


def check_exports(place, run):
    """What went out, of every row of a run; the worst relative difference."""
    worst, data = 0.0, place.dir('data.h5')
    for row in json.loads(place.call('export', run, '--format', 'json').stdout):
        base, folders = place.dir(row['model']), {}
        for form in ['--hf'] * (row['method'] not in ('prompt', 'prefix')) + ['--peft'] * (row['method'] not in ('none', 'full')):
            out = place.dir(f'out{row["row"]}{form}')
            place.call('export', run, '--point', row['identity'], form, out)
            folders[form[2:]] = load(out) if form == '--hf' else load(base, out)
        if row['method'] == 'none':
            folders['in'] = load(base)
        errors = {form: abs(test_loss(model, data) / row['test_loss'] - 1) for form, model in folders.items()}
        worst = max(worst, *errors.values())
        print(f'{row["model"]:18} {row["method"]:7} ' + ', '.join(f'{form} {error:.0e}' for form, error in errors.items()), flush=True)
    return worst


def check_adapter(place, name, what, config):
    """An adapter that PEFT saves, with weights large enough to matter, evaluated as it is."""
    torch.manual_seed(2)
    model = peft.get_peft_model(load(place.dir(name)), config).eval()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += (1 if what == 'ia3' else 0.1) * torch.randn_like(parameter)  # factors about 1, or numbers about 0
    adapter = f'{name}-{what}'
    model.save_pretrained(place.dir(adapter))
    with open(place.dir(f'{adapter}.cfg'), 'w') as f:
        f.write(AS_IT_IS.format(model=name, adapter=adapter))
    place.run(place.dir(f'{adapter}-run'), config=place.dir(f'{adapter}.cfg'))
    row = json.loads(place.call('export', place.dir(f'{adapter}-run'), '--format', 'json').stdout)[0]
    untuned = test_loss(load(place.dir(name)), place.dir('data.h5'))
    assert abs(row['test_loss'] / untuned - 1) > 10 * BOUND, 'left out, the adapter would hardly be missed'
    error = abs(test_loss(model, place.dir('data.h5')) / row['test_loss'] - 1)
    print(f'{name:18} {what:7} from PEFT {error:.0e}', flush=True)
    return error


def main():
    torch.set_num_threads(1)
    with Place() as place:
        for name in MODELS:
            save_model(name, place.dir(name))
        with open(place.dir('folders.cfg'), 'w') as f:
            f.write(SWEEP.format(models=', '.join(f'{{ name = "{name}"; import = "{name}"; tokens = 1000; }}' for name in MODELS)))
        run = place.dir('run')
        place.run(run, config=place.dir('folders.cfg'))
        worst = check_exports(place, run)
        for name in MODELS:
            for what, config in adapters_of(name).items():
                worst = max(worst, check_adapter(place, name, what, config))
    print(f'worst relative difference {worst:.1e}')
    return worst > BOUND


if __name__ == '__main__':
    sys.exit(main())
