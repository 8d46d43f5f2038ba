#!/usr/bin/env python3
"""dropout/masks.h5, for tests/workers/test_dropout_parity.c: losses and gradients of transformers' models and PEFT's LoRA, in float64, with dropout by
the engine's masks, which this script draws again by their definition (struct dropout in kernels/kernels.h, workers/model/dropout.c).

    VENV/bin/pip install torch transformers peft h5py xxhash
    VENV/bin/python tests/golden/make_dropout.py [FOLDER]

Where transformers has a dropout module, it is that module which gets the mask (GPT-NeoX: embeddings, attention, MLP; PEFT: the input of lora_A); its
Llama and OLMo 2 have none, and what attention and MLP add to the residual stream is masked there.

/MODEL/METHOD/  attributes: dropout, lora_dropout, seed, step, first_token, loss of batch 0; gradients/NAME of the mean loss. Weights and batches are
                those of MODEL.h5.
"""
import sys
from pathlib import Path

import h5py
import numpy
import torch
import xxhash

import make_goldens as goldens

SEED, STEP, FIRST = 123456789012345, 42, 1000
RATE, LORA_RATE = 0.2, 0.3
MODELS = ["llama_gqa_untied", "llama_biases", "olmo2_gqa_untied", "neox_parallel", "neox_sequential"]
METHODS = ["full", "lora", "prompt"]
KINDS = {"q_proj": 0, "k_proj": 1, "v_proj": 2, "query_key_value": 3, "o_proj": 4, "dense": 4, "gate_proj": 5, "up_proj": 6, "dense_h_to_4h": 6,
         "down_proj": 7, "dense_4h_to_h": 7}  # enum linear_kind


def philox(counters, stream, seed):
    """Philox 4x32-10 of each counter: four words."""
    mask = numpy.uint64(0xFFFFFFFF)
    c = [counters & mask, counters >> numpy.uint64(32), numpy.full_like(counters, stream & 0xFFFFFFFF), numpy.full_like(counters, stream >> 32)]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * numpy.uint64(0xD2511F53), c[2] * numpy.uint64(0xCD9E8D57)
        c = [(p1 >> numpy.uint64(32)) ^ c[1] ^ numpy.uint64(k[0]), p1 & mask, (p0 >> numpy.uint64(32)) ^ c[3] ^ numpy.uint64(k[1]), p0 & mask]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return numpy.stack(c, axis=-1)


def factors(site, layer, rows, width, rate):
    """[rows][width] of 0 and 1 / (1 - rate)."""
    stream = xxhash.xxh3_64_intdigest(f"dropout:step {STEP}:layer {layer}:{site}".encode())
    blocks = (width + 3) // 4
    first = numpy.arange(rows, dtype=numpy.uint64)[:, None] + numpy.uint64(FIRST)
    words = philox(first * numpy.uint64(blocks) + numpy.arange(blocks, dtype=numpy.uint64), stream, SEED)
    return numpy.where(words.reshape(rows, 4 * blocks)[:, :width] < rate * 2**32, 0.0, 1 / (1 - rate))


class Place:
    """Where the tokens of a padded batch lie in the packed one; a prompt comes before each sequence."""

    def __init__(self, batch, prompt):
        self.lengths = (batch[1].sum(1) + prompt).tolist()

    def mask(self, x, site, layer, rate):
        packed = torch.from_numpy(factors(site, layer, sum(self.lengths), x.shape[-1], rate)).to(x)
        out, at = torch.ones_like(x), 0
        for i, length in enumerate(self.lengths):
            out[i, :length] = packed[at : at + length]
            at += length
        return x * out


class Masked(torch.nn.Module):
    def __init__(self, place, site, layer, rate):
        super().__init__()
        self.arguments = place, site, layer, rate

    def forward(self, x):
        place, site, layer, rate = self.arguments
        return place.mask(x, site, layer, rate)


def of_output(place, site, layer):
    def hook(module, inputs, output):
        if isinstance(output, tuple):
            return (place.mask(output[0], site, layer, RATE), *output[1:])
        return place.mask(output, site, layer, RATE)
    return hook


def put_masks(model, place):
    base = next(m for m in model.modules() if hasattr(m, "layers"))
    if hasattr(base, "emb_dropout"):
        base.emb_dropout = Masked(place, "embedding", 0, RATE)
    else:
        def embedding(module, arguments, named):
            if arguments:
                return (place.mask(arguments[0], "embedding", 0, RATE), *arguments[1:]), named
            return arguments, dict(named, hidden_states=place.mask(named["hidden_states"], "embedding", 0, RATE))
        base.layers[0].register_forward_pre_hook(embedding, with_kwargs=True)
    for i, layer in enumerate(base.layers):
        if hasattr(layer, "post_mlp_dropout"):
            layer.post_attention_dropout = Masked(place, "attention", i, RATE)
            layer.post_mlp_dropout = Masked(place, "mlp", i, RATE)
        else:  # what is added to the residual stream: a half's output, or the norm behind it
            after = hasattr(layer, "post_feedforward_layernorm")
            (layer.post_attention_layernorm if after else layer.self_attn).register_forward_hook(of_output(place, "attention", i))
            (layer.post_feedforward_layernorm if after else layer.mlp).register_forward_hook(of_output(place, "mlp", i))
        for name, module in layer.named_modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = Masked(place, f"lora {KINDS[name.rsplit('.', 1)[-1]]}", i, LORA_RATE)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    torch.set_num_threads(1)
    goldens.in_double(True)
    (folder / "dropout").mkdir(exist_ok=True)
    with h5py.File(folder / "dropout/masks.h5", "w", libver=("earliest", "v108"), track_order=False) as file:
        file.attrs["made_with"] = goldens.MADE_WITH
        for index, (name, family) in enumerate(goldens.MODELS.items()):
            if name not in MODELS:
                continue
            family = dict(goldens.ARCHITECTURE, **family)
            batch = goldens.make_batches(family["vocabulary"], torch.Generator().manual_seed(1000 + index))[0]
            for method in METHODS:
                model = goldens.make_model(family, method, 100 * index)
                plain = goldens.loss_of(model, batch).item()
                put_masks(model, Place(batch, goldens.METHODS[method]["size"] if method == "prompt" else 0))
                loss = goldens.loss_of(model, batch)
                loss.backward()
                group = file.create_group(f"{name}/{method}")
                for key, value in dict(dropout=RATE, lora_dropout=LORA_RATE if method == "lora" else 0.0, seed=SEED, step=STEP, first_token=FIRST,
                                       loss=loss.item()).items():
                    group.attrs[key] = float(value)
                goldens.put_tensors(group.create_group("gradients"), family, {n: p.grad for n, p in goldens.trained(model).items()})
                print(f"{name}, {method}: loss {plain:.6f} without, {loss.item():.6f} with dropout")


if __name__ == "__main__":
    main()
