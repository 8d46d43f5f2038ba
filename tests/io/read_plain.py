"""A reader with nothing but Python, written after docs/store-format.md: datasets() of any file, rows() of a store's committed points."""
import struct

POINT = "identity base trunk task model method parameters non_embedding_parameters trainable_parameters pretrain_tokens finetune_examples " \
        "pet_size seed learning_rate held_out removed".split()
RESULT = "identity status evaluations steps best_step tokens target_tokens flops train_loss valid_loss test_loss test_perplexity " \
         "pretrain_loss gradient_norm test_tokens valid_tokens best_digest " \
         "bleu chrf rouge1 rouge2 rougeL length_penalty generated beams max_new_tokens generations learning_rate".split()
CURVE = "step tokens train_loss valid_loss gradient_norm learning_rate".split()


def datasets(path):
    """The kind, the attributes, and of each dataset its element's type and size, how many there are, and their bytes."""
    data = open(path, "rb").read()
    kind, version, count, size, _, attribute_size = struct.unpack_from("<32s2I3Q", data)
    assert version == {b"tunelaw store": 3}.get(kind.rstrip(b"\0"), 2) and size == len(data) and count <= 24 and attribute_size <= 5624
    words = data[2560:2560 + attribute_size].decode().split("\0")
    parts = {}
    for i in range(count):
        name, element, record, width, rows, offset, _, _, _ = struct.unpack_from("<48s8s5Q2I", data, 64 + 104 * i)
        assert rows == 0 or 8192 <= offset <= size and rows * width <= size - offset
        parts[name.rstrip(b"\0").decode()] = (element.rstrip(b"\0").decode(), width, rows, data[offset:offset + rows * width])
    return kind.rstrip(b"\0").decode(), dict(zip(words[0:-1:2], words[1::2])), parts


def unpack(names, form, data, offset):
    values = struct.unpack_from("<" + form, data, offset)
    return {name: value.rstrip(b"\0").decode() if type(value) is bytes else value for name, value in zip(names, values)}


def rows(path):
    """Of each committed row its number, point, result and curve."""
    kind, _, parts = datasets(path)
    assert kind == "tunelaw store"
    points, results, curves = (parts[name][3] for name in ("points", "results", "curves"))
    for i in range(parts["points"][2]):
        committed, reserved, _ = struct.unpack_from("<2IQ", results, 4096 * i + 4080)
        if (committed, reserved) == (1, 0):
            length, = struct.unpack_from("<Q", curves, 4096 * i + 32)
            yield (i, unpack(POINT, "32s32s32s48s48s48s7Qd2I", points, 312 * i), unpack(RESULT, "32s2I4Q7d2Q32s6dQ2I32sd", results, 4096 * i),
                   [unpack(CURVE, "6d", curves, 4096 * i + 40 + 48 * j) for j in range(min(length, 64))])
