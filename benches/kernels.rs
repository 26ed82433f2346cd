//! The kernels one by one, at every level: activations, matrix products, losses,
//! optimizers.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fused_lstm::loss::softmax_cross_entropy;
use fused_lstm::optimizer::{
    Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd, clip_by_global_norm,
};
use fused_lstm::{DenseShape, Level, activation, dense};

type Function = fn(&mut [f32]);

const N: usize = 4096;

fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|n| ((n * 37 % 101) as f32 - 50.0) / 50.0)
        .collect()
}

fn elementwise(criterion: &mut Criterion) {
    for level in Level::available() {
        assert!(level.force());
        let mut group = criterion.benchmark_group(format!("{N} numbers, {level}"));
        group.throughput(Throughput::Elements(N as u64));
        let functions: [(&str, Function); 3] = [
            ("exp", activation::exp_in_place),
            ("sigmoid", activation::sigmoid_in_place),
            ("tanh", activation::tanh_in_place),
        ];
        let source = numbers(N);
        let mut values = source.clone();
        for (name, function) in functions {
            // From the same numbers every time; the copy is a small part.
            group.bench_function(name, |bench| {
                bench.iter(|| {
                    values.copy_from_slice(&source);
                    function(&mut values);
                });
            });
        }
        let optimizers = [
            ("sgd", Optimizer::Sgd(Sgd::new(1e-6))),
            ("momentum", Optimizer::Momentum(Momentum::new(1e-6, 0.9))),
            ("adagrad", Optimizer::Adagrad(Adagrad::tensorflow(1e-6))),
            ("adam", Optimizer::Adam(Adam::tensorflow(1e-6))),
            ("rmsprop", Optimizer::RmsProp(RmsProp::tensorflow(1e-6))),
        ];
        for (name, optimizer) in optimizers {
            let (mut params, gradients) = (numbers(N), numbers(N));
            let mut slots = vec![1.0; optimizer.slots_len(N)];
            group.bench_function(name, |bench| {
                bench.iter(|| optimizer.update(1, &mut params, &gradients, &mut slots));
            });
        }
        let mut gradients = numbers(N);
        group.bench_function("clip by global norm", |bench| {
            bench.iter(|| clip_by_global_norm(&mut gradients, 1e9));
        });
        let (mut logits, mut dlogits) = (numbers(N), vec![0.0; N]);
        let labels: Vec<u32> = (0..N as u32 / 2).map(|n| n % 2).collect();
        group.bench_function("softmax cross-entropy, 2 classes", |bench| {
            bench.iter(|| softmax_cross_entropy(2, &mut logits, &labels, &mut dlogits));
        });
    }
}

fn products(criterion: &mut Criterion) {
    for level in Level::available() {
        assert!(level.force());
        let mut group = criterion.benchmark_group(format!("products, {level}"));
        for (rows, inputs, outputs) in [
            (75, 4, 16),
            (1, 256, 1024),
            (32, 256, 1024),
            (512, 256, 1024),
        ] {
            let shape = DenseShape::new(inputs, outputs);
            let (params, x) = (numbers(shape.params_len()), numbers(rows * inputs));
            let mut y = numbers(rows * outputs);
            group.throughput(Throughput::Elements((rows * inputs * outputs) as u64));
            group.bench_function(format!("forward {rows}×{inputs}×{outputs}"), |bench| {
                bench.iter(|| dense::forward(shape, rows, &params, &x, &mut y));
            });
            let (mut gradients, mut dx) = (vec![0.0; shape.params_len()], vec![0.0; x.len()]);
            let (dy, mut work) = (numbers(y.len()), vec![0.0; shape.kernel_len()]);
            group.bench_function(format!("backward {rows}×{inputs}×{outputs}"), |bench| {
                bench.iter(|| {
                    gradients.fill(0.0);
                    dense::backward(
                        shape,
                        rows,
                        dense::Backward {
                            params: &params,
                            x: &x,
                            dy: &dy,
                            gradients: &mut gradients,
                            dx: &mut dx,
                            workspace: &mut work,
                        },
                    )
                });
            });
        }
    }
}

criterion_group!(benches, elementwise, products);
criterion_main!(benches);
