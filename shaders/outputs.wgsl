{#-
Writing activations: a block of 32 values from workgroup memory, as the next projection reads them.
-#}

{#- One invocation writes the block of `array[at .. at + 32]` as block `index` of the output. `factor` scales every value. -#}
{%- macro write_block(precision, array, at, index, factor="1.0") %}
            {
                let block_index = {{ index }};
                let first = {{ at }};
                let factor = {{ factor }};
{%- if precision == "fast" %}
                var largest = 0.0;
                for (var i = 0u; i < 32u; i++) {
                    largest = max(largest, abs({{ array }}[first + i]));
                }
                let unit = largest / 127.0;
                // A block of zeros has no scale; its bytes are zero whatever this is.
                let inverse = select(0.0, 127.0 / largest, largest > 0.0);
                var total = 0;
                for (var v = 0u; v < 2u; v++) {
                    var words = vec4<u32>(0u);
                    for (var word = 0u; word < 4u; word++) {
                        let source = first + v * 16u + word * 4u;
                        let values = vec4<i32>(round(inverse * vec4<f32>({{ array }}[source], {{ array }}[source + 1u], {{ array }}[source + 2u], {{ array }}[source + 3u])));
                        total += values.x + values.y + values.z + values.w;
                        let bytes = bitcast<vec4<u32>>(values) & vec4<u32>(255u);
                        words[word] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
                    }
                    outputs[block_index * 2u + v] = words;
                }
                output_scales[block_index] = factor * unit * vec2<f32>(1.0, f32(total));
{%- else %}
                var total = 0.0;
                for (var v = 0u; v < 8u; v++) {
                    let source = first + v * 4u;
                    let values = factor * vec4<f32>({{ array }}[source], {{ array }}[source + 1u], {{ array }}[source + 2u], {{ array }}[source + 3u]);
                    total += values.x + values.y + values.z + values.w;
                    outputs[block_index * 8u + v] = bitcast<vec4<u32>>(values);
                }
                output_scales[block_index] = vec2<f32>(1.0, total);
{%- endif %}
            }
{%- endmacro %}
