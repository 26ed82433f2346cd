//! The echo system, by level: a training step, and a streaming step of one row.

use criterion::{Criterion, criterion_group, criterion_main};
use fused_lstm::{Flat, Level, Network};
use fused_lstm_benches::{Layers, Training};
use std::hint::black_box;

fn echo(criterion: &mut Criterion) {
    for level in Level::available() {
        assert!(level.force());
        let mut training = Training::default();
        criterion.bench_function(&format!("echo training step, {level}"), |bench| {
            bench.iter(|| black_box(training.step()));
        });
        let net = training.net;
        let mut state = <Layers as Network>::State::<1>::ZERO;
        let (mut y, mut p) = (Flat::zero(), Flat::zero());
        criterion.bench_function(&format!("echo streaming step, {level}"), |bench| {
            bench.iter(|| {
                net.infer::<1, 1>(
                    black_box(&[[[1.0]]]),
                    &mut state,
                    &mut y,
                    &mut p,
                    &mut Flat::zero(),
                );
                black_box(&p);
            });
        });
    }
}

criterion_group!(benches, echo);
criterion_main!(benches);
