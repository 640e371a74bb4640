"""Writes gguf_vocabularies.json beside this file: small vocabularies as GGUF files hold them, one for each kind of pre-tokenizer
and one of SentencePiece, trained on texts of this repository, and the ids that the Python packages `tokenizers` and
`sentencepiece` give the hard set of tests/golden/tokenizer.py. Run it as

    python make_gguf.py
"""

import ast
import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
GOLDEN = HERE / "../../../../tests/golden"
FILES = [str(path) for path in sorted((GOLDEN / "texts").glob("*.txt"))]
# As the models' own tokenizer.json files have them.
CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA_3 = SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN_2 = SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
O200K = CASED % (SUFFIX + "?", SUFFIX + "?") + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
TEKKEN = CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES


def hard_texts() -> list[str]:
    """`TEXTS` of tests/golden/tokenizer.py, without what that imports."""
    for node in ast.parse((GOLDEN / "tokenizer.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "TEXTS":
            return ast.literal_eval(node.value)
    raise SystemExit("tests/golden/tokenizer.py has no TEXTS")


def words() -> list:
    return [pre_tokenizers.ByteLevel(add_prefix_space=False)]


def digits() -> list:
    return [pre_tokenizers.Digits(individual_digits=True), *words()]


def pattern(regex: str) -> list:
    return [
        pre_tokenizers.Split(Regex(regex), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


# Name in GGUF files: pre-tokenizer, whether merges are ignored for whole tokens, whether text is NFC first.
KINDS = {
    "gpt-2": (words(), False, False),
    "olmo": (words(), False, True),
    "smollm": (digits(), False, False),
    "llama-bpe": (pattern(LLAMA_3), True, False),
    "dbrx": (pattern(LLAMA_3), False, False),
    "qwen2": (pattern(QWEN_2), False, True),
    "gpt-4o": (pattern(O200K), False, False),
    "tekken": (pattern(TEKKEN), True, False),
}


def byte_level(name: str) -> dict:
    steps, ignore_merges, composed = KINDS[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train(FILES, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(["<|end|>"])
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get) + ["<|end|>"]
    if ignore_merges:
        # A token that no merge makes: alone it is found all the same.
        tokens[-2] = "wo" + "rld" * 2
    kinds = [1] * (len(tokens) - 1) + [3]
    merges = [merge for merge in model["merges"] if "".join(merge) in tokens]
    vocabulary = {"model": "gpt2", "pre": name, "tokens": tokens, "types": kinds, "merges": merges}
    rebuilt = Tokenizer(
        models.BPE(
            vocab={token: id for id, token in enumerate(tokens)}, merges=[tuple(merge) for merge in merges], ignore_merges=ignore_merges
        )
    )
    rebuilt.pre_tokenizer = tokenizer.pre_tokenizer
    if composed:
        rebuilt.normalizer = normalizers.NFC()
    extra = ["worldrld", "worldworld", "HELLOworld iPhone's DON'T we'LL"]
    texts = [[text, rebuilt.encode(text).ids] for text in [*hard_texts(), *extra]]
    return {"vocabulary": vocabulary, "texts": texts}


def sentence_piece() -> dict:
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=FILES, model_writer=file, model_type="bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
    )  # fmt: skip
    trained = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    ids = range(trained.get_piece_size())
    kind = lambda id: 2 if trained.is_unknown(id) else 3 if trained.is_control(id) else 6 if trained.is_byte(id) else 1
    vocabulary = {
        "model": "llama",
        "tokens": [trained.id_to_piece(id) for id in ids],
        "scores": [trained.get_score(id) for id in ids],
        "types": [kind(id) for id in ids],
    }
    # An empty text has a space before it by the one, and by the other not.
    texts = [[text, trained.encode(text)] for text in hard_texts() if text]
    return {"vocabulary": vocabulary, "texts": texts}


def main():
    cases = {name: byte_level(name) for name in KINDS} | {"sentencepiece": sentence_piece()}
    text = json.dumps(cases, separators=(",", ":")).replace('],["', '],\n["')
    (HERE / "gguf_vocabularies.json").write_text(text + "\n")


main()
