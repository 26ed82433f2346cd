//! Every workload of the tables, at every level and through every API. Those that take long are
//! `versus`'s alone.

use criterion::{Criterion, criterion_group, criterion_main};
use fused_lstm::Level;
use fused_lstm_benches::ours::{Api, prepare};
use fused_lstm_benches::workload::Workload;

/// Operations beyond which a hundred samples would take minutes.
const MOST: f64 = 2e8;

fn workloads(criterion: &mut Criterion) {
    for workload in Workload::all().iter().filter(|w| w.flops() < MOST) {
        let mut group = criterion.benchmark_group(workload.to_string());
        for level in Level::available() {
            for api in [Api::Fixed, Api::Packed, Api::RunTime] {
                if let Some(mut run) = prepare(workload, api) {
                    assert!(level.force());
                    group.bench_function(format!("{level}, {}", api.name()), |bench| {
                        bench.iter(|| run.run());
                    });
                }
            }
        }
    }
}

criterion_group!(benches, workloads);
criterion_main!(benches);
