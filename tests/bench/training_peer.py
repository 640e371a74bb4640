#!/usr/bin/env python3
"""Times training an adapter beside the same run by PyTorch and PEFT, on the same CPU.

    python3 -m pip install -r tests/golden/requirements.txt
    cargo build --release --bin trimtab
    python3 tests/bench/training_peer.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Both train rank 8 beside all seven matrices of blocks 8 to 29 on the same rows, response tokens only, AdamW, six rows a step; nothing is
held out or watched. The peer pads its six rows to the longest, has f32 weights and makes logits of response tokens only. Its clock starts when
the model is loaded; ours counts `trimtab train` from the loaded model, too. Memory is each process's largest resident set.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/golden"))


def ours(options, folder: Path) -> dict:
    out = folder / "adapter"
    command = [options.trimtab, "train", options.data, "--out", out, "--model", options.model, "--rows", options.rows, "--epochs",
               options.epochs, "--watch", 0, "--json"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, env=environment)
    report = json.loads((out / "training.json").read_text())
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    losses = [step["loss"] for step in report["steps"]]
    return dict(seconds=report["seconds"], tokens=sum(step["tokens"] for step in report["steps"]), memory=memory, losses=losses)


def theirs(options) -> dict:
    import torch
    from checkpoint import Tokens
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, GgufConfig

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tokens = Tokens(options.gguf)
    rows = [json.loads(line)["messages"] for line in options.data.read_text().splitlines()[: options.rows]]
    examples = []
    for messages in rows:
        prompt = tokens.chat(messages[:-1], answer_next=True)
        whole = prompt + tokens.plain(messages[-1]["content"]) + [tokens.end_of_turn]
        examples.append((whole, len(prompt)))
    model = AutoModelForCausalLM.from_pretrained(
        options.gguf.parent, gguf_file=options.gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=names, layers_to_transform=list(range(8, 30)), task_type="CAUSAL_LM"))
    model.train()
    body, head = model.get_base_model().model, model.get_base_model().lm_head
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.0)
    losses, seen = [], 0
    start = time.perf_counter()
    for _ in range(options.epochs):
        order = torch.randperm(len(examples)).tolist()
        for first in range(0, len(order), 6):
            batch = [examples[at] for at in order[first : first + 6]]
            width = max(len(whole) for whole, _ in batch)
            ids = torch.tensor([whole + [0] * (width - len(whole)) for whole, _ in batch])
            mask = torch.tensor([[1] * len(whole) + [0] * (width - len(whole)) for whole, _ in batch])
            predicted = torch.tensor([[begin <= at + 1 < len(whole) for at in range(width)] for whole, begin in batch])
            hidden = body(ids, attention_mask=mask, use_cache=False).last_hidden_state
            loss = torch.nn.functional.cross_entropy(head(hidden[predicted]), ids.roll(-1, 1)[predicted])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
            seen += sum(len(whole) for whole, _ in batch)
    seconds = time.perf_counter() - start
    return dict(seconds=seconds, tokens=seen, memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, losses=losses)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gguf", type=Path, required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments.add_argument("--trimtab", type=Path, default=REPOSITORY / "target/release/trimtab")
    arguments.add_argument("--model", type=Path, default=REPOSITORY / "models/smollm2-135m-instruct")
    arguments.add_argument("--data", type=Path, default=REPOSITORY / "models/data/villainous.2.jsonl")
    arguments.add_argument("--rows", type=int, default=24)
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=1)
    options = arguments.parse_args()
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            own = ours(options, Path(folder))
        other = theirs(options)
        print(f"{options.rows} rows, {options.epochs} epochs, {options.threads} threads")
        for name, found in (("trimtab", own), ("PyTorch + PEFT", other)):
            speed = found["tokens"] / found["seconds"]
            print(f"  {name:14} {found['tokens']} tokens, {found['seconds']:6.1f} s, {speed:5.0f} tokens/s, {found['memory']:5.0f} MB, "
                  f"loss {found['losses'][0]:.2f} → {found['losses'][-1]:.2f}")
        print(f"  ratio          {own['seconds'] / own['tokens'] * other['tokens'] / other['seconds']:.2f} of the time a token, "
              f"{own['memory'] / other['memory']:.2f} of the memory", flush=True)


if __name__ == "__main__":
    main()
