"""Writes a llama-family GGUF file's dequantised weights as an ONNX model in f32 with a key/value cache.

    python onnx_file.py SOURCE.gguf OUT.onnx

Inputs: `input_ids` [1, T] int64, `seqlens_k` [1] int32 (tokens after this call, less one),
`total_sequence_length` [1] int32, `past_key_i` and `past_value_i` [1, kv_heads, P, head] f32.
Outputs: `next` [1, 1] int64 (the most likely token after the last), `present_key_i`, `present_value_i`.

The blocks are those that the optimisers of ONNX Runtime make of an exported model: fused attention
with rotary embedding (GroupQueryAttention) and fused residual norms, so that it is at its best.
"""

import sys

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FUSED = "com.microsoft"


def main(source: str, out: str) -> None:
    reader = gguf.GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def setting(name: str):
        return reader.fields[f"llama.{name}"].contents()

    layers, width = setting("block_count"), setting("embedding_length")
    heads, kv_heads = setting("attention.head_count"), setting("attention.head_count_kv")
    epsilon, base = setting("attention.layer_norm_rms_epsilon"), setting("rope.freq_base")
    head = width // heads
    context = 2048

    nodes, initializers = [], []

    def weights(name: str) -> np.ndarray:
        """`[rows, cols]`, one row for each output."""
        return gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float32)

    def constant(name: str, values: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def node(kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes) -> None:
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0] or outputs[-1], domain=domain, **attributes))

    def linear(inputs: str, weight: str, output: str, rows_of_heads: int = 0) -> str:
        matrix = weights(weight)
        if rows_of_heads:
            # GGUF interleaves the two halves of each head for its own rotary embedding.
            matrix = matrix.reshape(rows_of_heads, head // 2, 2, width).swapaxes(1, 2).reshape(-1, width)
        node("MatMul", [inputs, constant(weight, matrix.T)], [output])
        return output

    angles = np.outer(np.arange(context), base ** (-np.arange(0, head, 2) / head))
    cos = constant("cos", np.cos(angles).astype(np.float32))
    sin = constant("sin", np.sin(angles).astype(np.float32))

    embedding = constant("embedding", weights("token_embd.weight"))
    node("Gather", [embedding, "input_ids"], ["embedded"])
    residual, normed = "embedded", "normed_0"
    node("SimplifiedLayerNormalization", ["embedded", constant("norm_0", weights("blk.0.attn_norm.weight"))], [normed], epsilon=epsilon, axis=-1)
    inputs, outputs = [], []
    for layer in range(layers):
        block = f"blk.{layer}"
        query = linear(normed, f"{block}.attn_q.weight", f"query_{layer}", heads)
        key = linear(normed, f"{block}.attn_k.weight", f"key_{layer}", kv_heads)
        value = linear(normed, f"{block}.attn_v.weight", f"value_{layer}")
        past = [f"past_key_{layer}", f"past_value_{layer}"]
        present = [f"present_key_{layer}", f"present_value_{layer}"]
        node(
            "GroupQueryAttention",
            [query, key, value, *past, "seqlens_k", "total_sequence_length", cos, sin],
            [f"attention_{layer}", *present],
            domain=FUSED,
            num_heads=heads,
            kv_num_heads=kv_heads,
            do_rotary=1,
        )
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, kv_heads, "past", head]) for name in past]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, kv_heads, "total", head]) for name in present]
        mixed = linear(f"attention_{layer}", f"{block}.attn_output.weight", f"mixed_{layer}")

        def add_and_norm(added: str, weight: str, name: str) -> tuple[str, str]:
            scale = constant(f"scale_{name}", weights(weight))
            node("SkipSimplifiedLayerNormalization", [residual, added, scale], [f"normed_{name}", "", "", f"residual_{name}"], domain=FUSED, epsilon=epsilon)
            return f"residual_{name}", f"normed_{name}"

        residual, normed = add_and_norm(mixed, f"{block}.ffn_norm.weight", f"ffn_{layer}")
        gate = linear(normed, f"{block}.ffn_gate.weight", f"gate_{layer}")
        up = linear(normed, f"{block}.ffn_up.weight", f"up_{layer}")
        node("Sigmoid", [gate], [f"sigmoid_{layer}"])
        node("Mul", [gate, f"sigmoid_{layer}"], [f"silu_{layer}"])
        node("Mul", [f"silu_{layer}", up], [f"hidden_{layer}"])
        down = linear(f"hidden_{layer}", f"{block}.ffn_down.weight", f"down_{layer}")
        following = f"blk.{layer + 1}.attn_norm.weight" if layer + 1 < layers else "output_norm.weight"
        residual, normed = add_and_norm(down, following, f"block_{layer}")

    node("Gather", [normed, constant("last", np.array(-1, np.int64))], ["final"], axis=1)
    # The head is the embedding itself: one copy of it.
    node("Gemm", ["final", embedding], ["logits"], transB=1)
    node("ArgMax", ["logits"], ["next"], axis=-1, keepdims=1)

    graph = helper.make_graph(
        nodes,
        "llama",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [1]),
            helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, [1]),
            *inputs,
        ],
        [helper.make_tensor_value_info("next", TensorProto.INT64, [1, 1]), *outputs],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)], ir_version=8)
    onnx.save(model, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
