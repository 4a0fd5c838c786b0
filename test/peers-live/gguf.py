"""python gguf.py logits FILE IDS | tokens FILE TEXT | info FILE: what llama.cpp and gguf-py read, as JSON."""
import json
import sys

sys.path.pop(0)  # this folder, whose own name would hide the package gguf

import gguf  # noqa: E402
import llama_cpp  # noqa: E402
from llama_cpp import Llama  # noqa: E402

# llama.cpp's AMX buffers crash where a sandbox lends no AMX; without them it takes its plain kernels.
default_params = llama_cpp.llama_cpp.llama_model_default_params


def plain_params():
    params = default_params()
    params.use_extra_bufts = False
    return params


llama_cpp.llama_cpp.llama_model_default_params = plain_params


def load(path):
    return Llama(path, n_ctx=64, logits_all=True, verbose=False, n_threads=1)


def logits(path, ids):
    model = load(path)
    model.eval(json.loads(ids))
    return model.scores[: model.n_tokens].tolist()


def tokens(path, text):
    return load(path).tokenize(text.encode(), add_bos=False, special=False)


def info(path):
    reader = gguf.GGUFReader(path)
    return {
        "types": {t.name: t.tensor_type.name for t in reader.tensors},
        "sums": {t.name: float(gguf.quants.dequantize(t.data, t.tensor_type).astype("float64").sum()) for t in reader.tensors},
        "fields": {key: field.contents() for key, field in reader.fields.items() if not key.startswith("tokenizer")},
    }


print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
