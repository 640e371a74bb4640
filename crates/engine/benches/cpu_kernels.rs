//! Weight matrices of SmolLM2-135M times batches of activations, on one thread, by instruction set:
//! `cargo bench -p trimtab-engine` (add a filter, such as `exact/down`).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use trimtab_checkpoint::Encoding;
use trimtab_engine::Precision;
use trimtab_engine::cpu::projection_bench::{ProjectionBench, instruction_sets};

fn projections(criterion: &mut Criterion) {
    let matrices = [
        ("up", Encoding::Q4_1, [1536, 576]),
        ("down", Encoding::Q4_1, [576, 1536]),
        ("head", Encoding::Q8_0, [49152, 576]),
    ];
    for (precision, precision_name) in [(Precision::Exact, "exact"), (Precision::Fast, "fast")] {
        for (name, encoding, shape) in matrices {
            let mut group = criterion.benchmark_group(format!("{precision_name}/{name}"));
            group
                .sample_size(10)
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_secs(1));
            for set in instruction_sets() {
                for activations in [1, 8, 32, 64] {
                    let bench = ProjectionBench::new(set, precision, encoding, shape, activations);
                    let Some(mut bench) = bench else { continue };
                    group.throughput(Throughput::Elements(bench.products()));
                    group.bench_function(BenchmarkId::new(set, activations), |bencher| {
                        bencher.iter(|| black_box(bench.run()).len());
                    });
                }
            }
            group.finish();
        }
    }
}

criterion_group!(benches, projections);
criterion_main!(benches);
