"""The steering cases: changes of the residual written as forward hooks, apart from the engine's own code.

A term is `{"operation": "add"|"ablate"|"clamp", "layers": [...], "scope": "all"|"prompt"|"response", ...}` with
`coefficient`, or `low` and `high`. The response starts with the last prompt token. Ablation and clamping leave the
first token alone. At one layer, additions come first; then the component along v/‖v‖ of that sum is changed.
"""

import torch

from checkpoint import Change, Tokens

SEED = 20250729
RELATIVE_NORM = 0.15


def conversation(tokens: Tokens, messages: list[dict]) -> tuple[list[int], int]:
    """Ids of prompt and answer (without its end token), and the length of the prompt."""
    *before, answer = messages
    prompt = tokens.chat(before, answer_next=True)
    return prompt + tokens.plain(answer["content"]), len(prompt)


def direction(residual: torch.Tensor) -> torch.Tensor:
    """Normal random rows `[L+1, d]`, each of 0.15 × the median residual norm of the tokens after the first."""
    generator = torch.Generator().manual_seed(SEED)
    vector = torch.randn(residual.shape[0], residual.shape[2], generator=generator)
    median = residual[:, 1:].norm(dim=-1).median(dim=-1).values
    return vector / vector.norm(dim=-1, keepdim=True) * (RELATIVE_NORM * median)[:, None]


def cases(residual: torch.Tensor, vector: torch.Tensor, prompt_length: int) -> list[dict]:
    """Every case with its terms; `from_layer` is the first layer that is stored."""

    def add(coefficient: float, layers: list[int], scope: str = "all") -> dict:
        return {"operation": "add", "coefficient": coefficient, "layers": layers, "scope": scope}

    def clamp(layer: int, scope: str = "all") -> dict:
        # The middle half of the natural components, so that tokens lie below, inside and above.
        unit = vector[layer] / vector[layer].norm()
        low, high = (residual[layer, 1:] @ unit).quantile(torch.tensor([0.25, 0.75])).tolist()
        return {"operation": "clamp", "low": low, "high": high, "layers": [layer], "scope": scope}

    last = residual.shape[0] - 1
    named = {
        "add_one_layer": [add(1.5, [16])],
        "add_several_layers": [add(1.0, [0, 12, last])],
        "add_response": [add(-2.0, [14], "response")],
        "add_prompt": [add(2.0, [24], "prompt")],
        "ablate": [{"operation": "ablate", "layers": [18], "scope": "all"}],
        "clamp": [clamp(20)],
        "add_and_clamp": [add(1.0, [26]), clamp(26)],
    }
    return [
        {"name": name, "from_layer": min(layer for term in terms for layer in term["layers"]), "terms": terms}
        for name, terms in named.items()
    ]


def changes(terms: list[dict], vector: torch.Tensor, prompt_length: int) -> dict[int, Change]:
    """One change a layer, in the form that `Model.run` takes."""

    def at(layer: int) -> Change:
        row = vector[layer]
        unit = row / row.norm()

        def change(hidden: torch.Tensor) -> torch.Tensor:
            length = hidden.shape[0]
            here = [term for term in terms if layer in term["layers"]]
            scopes = {
                "all": torch.ones(length, 1, dtype=torch.bool),
                "prompt": torch.arange(length)[:, None] < prompt_length - 1,
                "response": torch.arange(length)[:, None] >= prompt_length - 1,
            }
            for term in here:
                if term["operation"] == "add":
                    hidden = torch.where(scopes[term["scope"]], hidden + term["coefficient"] * row, hidden)
            for term in here:
                if term["operation"] == "add":
                    continue
                component = (hidden @ unit)[:, None]
                limits = (0.0, 0.0) if term["operation"] == "ablate" else (term["low"], term["high"])
                limited = hidden + (component.clamp(*limits) - component) * unit
                touched = scopes[term["scope"]].clone()
                touched[0] = False
                hidden = torch.where(touched, limited, hidden)
            return hidden

        return change

    return {layer: at(layer) for layer in {layer for term in terms for layer in term["layers"]}}
