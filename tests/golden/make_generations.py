"""Goldens of generation: token ids of transformers' generate, greedy and by beam search, on the random models of this folder.

  VENV/bin/pip install torch transformers peft h5py && VENV/bin/python tests/golden/make_generations.py

Reads the weights of MODEL.h5 (make_goldens.py made them) and writes evaluation/generations.h5:
    /MODEL/METHOD/SEARCH    attributes beams, max_new_tokens, length_penalty, end; METHOD: none, lora, prompt, prefix, ia3, adapter (as in MODEL.h5)
        prompts, offsets    token ids, one sequence after the other
        ids, counts         what follows each: ids [prompts][max_new_tokens], without the end token, zeros behind
Prompt and prefix tuning go through PEFT's forward pass of the whole text for each token: with a cache, PEFT's generate gives new tokens
other positions than that, and prefix tuning other keys.
In float64, one prompt at a time. Prompts for which a random change of all weights by 1e-5 of themselves gives other ids are left out: a near-tie
decides there, and nothing can be asked of fp32."""
import sys
from pathlib import Path

import h5py
import numpy
import torch
import transformers

import make_goldens as goldens

FOLDER = Path(__file__).resolve().parent
NEW = 14
PROMPTS = 7
# beams, length penalty
SEARCHES = {"greedy": (1, 1.0), "beam4": (4, 1.0), "beam4_short": (4, -0.5), "beam3_long": (3, 2.0)}
METHODS = {  # the models
    "none": sorted(goldens.MODELS),
    "lora": ["llama_gqa_untied", "neox_parallel", "olmo2_gqa_untied", "paper_mqa_tied"],
    "prompt": ["llama_gqa_untied", "neox_parallel", "olmo2_gqa_untied", "paper_mqa_tied"],
    "prefix": ["llama_gqa_untied", "neox_parallel", "olmo2_gqa_untied", "paper_mqa_tied"],
    "ia3": ["llama_gqa_untied", "neox_parallel"],
    "adapter": ["llama_gqa_untied", "neox_parallel"],
}
SEARCHED = "llama_gqa_untied"  # by all searches


def load(file, name, method, noise=None):
    """The golden's model with its method, in float64; `noise`: a generator, for weights that are a little off."""
    family = dict(goldens.ARCHITECTURE, **goldens.MODELS[name])
    model = goldens.CLASSES[family["family"]](goldens.config_of(family)).double()
    tensors = {name: file["weights"][name][()] for name in names(file["weights"])}
    if method != "none":
        model = goldens.with_method(model, family, method, goldens.METHODS[method], torch.Generator().manual_seed(1))
        adapter = file[f"methods/{method}/adapter"]
        tensors.update({name: adapter[name][()] for name in names(adapter)})
    with torch.no_grad():
        found = 0
        for name, parameter in model.named_parameters():
            spelled = goldens.adapter_name(name).replace(".base_layer", "")
            spellings = [spelled, spelled.removeprefix("base_model.model."), spelled.removeprefix("base_model.")]
            spellings = ["embed_out.weight" if family["fused_qkv"] and spelled == "lm_head.weight" else spelled for spelled in spellings]
            spelled = next((spelled for spelled in spellings if spelled in tensors), None)
            if not spelled:
                sys.exit(f"{name}: not in the golden")
            parameter.copy_(torch.from_numpy(tensors[spelled]).double())
            found += 1
            if noise:
                parameter.mul_(1 + 1e-5 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
        if found != len(tensors):
            sys.exit(f"{found} of {len(tensors)} tensors were used")
    model.eval()
    return (whole_texts(model) if method in ("prompt", "prefix") else model), family


def whole_texts(adapted):
    """The base model, for generate, with PEFT's forward pass in the place of its own; without a cache."""
    base = adapted.get_base_model()
    own = base.forward

    def forward(input_ids, attention_mask=None, **_):
        base.forward = own
        try:
            return adapted(input_ids=input_ids, attention_mask=attention_mask)
        finally:
            base.forward = forward

    base.forward = forward
    base.uncached = True
    return base


def names(group):
    found = []
    group.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def continuation(model, prompt, beams, penalty, end):
    config = transformers.GenerationConfig(num_beams=beams, do_sample=False, max_new_tokens=NEW, eos_token_id=end if end >= 0 else None, pad_token_id=0,
                                           length_penalty=penalty if beams > 1 else 1.0, early_stopping=False if beams > 1 else None,
                                           use_cache=not hasattr(model, "uncached"))
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)[0].tolist()
    out = out[len(prompt):] if out[:len(prompt)] == prompt else out
    return out[:out.index(end)] if end in out else out


def choose_end(model, prompts):
    """A token that ends some texts early and others not: one that greedy search often meets."""
    seen = numpy.zeros(model.config.vocab_size, int)
    for prompt in prompts[:4]:
        for token in set(continuation(model, prompt, 1, 1.0, -1)[3:]):
            seen[token] += 1
    order = numpy.argsort(-seen, kind="stable")
    return int(next((token for token in order if seen[token] <= 2), order[-1]))


def main():
    (FOLDER / "evaluation").mkdir(exist_ok=True)
    path = FOLDER / "evaluation/generations.h5"
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    goldens.in_double(True)
    with h5py.File(path, "w", libver=("earliest", "v108")) as out:
        out.attrs["made_with"] = numpy.bytes_(f"torch {torch.__version__}, transformers {transformers.__version__}, float64")
        for name in sorted(goldens.MODELS):
            with h5py.File(FOLDER / f"{name}.h5") as file:
                for method in METHODS:
                    if name in METHODS[method]:
                        put(out, file, name, method)
    print(path, path.stat().st_size, "bytes")


def put(out, file, name, method):
    model, family = load(file, name, method)
    others = [load(file, name, method, torch.Generator().manual_seed(seed))[0] for seed in (11,)]
    generator = torch.Generator().manual_seed(sum(map(ord, name + method)))
    prompts = [torch.randint(family["vocabulary"], (int(torch.randint(1, 18, (1,), generator=generator)),), generator=generator).tolist()
               for _ in range(2 * PROMPTS)]
    end = choose_end(model, prompts)
    for search, (beams, penalty) in SEARCHES.items():
        if search not in ("greedy", "beam4") and (method, name) != ("none", SEARCHED):
            continue
        kept, results, skipped = [], [], 0
        for prompt in prompts:
            if len(kept) == PROMPTS:
                break
            result = continuation(model, prompt, beams, penalty, end)
            if any(continuation(other, prompt, beams, penalty, end) != result for other in others):
                skipped += 1
                continue
            kept.append(prompt)
            results.append(result)
        group = out.create_group(f"{name}/{method}/{search}")
        for key, value in dict(beams=beams, max_new_tokens=NEW, length_penalty=penalty, end=end).items():
            group.attrs[key] = float(value)
        group.create_dataset("prompts", data=numpy.array(sum(kept, []), "<i4"))
        group.create_dataset("offsets", data=numpy.cumsum([0] + [len(prompt) for prompt in kept]).astype("<u4"))
        group.create_dataset("ids", data=numpy.array([result + [0] * (NEW - len(result)) for result in results], "<i4"))
        group.create_dataset("counts", data=numpy.array([len(result) for result in results], "<u4"))
        print(f"{name} {method} {search}: {len(kept)} prompts, {skipped} left out, {sum(len(r) < NEW for r in results)} ended, "
              f"mean length {numpy.mean([len(r) for r in results]):.1f}", flush=True)


if __name__ == "__main__":
    main()
