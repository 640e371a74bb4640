"""The checkpoint as Hugging Face sees it: token ids from `tokenizers`, the forward pass from `transformers`.

Nothing of this project takes part, so that what comes out is an independent reference.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

import gguf
import jinja2
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers

SPECIAL = 3  # GGUF's token type CONTROL


class Tokens:
    """Token ids and rendered chats, built from the GGUF's metadata.

    `AutoTokenizer.from_pretrained(gguf_file=...)` is not used: it loses the `Digits` step of the
    "smollm" pre-tokenizer and with it the ids of numbers.
    """

    def __init__(self, path: Path):
        fields = gguf.GGUFReader(path).fields
        kind = fields["tokenizer.ggml.pre"].contents()
        if kind != "smollm":
            raise SystemExit(f"{path}: pre-tokenizer {kind!r}; these scripts know 'smollm' only")
        vocabulary = fields["tokenizer.ggml.tokens"].contents()
        types = fields["tokenizer.ggml.token_type"].contents()
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
        self.tokenizer = tokenizers.Tokenizer(
            models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)
        )
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.tokenizer.decoder = decoders.ByteLevel()
        self.tokenizer.add_special_tokens([t for t, kind in zip(vocabulary, types) if kind == SPECIAL])
        self.end_of_turn = fields["tokenizer.ggml.eos_token_id"].contents()
        self.template = jinja2.Environment().from_string(fields["tokenizer.chat_template"].contents())

    def plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def chat(self, messages: list[dict], answer_next: bool) -> list[int]:
        """A rendered conversation; with `answer_next` it ends where the model's answer begins."""
        return self.plain(self.template.render(messages=messages, add_generation_prompt=answer_next))

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


Change = Callable[[torch.Tensor], torch.Tensor]
"""Takes the residual `[T, d]` of one layer and returns what is to stand in its place."""


@dataclass
class Pass:
    """One forward pass: logits `[T, vocabulary]`, residual `[L+1, T, d]`, each layer after its change."""

    logits: torch.Tensor
    residual: torch.Tensor = field(repr=False)


class Model:
    """transformers' model in f32 (or f64, to learn how far f32 rounding goes), eager attention.

    Weights are unpacked to dense matrices at load time, so that no quantised kernel takes part.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=transformers.GgufConfig(dequantize=True),
            dtype=dtype,
            attn_implementation="eager",
        ).eval()
        self.layer_rows = self.model.config.num_hidden_layers + 1
        self.width = self.model.config.hidden_size

    @torch.no_grad()
    def run(self, ids: list[int], changes: dict[int, Change] | None = None) -> Pass:
        """Layer 0 is the output of the embedding, layer i of block i, the last before the final norm."""
        body = self.model.model
        residual: list[torch.Tensor] = []

        def hook(layer: int):
            def replace(_module, _inputs, output):
                hidden = output[0] if isinstance(output, tuple) else output
                if changes and layer in changes:
                    hidden = changes[layer](hidden[0])[None]
                residual.append(hidden[0].clone())
                return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

            return replace

        sites = [body.embed_tokens, *body.layers]
        handles = [site.register_forward_hook(hook(layer)) for layer, site in enumerate(sites)]
        try:
            logits = self.model(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return Pass(logits, torch.stack(residual))

    @torch.no_grad()
    def steps(self, prompt: list[int], count: int, choose: Callable) -> Iterator:
        """Decodes `count` tokens one by one; an end token does not end it.

        `choose` takes the last logits and all ids so far; what it returns is yielded, a token first.
        """
        ids, fresh, cache = list(prompt), prompt, None
        for _ in range(count):
            output = self.model(torch.tensor([fresh]), past_key_values=cache, use_cache=True)
            choice = choose(output.logits[0, -1], ids)
            yield choice
            ids, fresh, cache = [*ids, choice[0]], [choice[0]], output.past_key_values
