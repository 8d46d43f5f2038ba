#!/usr/bin/env python3
"""Goldens for tests/workers/test_parity.c, from transformers' models, PEFT's adapters and torch's AdamW in float64.

    python3 -m venv VENV && VENV/bin/pip install torch transformers peft h5py
    VENV/bin/python tests/golden/make_goldens.py [FOLDER]
    VENV/bin/python tests/golden/make_goldens.py --optimisers [FOLDER]   (optimisers/curves.h5 alone)
    VENV/bin/python tests/golden/make_goldens.py --add [FOLDER]          (models and methods that the files do not have yet, and
                                                                          optimisers/curves.h5)

One file FAMILY_NAME.h5 a model:
    /                       attributes: the model's configuration, made_with; family, norm and activation as numbers, in the
                            order of workers/model/architecture.h
    /weights/NAME           float32, Hugging Face's names
    /batches/B/             ids[tokens], offsets[sequences+1], rows[targets], labels[targets]: packed sequences; token row
                            rows[i] predicts labels[i]; no other token has a loss
    /methods/METHOD/        attributes: size, alpha and other options of the method, the recipe of AdamW; torch_float32: how
                            far PyTorch's own float32 curve of losses lies from the float64 one
    /methods/METHOD/adapter/NAME     float32, as in PEFT's files; absent where weights of the base are trained
    /methods/METHOD/gradients/NAME   of the mean loss over the targets of batch 0, before any step: of what is trained then
    /methods/METHOD/losses, norms    of the steps 1, 2, ...: before the step; norm of the gradient before clipping. Step s
                                     takes batch (s-1) mod batches

optimisers/curves.h5, of weights, adapters and batches above:
    /MODEL/METHOD/OPTIMISER attributes: the recipe, torch_float32; losses, norms as above. OPTIMISER: adafactor (transformers',
                            relative_step=False) of all that the files above have; adafactor_unscaled (scale_parameter=False)
                            and sgd (torch's) of some
"""
import math
import sys
from pathlib import Path

import h5py
import numpy
import peft
import torch
import transformers
from torch.nn import functional
from transformers.optimization import Adafactor
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.olmo2 import modeling_olmo2
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

STEPS = 20
MADE_WITH = numpy.bytes_(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, float64")
FAMILIES = ["llama", "mistral", "qwen2", "olmo2", "gpt_neox", "qwen3"]
CLASSES = [transformers.LlamaForCausalLM, transformers.MistralForCausalLM, transformers.Qwen2ForCausalLM,
           transformers.Olmo2ForCausalLM, transformers.GPTNeoXForCausalLM, transformers.Qwen3ForCausalLM]
ACTIVATIONS = ["silu", "gelu", "gelu_new"]
# of workers/model/architecture.h, all zero: Llama
ARCHITECTURE = dict(family=0, norm=0, activation=0, norm_after=0, parallel=0, qk_norm=0, fused_qkv=0, qkv_bias=0, out_bias=0,
                    mlp_bias=0, rotary_width=0, window=0)
NEOX = dict(family=4, norm=1, activation=1, parallel=1, fused_qkv=1, qkv_bias=1, out_bias=1, mlp_bias=1)
MODELS = {
    "llama_mqa_tied": dict(layers=2, width=16, heads=4, kv_heads=1, head_width=4, ffn=43, vocabulary=61, tied=True,
                           rope_theta=10000.0, norm_epsilon=1e-5),
    "llama_gqa_untied": dict(layers=2, width=24, heads=6, kv_heads=2, head_width=6, ffn=37, vocabulary=67, tied=False,
                             rope_theta=500000.0, norm_epsilon=1e-6),
    "llama_mha_tied": dict(layers=3, width=20, heads=5, kv_heads=5, head_width=4, ffn=29, vocabulary=53, tied=True,
                           rope_theta=100.0, norm_epsilon=1e-2),
    "llama_mha_untied": dict(layers=1, width=28, heads=2, kv_heads=2, head_width=40, ffn=51, vocabulary=59, tied=False,
                             rope_theta=10000.0, norm_epsilon=1e-5),
    "llama_biases": dict(layers=2, width=16, heads=4, kv_heads=2, head_width=4, ffn=27, vocabulary=47, tied=False,
                         rope_theta=10000.0, norm_epsilon=1e-5, qkv_bias=1, out_bias=1, mlp_bias=1),
    "paper_mqa_tied": dict(layers=2, width=24, heads=3, kv_heads=1, head_width=8, ffn=96, vocabulary=71, tied=True,
                           rope_theta=10000.0, norm_epsilon=1e-5),
    "mistral_gqa": dict(family=1, layers=2, width=16, heads=4, kv_heads=2, head_width=4, ffn=31, vocabulary=43, tied=False,
                        rope_theta=10000.0, norm_epsilon=1e-5, window=64),
    "qwen2_gqa_tied": dict(family=2, layers=2, width=24, heads=6, kv_heads=2, head_width=4, ffn=37, vocabulary=57,
                           tied=True, rope_theta=1000000.0, norm_epsilon=1e-6, qkv_bias=1),
    "olmo2_gqa_untied": dict(family=3, layers=2, width=24, heads=6, kv_heads=3, head_width=4, ffn=41, vocabulary=51,
                             tied=False, rope_theta=500000.0, norm_epsilon=1e-6, norm_after=1, qk_norm=1),
    "neox_parallel": dict(NEOX, layers=2, width=24, heads=3, kv_heads=3, head_width=8, ffn=45, vocabulary=49, tied=False,
                          rope_theta=10000.0, norm_epsilon=1e-5, rotary_width=2),
    "neox_sequential": dict(NEOX, activation=2, parallel=0, layers=2, width=32, heads=2, kv_heads=2, head_width=16, ffn=39,
                            vocabulary=41, tied=True, rope_theta=500.0, norm_epsilon=1e-3, rotary_width=8),
    "llama3_scaled": dict(layers=2, width=24, heads=2, kv_heads=1, head_width=16, ffn=33, vocabulary=55, tied=True,
                          rope_theta=10000.0, norm_epsilon=1e-5, rope_factor=8.0, rope_low=1.0, rope_high=4.0, rope_original=64),
    "neox_linear_scaled": dict(NEOX, layers=2, width=32, heads=2, kv_heads=2, head_width=16, ffn=35, vocabulary=45, tied=False,
                               rope_theta=500.0, norm_epsilon=1e-5, rotary_width=8, rope_factor=2.5),
    "qwen3_gqa_tied": dict(family=5, layers=2, width=20, heads=6, kv_heads=3, head_width=8, ffn=35, vocabulary=47, tied=True,
                           rope_theta=1000000.0, norm_epsilon=1e-6, qk_norm=2),
}
METHODS = {
    "full": dict(size=0, alpha=0.0, learning_rate=3e-3),
    "lora": dict(size=3, alpha=4.5, learning_rate=3e-3),
    # modules: bits of workers/model/architecture.h's enum linear_kind, q, v (or both in one) and down
    "lora_stabilised": dict(size=2, alpha=3.0, rank_stabilised=1, modules=0b10001101, learning_rate=3e-3),
    "prompt": dict(size=5, alpha=0.0, learning_rate=3e-2),
    "prefix": dict(size=4, alpha=0.0, learning_rate=3e-2),
    "ia3": dict(size=0, alpha=0.0, learning_rate=2e-2),
    "bitfit": dict(size=0, alpha=0.0, learning_rate=2e-2),
    "adapter": dict(size=4, alpha=0.0, learning_rate=3e-3),
    "adapter_mlp": dict(size=3, alpha=0.0, mlp_only=1, learning_rate=3e-3),
    "unfreeze": dict(size=0, alpha=0.0, thaw_layers=1, thaw_steps=7, learning_rate=3e-3),
}
PEFT_METHODS = ["lora", "lora_stabilised", "prompt", "prefix", "ia3"]
ADAPTER_METHODS = PEFT_METHODS + ["adapter", "adapter_mlp"]
# rates by method; methods without one have no golden
OPTIMISERS = {
    "adafactor": dict(parameter_scale=1.0, momentum=0.0, full=3e-2, lora=3e-2, lora_stabilised=5e-2, prompt=1e-1, prefix=1e-1,
                      ia3=1e-1, bitfit=1e-1, adapter=1e-1, adapter_mlp=1e-1, unfreeze=3e-2),
    "adafactor_unscaled": dict(parameter_scale=0.0, momentum=0.0, full=3e-3, lora=3e-3, prompt=3e-2),
    "sgd": dict(parameter_scale=0.0, momentum=0.9, full=3e-2, lora=3e-2, prompt=1e-1),
}
# adafactor: of every model; the others: of these
OPTIMISER_MODELS = ["llama_gqa_untied", "llama_mqa_tied", "mistral_gqa", "olmo2_gqa_untied", "paper_mqa_tied"]
# Of Adafactor where biases of keys are trained and part of a head is not turned: softmax does not see a bias there, its
# gradient is rounding alone, Adafactor makes whole steps of any gradient, and their size is part of what limits the whole
# tensor's step. A smaller rate keeps what this does to the loss inside check_conditioning's bound.
UNTURNED_RATES = {"full": 5e-4, "bitfit": 5e-4, "unfreeze": 1e-3}
RECIPE = dict(beta1=0.9, beta2=0.98, epsilon=1e-8, weight_decay=0.1)
# (source tokens, target tokens) of the sequences of each batch
BATCHES = [[(3, 9), (1, 1), (20, 27), (6, 4)], [(2, 5), (9, 1), (1, 12)], [(11, 30)]]
# by bits of enum linear_kind
LINEARS = {0: "q_proj", 1: "k_proj", 2: "v_proj", 4: "o_proj", 5: "gate_proj", 6: "up_proj", 7: "down_proj"}
NEOX_LINEARS = {3: "query_key_value", 4: "dense", 6: "dense_h_to_4h", 7: "dense_4h_to_h"}


def norm_in_double(self, x):
    """transformers rounds to float32 inside the norm, whatever the model's type; the same formula without that."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def scaled(rope, frequencies):
    """transformers' modeling_rope_utils: frequencies stretched for longer contexts."""
    if rope["rope_type"] == "default":
        return frequencies
    if rope["rope_type"] == "linear":
        return frequencies / rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    waves = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    share = ((waves - low) / (high - low)).clamp(0, 1)
    return (1 - share) * frequencies / rope["factor"] + share * frequencies


def rotary_in_double(self, x, position_ids):
    """As norm_in_double, for the angles."""
    config = self.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = int(width * config.rope_parameters.get("partial_rotary_factor", 1.0))
    powers = torch.arange(0, width, 2, dtype=torch.float64) / width
    frequencies = scaled(config.rope_parameters, config.rope_parameters["rope_theta"] ** -powers)
    angles = position_ids[..., None].double() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


REPLACED = {modeling_llama.LlamaRMSNorm: norm_in_double, modeling_llama.LlamaRotaryEmbedding: rotary_in_double,
            modeling_mistral.MistralRMSNorm: norm_in_double, modeling_mistral.MistralRotaryEmbedding: rotary_in_double,
            modeling_qwen2.Qwen2RMSNorm: norm_in_double, modeling_qwen2.Qwen2RotaryEmbedding: rotary_in_double,
            modeling_qwen3.Qwen3RMSNorm: norm_in_double, modeling_qwen3.Qwen3RotaryEmbedding: rotary_in_double,
            modeling_olmo2.Olmo2RMSNorm: norm_in_double, modeling_olmo2.Olmo2RotaryEmbedding: rotary_in_double,
            modeling_gpt_neox.GPTNeoXRotaryEmbedding: rotary_in_double}
OWN = {cls: cls.forward for cls in REPLACED}


def in_double(on):
    """Switch between transformers' own functions and those above."""
    for cls in REPLACED:
        cls.forward = REPLACED[cls] if on else OWN[cls]


def float32_normal(generator, shape, deviation, mean=0.0):
    values = mean + deviation * torch.randn(shape, generator=generator, dtype=torch.float64)
    return values.float().double()


def config_of(family):
    """The same description in transformers' words."""
    common = dict(hidden_size=family["width"], num_hidden_layers=family["layers"], num_attention_heads=family["heads"],
                  intermediate_size=family["ffn"], vocab_size=family["vocabulary"], tie_word_embeddings=family["tied"],
                  hidden_act=ACTIVATIONS[family["activation"]], attn_implementation="sdpa",
                  pad_token_id=None, eos_token_id=None)  # a padding token's embedding would get no gradient
    rope = {"rope_type": "default", "rope_theta": family["rope_theta"]}
    if family.get("rope_high"):
        rope.update(rope_type="llama3", factor=family["rope_factor"], low_freq_factor=family["rope_low"],
                    high_freq_factor=family["rope_high"], original_max_position_embeddings=family["rope_original"])
    elif family.get("rope_factor"):
        rope.update(rope_type="linear", factor=family["rope_factor"])
    name = FAMILIES[family["family"]]
    if name == "gpt_neox":
        rope["partial_rotary_factor"] = family["rotary_width"] / family["head_width"]
        return transformers.GPTNeoXConfig(**common, layer_norm_eps=family["norm_epsilon"], rope_parameters=rope,
                                          use_parallel_residual=bool(family["parallel"]))
    common.update(num_key_value_heads=family["kv_heads"], head_dim=family["head_width"], rope_parameters=rope,
                  rms_norm_eps=family["norm_epsilon"])
    if name == "llama":
        common.update(attention_bias=bool(family["qkv_bias"]), mlp_bias=bool(family["mlp_bias"]))
    if name == "mistral":
        common.update(sliding_window=family["window"])
    return {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig, "qwen2": transformers.Qwen2Config,
            "olmo2": transformers.Olmo2Config, "qwen3": transformers.Qwen3Config}[name](**common)


def base_model(family, generator):
    model = CLASSES[family["family"]](config_of(family)).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(float32_normal(generator, parameter.shape, 0.3, 0.0 if name.endswith(".bias") else 1.0))
            elif "embed" in name or "lm_head" in name:
                parameter.copy_(float32_normal(generator, parameter.shape, 0.5))
            else:  # large enough for attention to choose
                sharp = 1.4 if "q_proj" in name or "k_proj" in name or "query_key" in name else 0.8
                parameter.copy_(float32_normal(generator, parameter.shape, sharp / math.sqrt(parameter.shape[1])))
    return model


def modules_of(family, bits):
    """Names of a family's matrices; no bits: all of them."""
    names = NEOX_LINEARS if family["fused_qkv"] else LINEARS
    return [name for bit, name in names.items() if not bits or bits >> bit & 1]


def fits(family, name):
    """The method is possible on the family."""
    return name != "bitfit" or family["qkv_bias"] == 1


class Bottleneck(torch.nn.Module):
    """An adapter (Houlsby et al. 2019), as in AdapterHub's definition, on what a half of a block gives."""

    def __init__(self, width, size):
        super().__init__()
        self.down = torch.nn.Linear(width, size)
        self.up = torch.nn.Linear(size, width)

    def forward(self, h):
        return h + self.up(functional.gelu(self.down(h)))


def insert_adapters(model, family, method):
    """Behind the modules of attention and MLP, by hooks."""
    for parameter in model.parameters():
        parameter.requires_grad = False
    layers = model.gpt_neox.layers if family["fused_qkv"] else model.model.layers
    for layer in layers:
        halves = {"mlp": layer.mlp}
        if not method.get("mlp_only"):
            halves["attention"] = layer.attention if family["fused_qkv"] else layer.self_attn
        for half, module in halves.items():
            adapter = Bottleneck(family["width"], method["size"])
            setattr(layer, f"{half}_adapter", adapter)
            module.register_forward_hook(
                lambda _, __, out, adapter=adapter: (adapter(out[0]), *out[1:]) if isinstance(out, tuple) else adapter(out))
    return model.double()


def block_of(family, name):
    """Of a tensor, counted from below: embeddings are with block 0, the others with the topmost."""
    if ".layers." in name:
        return int(name.split(".layers.")[1].split(".")[0])
    return 0 if "embed_tokens" in name or "embed_in" in name else family["layers"] - 1


def thaw(model, family, method, step):
    """Gradual unfreezing (Howard & Ruder 2018): what step `step` (from 1) trains."""
    for name, parameter in model.named_parameters():
        group = (family["layers"] - 1 - block_of(family, name)) // method["thaw_layers"]
        parameter.requires_grad = step > group * method["thaw_steps"]


def with_method(model, family, name, method, generator):
    if name == "full":
        return model
    if name == "unfreeze":
        thaw(model, family, method, 1)
        return model
    if name == "bitfit":
        for tensor_name, tensor in model.named_parameters():
            tensor.requires_grad = tensor_name.endswith(".bias")
        return model
    if name.startswith("adapter"):
        model = insert_adapters(model, family, method)
    elif name == "ia3":
        modules = modules_of(family, 0b10001110)
        config = peft.IA3Config(target_modules=modules, feedforward_modules=modules[-1:], task_type="CAUSAL_LM")
    elif name.startswith("lora"):
        config = peft.LoraConfig(r=method["size"], lora_alpha=method["alpha"], lora_dropout=0.0, bias="none",
                                 use_rslora=bool(method.get("rank_stabilised")),
                                 target_modules=modules_of(family, method.get("modules", 0)), task_type="CAUSAL_LM")
    elif name == "prefix":
        config = peft.PrefixTuningConfig(num_virtual_tokens=method["size"], task_type="CAUSAL_LM")
    else:
        config = peft.PromptTuningConfig(num_virtual_tokens=method["size"], task_type="CAUSAL_LM")
    if not name.startswith("adapter"):
        model = peft.get_peft_model(model, config).double()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.requires_grad and name == "ia3":
                tensor.copy_(float32_normal(generator, tensor.shape, 0.4, 1.0))
            elif tensor.requires_grad and tensor.dim() == 1:
                tensor.copy_(float32_normal(generator, tensor.shape, 0.3))
            elif tensor.requires_grad:  # B is not zero, and updates are smaller than the weights that they stand beside
                deviation = {"prompt": 0.5, "prefix": 0.8}.get(name, 0.6 / math.sqrt(tensor.shape[1]))
                tensor.copy_(float32_normal(generator, tensor.shape, deviation))
    return model


def make_batches(vocabulary, generator):
    """Padded on the right for transformers, packed for the file."""
    batches = []
    for lengths in BATCHES:
        longest = max(source + target for source, target in lengths)
        ids = torch.zeros((len(lengths), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, -100)
        packed = {"ids": [], "offsets": [0], "rows": [], "labels": []}
        for i, (source, target) in enumerate(lengths):
            tokens = torch.randint(vocabulary, (source + target,), generator=generator)
            ids[i, : len(tokens)] = tokens
            mask[i, : len(tokens)] = 1
            labels[i, source : len(tokens)] = tokens[source:]
            first = packed["offsets"][-1]
            packed["ids"] += tokens.tolist()
            packed["rows"] += [first + t - 1 for t in range(source, len(tokens))]
            packed["labels"] += tokens[source:].tolist()
            packed["offsets"].append(first + len(tokens))
        batches.append((ids, mask, labels, packed))
    return batches


def loss_of(model, batch):
    """Nats per target token."""
    ids, mask, labels, _ = batch
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]  # without a prompt's rows
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def adapter_name(name):
    return name.replace(".default.weight", ".weight").replace(".ia3_l.default", ".ia3_l").replace("prompt_encoder.default.embedding.weight",
                                                              "prompt_embeddings")


def trained(model):
    return {adapter_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def make_optimiser(groups, recipe):
    name, rate = recipe.get("optimiser", "adamw"), recipe["learning_rate"]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(recipe["beta1"], recipe["beta2"]), eps=recipe["epsilon"])
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe["momentum"])
    return Adafactor(groups, lr=rate, relative_step=False, scale_parameter=bool(recipe["parameter_scale"]))


def decays(name, tensor):
    return tensor.dim() > 1 and not name.endswith("ia3_l")


def train(model, batches, recipe, before=None):
    """Losses and gradient norms of STEPS steps, each before its update; weight decay on matrices alone. before(step):
    what is done before a step; it may say what is trained."""
    if before:
        before(STEPS)
    named = trained(model)
    tensors = named.values()
    groups = [{"params": [p for n, p in named.items() if decays(n, p)], "weight_decay": recipe["weight_decay"]},
              {"params": [p for n, p in named.items() if not decays(n, p)], "weight_decay": 0.0}]
    optimiser = make_optimiser([g for g in groups if g["params"]], recipe)
    losses, norms = [], []
    for step in range(STEPS):
        optimiser.zero_grad()
        if before:
            before(step + 1)
        loss = loss_of(model, batches[step % len(batches)])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(tensors, recipe["clip_norm"]).item())
        optimiser.step()
        losses.append(loss.item())
    return losses, norms


def put_tensors(group, family, tensors):
    for name, tensor in tensors.items():
        if family["fused_qkv"] and name == "lm_head.weight":  # transformers 5's name for what files call so
            name = "embed_out.weight"
        group.create_dataset(name, data=tensor.detach().numpy().astype("<f4"))


def check_own_functions(model, batch, loss):
    """Computing in double must not have made another model of it."""
    in_double(False)
    own = loss_of(model, batch).item()
    in_double(True)
    if abs(own - loss) > 1e-5 * loss:
        sys.exit(f"transformers' own loss is {own}, in double {loss}")


def make_model(family, name, base_seed):
    """The same base for each method."""
    model = base_model(family, torch.Generator().manual_seed(base_seed))
    return with_method(model, family, name, METHODS[name], torch.Generator().manual_seed(base_seed + 1)).train()


def before_steps(model, family, name):
    """What `train` does before a step of the method."""
    return (lambda step: thaw(model, family, METHODS[name], step)) if name == "unfreeze" else None


def check_conditioning(model, batches, recipe, losses, before=None):
    """transformers' own float32 must stay far inside the test's bound, or the golden would measure chaos."""
    in_double(False)
    own, _ = train(model.float(), batches, recipe, before)
    in_double(True)
    error = max(abs(a / b - 1) for a, b in zip(own, losses))
    if error > 1e-4:
        sys.exit(f"badly conditioned: PyTorch's float32 curve differs from its float64 one by {error:.1e}")
    return error


def put_method(file, family, name, base_seed, batches):
    method = METHODS[name]
    model = make_model(family, name, base_seed)
    group = file.create_group(f"methods/{name}")
    if name in ADAPTER_METHODS:
        put_tensors(group.create_group("adapter"), family, trained(model))
        saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False) if name in PEFT_METHODS else None
        if saved and set(saved) != set(trained(model)):
            sys.exit(f"{name}: PEFT's file has other tensors: {sorted(set(saved) ^ set(trained(model)))}")
    loss = loss_of(model, batches[0])
    loss.backward()
    check_own_functions(model, batches[0], loss.item())
    put_tensors(group.create_group("gradients"), family, {n: p.grad for n, p in trained(model).items()})
    norm = math.sqrt(sum(p.grad.pow(2).sum().item() for p in trained(model).values()))
    recipe = dict(RECIPE, learning_rate=method["learning_rate"], clip_norm=round(0.6 * norm, 3))
    losses, norms = train(model, batches, recipe, before_steps(model, family, name))
    again = make_model(family, name, base_seed)
    own = check_conditioning(again, batches, recipe, losses, before_steps(again, family, name))
    for key, value in dict(recipe, **method, torch_float32=own).items():
        group.attrs[key] = float(value)
    group.attrs["made_with"] = MADE_WITH
    group.create_dataset("losses", data=numpy.array(losses, "<f8"))
    group.create_dataset("norms", data=numpy.array(norms, "<f8"))
    clipped = sum(n > recipe["clip_norm"] for n in norms)
    print(f"  {name}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, {clipped} of {STEPS} steps clipped, "
          f"PyTorch's float32 curve within {own:.1e}")


def optimiser_rate(model_name, family, method, optimiser):
    """None: no golden."""
    rate = OPTIMISERS[optimiser].get(method)
    if optimiser != "adafactor":
        return rate if model_name in OPTIMISER_MODELS else None
    unturned = family["qkv_bias"] and 0 < family["rotary_width"] < family["head_width"]
    return UNTURNED_RATES.get(method, rate) if unturned else rate


def put_optimiser(file, model_name, family, method, optimiser, base_seed, batches):
    choice, rate = OPTIMISERS[optimiser], optimiser_rate(model_name, family, method, optimiser)
    if not rate:
        return
    model = make_model(family, method, base_seed)
    loss_of(model, batches[0]).backward()
    norm = math.sqrt(sum(p.grad.pow(2).sum().item() for p in trained(model).values()))
    recipe = dict(learning_rate=rate, weight_decay=RECIPE["weight_decay"], clip_norm=round(0.6 * norm, 3),
                  parameter_scale=choice["parameter_scale"], momentum=choice["momentum"])
    named = dict(recipe, optimiser=optimiser)
    losses, norms = train(model, batches, named, before_steps(model, family, method))
    again = make_model(family, method, base_seed)
    own = check_conditioning(again, batches, named, losses, before_steps(again, family, method))
    group = file.create_group(f"{model_name}/{method}/{optimiser}")
    for key, value in dict(recipe, torch_float32=own).items():
        group.attrs[key] = float(value)
    group.create_dataset("losses", data=numpy.array(losses, "<f8"))
    group.create_dataset("norms", data=numpy.array(norms, "<f8"))
    print(f"{model_name}, {method}, {optimiser}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, within {own:.1e}")


def put_optimisers(folder):
    """Of the methods that the models' files have."""
    (folder / "optimisers").mkdir(exist_ok=True)
    with h5py.File(folder / "optimisers/curves.h5", "w", libver=("v108", "v108"), track_order=False) as file:
        file.attrs["made_with"] = MADE_WITH
        for index, (name, family) in enumerate(MODELS.items()):
            family = dict(ARCHITECTURE, **family)
            batches = make_batches(family["vocabulary"], torch.Generator().manual_seed(1000 + index))
            with h5py.File(folder / f"{name}.h5", "r") as golden:
                methods = [method for method in METHODS if method in golden["methods"]]
            for method in methods:
                for optimiser in OPTIMISERS:
                    put_optimiser(file, name, family, method, optimiser, 100 * index, batches)


def put_model(path, family, index, batches):
    """A new file, without methods."""
    with h5py.File(path, "w", libver=("earliest", "v108"), track_order=False) as file:
        for key, value in family.items():
            file.attrs[key] = float(value)
        file.attrs["made_with"] = MADE_WITH
        for i, batch in enumerate(batches):
            for key, values in batch[3].items():
                file.create_dataset(f"batches/{i}/{key}", data=numpy.array(values, "<i4"))
        model = base_model(family, torch.Generator().manual_seed(100 * index))
        put_tensors(file.create_group("weights"), family, dict(model.named_parameters()))


def check_weights(file, family, index):
    """What is added must be of the weights that are there."""
    for name, tensor in base_model(family, torch.Generator().manual_seed(100 * index)).named_parameters():
        name = "embed_out.weight" if family["fused_qkv"] and name == "lm_head.weight" else name
        if not (file["weights"][name][()] == tensor.detach().numpy().astype("<f4")).all():
            sys.exit(f"{name} is drawn otherwise by this torch: make all goldens again")


def put_models(folder, add):
    for index, (name, family) in enumerate(MODELS.items()):
        family = dict(ARCHITECTURE, **family)
        path = folder / f"{name}.h5"
        batches = make_batches(family["vocabulary"], torch.Generator().manual_seed(1000 + index))
        if not add or not path.exists():
            put_model(path, family, index, batches)
        print(path.name)
        with h5py.File(path, "r+", libver=("earliest", "v108")) as file:
            check_weights(file, family, index)
            for method in METHODS:
                if f"methods/{method}" not in file and fits(family, method):
                    put_method(file, family, method, 100 * index, batches)


def main():
    words = {"--optimisers", "--add"}
    arguments = [a for a in sys.argv[1:] if a not in words]
    folder = Path(arguments[0]) if arguments else Path(__file__).parent
    torch.set_num_threads(1)
    in_double(True)
    if "--optimisers" not in sys.argv:
        put_models(folder, "--add" in sys.argv)
    put_optimisers(folder)


if __name__ == "__main__":
    main()
