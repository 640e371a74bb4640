// A matrix taken in strips of as many rows as a workgroup of LANES has invocations.

// Strips of a tile.
const TILE_STRIPS: u32 = 64u / LANES;

// The tile, and the row of it, that a lane has in `strip`: found outside of loops, for what divisions cost.
fn place_in(strip: u32, lane: u32) -> vec2<u32> {
    return vec2<u32>(strip / TILE_STRIPS, strip % TILE_STRIPS * LANES + lane);
}
