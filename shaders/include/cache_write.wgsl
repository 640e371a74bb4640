// Writing a row's keys and values into the cache (see cache.wgsl), two dimensions at a time: `within` and HALF behind it.

const HALF: u32 = HEAD_DIM / 2u;

// As a half, to the nearest (ties to even) on every adapter, and never infinite; WGSL leaves the rounding to the adapter.
fn rounded(x: f32) -> f32 {
    let bits = bitcast<u32>(clamp(x, -65504.0, 65504.0));
    return bitcast<f32>((bits + 0x0fffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn halves(first: f32, second: f32) -> u32 {
    return pack2x16float(vec2<f32>(rounded(first), rounded(second)));
}

fn write_value(row: u32, head: u32, within: u32, first: f32, second: f32) {
    let page = step.row[row].page * KV_HEADS;
    let slot = step.row[row].position % PAGE;
    let at = ((page + head) * PAGE + slot) * (VECTORS * 4u) + within;
    if (HALF_CACHE) {
        values[at] = halves(first, second);
    } else {
        values[at] = bitcast<u32>(first);
        values[at + HALF] = bitcast<u32>(second);
    }
}

fn write_key(row: u32, head: u32, within: u32, first: f32, second: f32) {
    let slot = step.row[row].position % PAGE;
    let base = (step.row[row].page * KV_HEADS + head) * VECTORS;
    let at = ((base + within / 4u) * PAGE + slot) * 4u + within % 4u;
    if (HALF_CACHE) {
        keys[at] = halves(first, second);
    } else {
        let far = within + HALF;
        keys[at] = bitcast<u32>(first);
        keys[((base + far / 4u) * PAGE + slot) * 4u + far % 4u] = bitcast<u32>(second);
    }
}
