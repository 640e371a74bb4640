{#-
Writing activations: a block of 32 values from workgroup memory, as the next projection reads them.
-#}

{#- One invocation writes the block of `array[at .. at + 32]` as block `index` of `outputs`. -#}
{%- macro write_block(precision, array, at, index, outputs="outputs") %}
    {%- set output_scales = outputs[:-1] ~ "_scales" %}
            {
                let block_index = {{ index }};
                let first = {{ at }};
{%- if precision == "fast" %}
                // Word j of both halves is a group with a scale of its own.
                var low = vec4<u32>(0u);
                var high = vec4<u32>(0u);
                var units = vec4<f32>(0.0);
                var total = 0.0;
                for (var word = 0u; word < 4u; word++) {
                    let source = first + word * 4u;
                    let a = vec4<f32>({{ array }}[source], {{ array }}[source + 1u], {{ array }}[source + 2u], {{ array }}[source + 3u]);
                    let b = vec4<f32>({{ array }}[source + 16u], {{ array }}[source + 17u], {{ array }}[source + 18u], {{ array }}[source + 19u]);
                    let most = max(abs(a), abs(b));
                    let largest = max(max(most.x, most.y), max(most.z, most.w));
                    // The CPU executor's arithmetic, so that both round the same numbers the same way.
                    let unit = largest / 127.0;
                    // A group of zeros has no scale; its bytes are zero whatever this is.
                    let inverse = select(0.0, 127.0 / largest, largest > 0.0);
                    let a_rounded = vec4<i32>(round(a * inverse));
                    let b_rounded = vec4<i32>(round(b * inverse));
                    let sum = a_rounded + b_rounded;
                    units[word] = unit;
                    total += unit * f32(sum.x + sum.y + sum.z + sum.w);
                    let a_bytes = bitcast<vec4<u32>>(a_rounded) & vec4<u32>(255u);
                    let b_bytes = bitcast<vec4<u32>>(b_rounded) & vec4<u32>(255u);
                    low[word] = a_bytes.x | (a_bytes.y << 8u) | (a_bytes.z << 16u) | (a_bytes.w << 24u);
                    high[word] = b_bytes.x | (b_bytes.y << 8u) | (b_bytes.z << 16u) | (b_bytes.w << 24u);
                }
                {{ outputs }}[block_index * 2u] = low;
                {{ outputs }}[block_index * 2u + 1u] = high;
                {{ output_scales }}[block_index * 2u] = units;
                {{ output_scales }}[block_index * 2u + 1u] = vec4<f32>(total, 0.0, 0.0, 0.0);
{%- else %}
                var total = 0.0;
                for (var v = 0u; v < 8u; v++) {
                    let source = first + v * 4u;
                    let values = vec4<f32>({{ array }}[source], {{ array }}[source + 1u], {{ array }}[source + 2u], {{ array }}[source + 3u]);
                    total += values.x + values.y + values.z + values.w;
                    {{ outputs }}[block_index * 8u + v] = bitcast<vec4<u32>>(values);
                }
                {{ output_scales }}[block_index * 2u + 1u] = vec4<f32>(total, 0.0, 0.0, 0.0);
{%- endif %}
            }
{%- endmacro %}
