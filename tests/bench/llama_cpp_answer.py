"""Times one greedy answer of llama.cpp, as `crates/engine/examples/time_answer.rs` times ours.

Standard input: {"model": GGUF file, "prompt": token ids, "max_tokens", "threads"}; standard output:
{"prompt_tokens", "tokens", "first_token_s", "decode_tok_s", "text"}.
"""

import json
import sys
import time

from llama_cpp import Llama


def answer(llama: Llama, prompt: list[int], max_tokens: int) -> dict:
    ids = []
    start = time.perf_counter()
    first = last = start
    llama.reset()
    for token in llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0, reset=True):
        if token == llama.token_eos():
            break
        last = time.perf_counter()
        if not ids:
            first = last
        ids.append(token)
        if len(ids) == max_tokens:
            break
    return {
        "prompt_tokens": len(prompt),
        "tokens": len(ids),
        "first_token_s": first - start,
        "decode_tok_s": (len(ids) - 1) / (last - first) if len(ids) > 1 else None,
        "text": llama.detokenize(ids).decode("utf-8", errors="replace"),
    }


def main() -> None:
    request = json.load(sys.stdin)
    prompt, max_tokens, threads = request["prompt"], request["max_tokens"], request["threads"]
    llama = Llama(
        request["model"],
        n_ctx=len(prompt) + max_tokens,
        n_threads=threads,
        n_threads_batch=threads,
        n_gpu_layers=0,
        verbose=False,
    )
    answer(llama, prompt, 2)
    json.dump(answer(llama, prompt, max_tokens), sys.stdout)


if __name__ == "__main__":
    main()
