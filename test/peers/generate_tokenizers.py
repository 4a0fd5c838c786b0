"""Golden cases of tokenizers: trained on a few lines, asked for tricky texts."""

import json
import random
from pathlib import Path

from manifest import write_manifest

TRICKY = [
    "", " ", "  ", "a", " a", "a ", "Hello, world!", "  leading and trailing  ", "multiple   spaces    here",
    "tab\tsep\ttext", "line1\nline2\n\nline4\r\nline5", "it's we'll THEY'VE I'm", "3.14159 1,000,000 12345678901",
    "naïve café résumé", "nai\u0308ve cafe\u0301", "日本語のテキスト", "中文 English 混合", "한국어", "Привет, мир!",
    "مرحبا بالعالم", "😀👍🏽👨\u200d👩\u200d👧🇫🇷", "\u200bzero\u200dwidth\ufeff", "\ufeffbom first a\ufeffb", "\x00\x01\x7f",
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|im_start|>user\nhi<|im_end|>\n", "<s>not</s> <s> special",
    "<|end<|endoftext|>text|>", "<s><s>", "x </s>", "▁underscore▁block", "\xa0nbsp\u2003em\x85nel\u3000ideo",
    "def f(x):\n    return x**2  # comment\n", "ẞß ſ ﬁ Ⅳ ½ İ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🧑\u200d💻", "a" * 40, "!!!???...---", "\ud7ff\ue000",
    "CamelCaseWord snake_case_word", "\n\n\n   \n\t \n", "don’t “curly”", "x\u0301\u0302\u0303", "12 345 6789 ٣٤٥ ²³",
    "<0x41> literal", "Ġreal Ċ chars", "tail   ", "'s 'S 'll\u017fx K\u212a",
]

CORPUS = [
    "The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore, and he sells them again.",
    "In the beginning there was a tokenizer; it merged pairs of bytes until the vocabulary was full.",
    "def add(a, b):\n    return a + b\n\nclass Model:\n    def __init__(self):\n        self.x = 0\n",
    "naïve café résumé: 日本語 と 中文, Привет мир, 한국어 텍스트, 😀 👍 emoji 1,000,000 3.14159 2024-01-31",
    "it's we're they've I'm he'll you'd   spaces    and\ttabs\n\n\nnew lines  ",
]


def tokenizers_(out: Path, seed: int) -> None:
    """Tokenizers of several families, trained on a few lines, and what they make of tricky texts."""
    rng = random.Random(seed)
    for name, build in {
        "gpt2_bytelevel": byte_level,
        "llama3_split": llama3_split,
        "llama2_spm_bpe": spm_bpe,
        "digits_nfc": digits_nfc,
        "unigram": unigram,
    }.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        corpus = [" ".join(rng.sample(line.split(" "), len(line.split(" ")))) for line in CORPUS * 3]
        tokenizer = build(corpus, rng)
        tokenizer.save(str(folder / "tokenizer.json"))
        fields = {
            "name": name,
            "seed": seed,
            "vocab_size": tokenizer.get_vocab_size(),
            "encodings": [encoding(tokenizer, text) for text in TRICKY],
            "note": "offsets are in code points of the text",
            "tolerance": "exact",
        }
        write_manifest(folder, "08_tokenizer", ["tokenizers"], fields)


def encoding(tokenizer, text: str) -> dict:
    encoded = tokenizer.encode(text)
    return {
        "text": text,
        "ids": encoded.ids,
        "tokens": encoded.tokens,
        "offsets": encoded.offsets,
        "ids_no_special": tokenizer.encode(text, add_special_tokens=False).ids,
        "decoded": tokenizer.decode(encoded.ids),
        "decoded_with_special": tokenizer.decode(encoded.ids, skip_special_tokens=False),
    }


SPECIAL = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]


def train_bpe(corpus: list[str], rng: random.Random, pre, **options):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=rng.randint(300, 500),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def byte_level(corpus: list[str], rng: random.Random):
    from tokenizers import pre_tokenizers, processors

    pre = pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.3)
    tokenizer = train_bpe(corpus, rng, pre)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=rng.random() < 0.5)
    return tokenizer


def llama3_split(corpus: list[str], rng: random.Random):
    from tokenizers import Regex, pre_tokenizers, processors

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    pre = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = train_bpe(corpus, rng, pre, ignore_merges=True)
    if rng.random() < 0.5:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 2), ("<|im_end|>", 3)]
        )
    return tokenizer


def digits_nfc(corpus: list[str], rng: random.Random):
    from tokenizers import AddedToken, normalizers, pre_tokenizers

    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = train_bpe(corpus, rng, pre_tokenizers.Sequence(parts))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken("</s>", lstrip=True), AddedToken("<s>", rstrip=True)])
    return tokenizer


def spm_bpe(corpus: list[str], rng: random.Random):
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    parts = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(parts)
    trainer = trainers.BpeTrainer(
        vocab_size=rng.randint(500, 800),
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = saved["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def unigram(corpus: list[str], rng: random.Random):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=rng.randint(150, 250), special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def sentencepiece(out: Path, seed: int) -> None:
    """Vocabularies of SentencePiece with scores, as GGUF metadata has them, and ids of tricky texts."""
    import io

    import sentencepiece as spm

    cases = {}
    for kind, size in (("bpe", 520), ("unigram", 480)):
        model = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 5),
            model_writer=model,
            model_type=kind,
            vocab_size=size,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        sp = spm.SentencePieceProcessor(model_proto=model.getvalue())
        ids = range(sp.get_piece_size())
        kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in ids]
        texts = [text for text in TRICKY if "\x00" not in text and "\ufeff" not in text and "<" not in text]
        cases[kind] = {
            "tokens": [sp.id_to_piece(i) for i in ids],
            "scores": [sp.get_score(i) for i in ids],
            "token_type": kinds,
            "encodings": [{"text": t, "ids": sp.encode(t), "decoded": sp.decode(sp.encode(t))} for t in texts],
        }
    (out / "sentencepiece.json").write_text(json.dumps(cases))


def bpe(out: Path, seed: int) -> None:
    """Merges and vocabulary that BpeTrainer learns from a few lines."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    corpus = CORPUS * 3
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL[:2],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    fields = {"corpus": corpus, "vocab": model["vocab"], "merges": model["merges"]}
    (out / "bpe.json").write_text(json.dumps(fields))
