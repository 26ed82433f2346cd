//! The kernels against TensorFlow's and PyTorch's own numbers, at every level.

use fused_lstm::optimizer::{
    Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd, clip_by_global_norm,
};
use fused_lstm::{Extent, Level, LossGradient, Model, NetworkShape, loss};
use fused_lstm_tests::golden::{Golden, assert_close, from_tensorflow, from_torch};
use fused_lstm_tests::levels::each_level;
use fused_lstm_tests::outcome::forward_and_backward;

/// `[B, T, width]` as `[T, B, width]`.
fn time_major(values: &[f32], batch: usize, steps: usize) -> Vec<f32> {
    let width = values.len() / (batch * steps);
    let row = |t: usize, b: usize| &values[(b * steps + t) * width..][..width];
    (0..steps)
        .flat_map(|t| (0..batch).flat_map(move |b| row(t, b)))
        .copied()
        .collect()
}

#[test]
fn one_cell_one_step() {
    let golden = Golden::open("seed004_basic_cell");
    let variable = |name: &str| golden.f32(&format!("LSTM_sample1.basic_lstm_cell.{name}"));
    let params = from_tensorflow(variable("kernel"), variable("bias"), 1.0);
    let shape = NetworkShape::new(6, &[4]);
    each_level(|_| {
        let model = Model::new(shape, &params).unwrap();
        let (mut state, mut y) = ([0.0; 8], [0.0; 4]);
        let extent = Extent { steps: 1, batch: 1 };
        model
            .infer(extent, &golden.f32("x"), &mut state, &mut y, &mut [])
            .unwrap();
        assert_close("output", &y, &golden.f32("output"), 1e-6);
        assert_close("c", &state[..4], &golden.f32("state.c"), 1e-6);
        assert_close("h", &state[4..], &golden.f32("state.h"), 1e-6);
    });
}

#[test]
fn stack_of_unequal_layers() {
    let golden = Golden::open("seed004_stacked");
    let (batch, steps) = (2, 3);
    let extent = Extent { steps, batch };
    let shape = NetworkShape::new(6, &[4, 5]);
    let name =
        |layer: usize, what: &str| format!("rnn.multi_rnn_cell.cell_{layer}.lstm_cell.{what}");
    let params: Vec<f32> = (0..2)
        .flat_map(|layer| {
            let variable = |what: &str| golden.f32(&name(layer, what));
            from_tensorflow(variable("kernel"), variable("bias"), 1.0)
        })
        .collect();
    let x = time_major(&golden.f32("x"), batch, steps);
    let dy = time_major(&golden.f32("cotangent"), batch, steps);
    each_level(|_| {
        let zeros = vec![0.0; shape.state_len(batch)];
        let out = forward_and_backward(shape, &params, extent, &x, &zeros, &dy, &zeros);
        let output = time_major(&golden.f32("output"), batch, steps);
        assert_close("output", &out.y, &output, 1e-6);
        let mut rest = &out.state[..];
        for layer in 0..2 {
            for part in ["c", "h"] {
                let want = golden.f32(&format!("state.l{layer}.{part}"));
                let (got, after) = rest.split_at(want.len());
                assert_close(part, got, &want, 1e-6);
                rest = after;
            }
        }
        let want: Vec<f32> = (0..2)
            .flat_map(|layer| ["kernel", "bias"].map(|what| format!("grad.{}", name(layer, what))))
            .flat_map(|key| golden.f32(&key))
            .collect();
        assert_close("gradients", &out.gradients, &want, 2e-6);
        assert_close(
            "dx",
            &out.dx,
            &time_major(&golden.f32("grad.x"), batch, steps),
            2e-6,
        );
    });
}

/// Outputs, final states and both sets of gradients of a stack with random states.
/// `layers` gives the parameters made of the keys with a prefix; `linear` says that
/// it maps gradients like parameters.
fn check_layers(
    golden: &Golden,
    hidden: &[usize],
    params: &[f32],
    gradients_of: impl Fn(&str) -> Vec<f32>,
) {
    let [steps, batch, inputs] = golden.shape("x")[..] else {
        panic!("x is [T, B, I]")
    };
    let shape = NetworkShape::new(inputs, hidden);
    let extent = Extent { steps, batch };
    // [L, B, H] twice as [L, 2, B, H].
    let state = |c: &str, h: &str| -> Vec<f32> {
        let (c, h) = (golden.f32(c), golden.f32(h));
        let units = batch * hidden[0];
        c.chunks(units)
            .zip(h.chunks(units))
            .flat_map(|(c, h)| [c, h].concat())
            .collect()
    };
    let x = golden.f32("x");
    each_level(|_| {
        for which in ["grad", "grad_full"] {
            let initial = state("c0", "h0");
            let dfinal = match which {
                "grad" => vec![0.0; initial.len()],
                _ => state("cotangent_cT", "cotangent_hT"),
            };
            let dy = golden.f32("cotangent");
            let out = forward_and_backward(shape, params, extent, &x, &initial, &dy, &dfinal);
            assert_close("output", &out.y, &golden.f32("output"), 1e-6);
            assert_close("state", &out.state, &state("cT", "hT"), 1e-6);
            let key = |what: &str| format!("{which}.{what}");
            assert_close(which, &out.gradients, &gradients_of(which), 4e-6);
            assert_close(&key("x"), &out.dx, &golden.f32(&key("x")), 4e-6);
            assert_close(
                &key("state"),
                &out.dstate,
                &state(&key("c0"), &key("h0")),
                4e-6,
            );
        }
    });
}

#[test]
fn tensorflow_cell() {
    let golden = Golden::open("cell_plain_I7H5B3T6");
    let forget_bias = golden.f32("opt.forget_bias")[0];
    let params = from_tensorflow(golden.f32("kernel"), golden.f32("bias"), forget_bias);
    check_layers(&golden, &[5], &params, |which| {
        let gradient = |what: &str| golden.f32(&format!("{which}.{what}"));
        from_tensorflow(gradient("kernel"), gradient("bias"), 0.0)
    });
}

#[test]
fn pytorch_layers() {
    for (name, hidden) in [("torch_lstm_l1", &[5][..]), ("torch_lstm_l2", &[5, 5])] {
        let golden = Golden::open(name);
        let layers = |prefix: &str, zero_one_bias: bool| -> Vec<f32> {
            let layer = |l: usize| {
                let get = |what: &str| golden.f32(&format!("{prefix}.{what}_l{l}"));
                let mut second_bias = get("bias_hh");
                if zero_one_bias {
                    // Either bias has the gradient of the sum.
                    assert_eq!(second_bias, get("bias_ih"));
                    second_bias.fill(0.0);
                }
                from_torch(
                    &get("weight_ih"),
                    &get("weight_hh"),
                    &get("bias_ih"),
                    &second_bias,
                )
            };
            (0..hidden.len()).flat_map(layer).collect()
        };
        check_layers(&golden, hidden, &layers("param", false), |which| {
            layers(which, true)
        });

        // And from the zero state.
        let [steps, batch, inputs] = golden.shape("x")[..] else {
            panic!("x is [T, B, I]")
        };
        let shape = NetworkShape::new(inputs, hidden);
        let extent = Extent { steps, batch };
        let params = layers("param", false);
        each_level(|_| {
            let mut state = vec![0.0; shape.state_len(batch)];
            let mut y = vec![0.0; extent.rows() * 5];
            let mut scratch = vec![0.0; shape.scratch_len(extent)];
            let model = Model::new(shape, &params).unwrap();
            model
                .infer(extent, &golden.f32("x"), &mut state, &mut y, &mut scratch)
                .unwrap();
            assert_close(name, &y, &golden.f32("output_zero_state"), 1e-6);
        });
    }
}

#[test]
fn optimizer_trajectories() {
    let sgd = Optimizer::Sgd(Sgd::new(0.1));
    let momentum = Momentum::new(0.1, 0.9);
    let rms = Optimizer::RmsProp(RmsProp::tensorflow(0.01));
    let cases: [(&str, Optimizer, &[&str]); 9] = [
        ("tf1_gd_lr0.1", sgd, &[]),
        (
            "tf1_momentum_lr0.1_m0.9",
            Optimizer::Momentum(momentum),
            &["momentum"],
        ),
        (
            "tf1_momentum_lr0.1_m0.9_nesterov",
            Optimizer::Momentum(momentum.nesterov()),
            &["momentum"],
        ),
        (
            "tf1_adagrad_lr0.3",
            Optimizer::Adagrad(Adagrad::tensorflow(0.3)),
            &["accumulator"],
        ),
        (
            "tf1_adam_lr0.3",
            Optimizer::Adam(Adam::tensorflow(0.3)),
            &["m", "v"],
        ),
        ("tf1_rmsprop_lr0.01", rms, &["rms", "momentum"]),
        (
            "torch_sgd_lr0.1_m0.9",
            Optimizer::Momentum(momentum),
            &["momentum_buffer"],
        ),
        (
            "torch_adam_default",
            Optimizer::Adam(Adam::pytorch(0.001)),
            &["exp_avg", "exp_avg_sq"],
        ),
        (
            "torch_adamw_default",
            Optimizer::Adam(Adam::pytorch_adamw(0.001)),
            &["exp_avg", "exp_avg_sq"],
        ),
    ];
    for (name, optimizer, slot_names) in cases {
        let golden = Golden::open(&format!("opt_{name}"));
        let (gradients, w) = (golden.f32("grads"), golden.f32("w"));
        let slots_want: Vec<Vec<f32>> = slot_names
            .iter()
            .map(|slot| golden.f32(&format!("slot.{slot}")))
            .collect();
        each_level(|_| {
            let mut params = w[..8].to_vec();
            let mut slots = vec![0.0; optimizer.slots_len(8)];
            optimizer.init_slots(&mut slots);
            let mut largest = [0.0f32; 16];
            for (k, (g, want)) in gradients.chunks(8).zip(w[8..].chunks(8)).enumerate() {
                optimizer
                    .update(k as u32 + 1, &mut params, g, &mut slots)
                    .unwrap();
                // Relative to the weights, some of which run to hundreds.
                let scale = want.iter().fold(1.0f32, |scale, w| scale.max(w.abs()));
                assert_close(
                    &format!("{name}, w after {}", k + 1),
                    &params,
                    want,
                    2e-6 * scale,
                );
                for (slot, (got, want)) in slots.chunks(8).zip(&slots_want).enumerate() {
                    // TensorFlow's slots are recorded from the start, PyTorch's after a step.
                    let first = if name.starts_with("tf1") { 8 } else { 0 };
                    let want = &want[first + 8 * k..][..8];
                    for (column, (got, want)) in got.iter().zip(want).enumerate() {
                        // A sum whose parts cancel is as right as its largest value so far.
                        let largest = &mut largest[8 * slot + column];
                        *largest = largest.max(want.abs());
                        let error = (got - want).abs();
                        assert!(error <= 2e-6 * *largest, "{name} slot {slot}: {got} {want}");
                    }
                }
            }
        });
    }
}

#[test]
fn softmax_cross_entropy() {
    let golden = Golden::open("softmax_xent_small");
    let labels: Vec<u32> = golden.i32("labels").into_iter().map(|l| l as u32).collect();
    each_level(|_| {
        let mut p = golden.f32("logits");
        let mut dlogits = vec![0.0; p.len()];
        let loss = loss::softmax_cross_entropy(2, &mut p, &labels, &mut dlogits).unwrap();
        assert_close("loss", &[loss], &golden.f32("loss_mean"), 1e-6);
        assert_close("softmax", &p, &golden.f32("softmax"), 1e-6);
        assert_close("gradient", &dlogits, &golden.f32("grad.logits"), 1e-7);
        for (row, want) in golden.f32("loss_per_example").into_iter().enumerate() {
            let mut z = golden.f32("logits")[2 * row..2 * row + 2].to_vec();
            let own = loss::softmax_cross_entropy(2, &mut z, &labels[row..=row], &mut [0.0; 2]);
            assert_close("row", &[own.unwrap()], &[want], 1e-6 * want.max(1.0));
        }
    });
}

#[test]
fn clipping_by_global_norm() {
    for name in ["clips", "noop"] {
        let golden = Golden::open(&format!("clip_by_global_norm_{name}"));
        let all = |prefix: &str| {
            (0..3)
                .flat_map(|k| golden.f32(&format!("{prefix}.{k}")))
                .collect()
        };
        let want: Vec<f32> = all("out");
        each_level(|_| {
            let mut gradients: Vec<f32> = all("in");
            let norm = clip_by_global_norm(&mut gradients, golden.f32("clip_norm")[0]).unwrap();
            assert_close("norm", &[norm], &golden.f32("global_norm"), 2e-6);
            assert_close(name, &gradients, &want, 1e-6);
        });
    }
}

/// A training run of the tutorials, replayed from TensorFlow's initial weights and
/// data.
struct Replay<'a> {
    golden: &'a Golden,
    shape: NetworkShape<'a>,
    extent: Extent,
    optimizer: Optimizer,
    steps_per_epoch: usize,
}

impl Replay<'_> {
    /// TensorFlow's variables under a prefix, in this crate's layout.
    fn variables(&self, prefix: &str, forget_bias: f32) -> Vec<f32> {
        let get = |what: String| self.golden.f32(&format!("{prefix}{what}"));
        let mut all: Vec<f32> = (0..self.shape.hidden.len())
            .flat_map(|l| {
                from_tensorflow(
                    get(format!("l{l}.kernel")),
                    get(format!("l{l}.bias")),
                    forget_bias,
                )
            })
            .collect();
        all.extend(get("W2".into()));
        all.extend(get("b2".into()));
        all
    }

    /// Runs `count` steps, calling `see` with what each of them made.
    fn run(&self, count: usize, mut see: impl FnMut(usize, &Seen)) {
        let Extent { steps, batch } = self.extent;
        let bits = Golden::open("echo_bits_seed42").u8("x");
        let mut params = self.variables("init.", 1.0);
        let mut slots = vec![0.0; self.optimizer.slots_len(params.len())];
        self.optimizer.init_slots(&mut slots);
        let mut state = vec![0.0; self.shape.state_len(batch)];
        let mut cache = vec![0.0; self.shape.cache_len(self.extent)];
        let mut work = vec![0.0; self.shape.workspace_len(self.extent)];
        let mut p = vec![0.0; self.shape.logits_len(self.extent)];
        for step in 0..count {
            let (epoch, within) = (step / self.steps_per_epoch, step % self.steps_per_epoch);
            if within == 0 {
                state.fill(0.0);
            }
            let series = &bits[epoch * 50_000..][..50_000];
            let length = series.len() / batch;
            // Column `t` of row `b` of the series as [B, -1], and three bits before.
            let place = |t: usize, b: usize| b * length + within * steps + t;
            let places = || (0..steps).flat_map(|t| (0..batch).map(move |b| place(t, b)));
            let x: Vec<f32> = places().map(|k| series[k].into()).collect();
            let labels: Vec<u32> = places()
                .map(|k| if k < 3 { 0 } else { series[k - 3].into() })
                .collect();
            let mut gradients = vec![0.0; params.len()];
            let loss = Model::new(self.shape, &params)
                .unwrap()
                .loss_gradient(
                    self.extent,
                    &labels,
                    LossGradient {
                        x: &x,
                        state: &mut state,
                        gradients: &mut gradients,
                        outputs: &mut p,
                        cache: &mut cache,
                        workspace: &mut work,
                    },
                )
                .unwrap();
            self.optimizer
                .update(step as u32 + 1, &mut params, &gradients, &mut slots)
                .unwrap();
            let seen = Seen {
                loss,
                gradients: &gradients,
                probabilities: &p,
                state: &state,
                params: &params,
                slots: &slots,
            };
            see(step, &seen);
        }
    }
}

struct Seen<'a> {
    loss: f32,
    gradients: &'a [f32],
    probabilities: &'a [f32],
    state: &'a [f32],
    params: &'a [f32],
    slots: &'a [f32],
}

#[test]
fn echo_tutorial() {
    let golden = Golden::open("seed002");
    let replay = Replay {
        golden: &golden,
        shape: NetworkShape::new(1, &[4, 4, 4]).with_head(2),
        extent: Extent {
            steps: 15,
            batch: 5,
        },
        optimizer: Optimizer::Adagrad(Adagrad::tensorflow(0.3)),
        steps_per_epoch: 666,
    };
    let want = golden.f32("losses");
    each_level(|level: Level| {
        let mut losses = Vec::new();
        let (mut early, mut first_epoch) = (0.0f32, 0.0f32);
        replay.run(3330, |step, seen| {
            losses.push(seen.loss);
            let gap = (seen.loss - want[step]).abs();
            if step == 0 {
                let gradients = replay.variables("grad_step0.", 0.0);
                assert_close("gradients", seen.gradients, &gradients, 1e-7);
            }
            if step < 200 {
                assert!(gap <= 1e-6, "{level}, loss of step {step}: off by {gap:e}");
                early = early.max(gap);
            }
            if step < 666 {
                assert!(gap <= 5e-5, "{level}, loss of step {step}: off by {gap:e}");
                first_epoch = first_epoch.max(gap);
            }
            if [0, 1, 99, 100].contains(&step) {
                let key = |what: &str| golden.f32(&format!("{what}.step{step}"));
                assert_close("predictions", seen.probabilities, &key("pred"), 1e-4);
                assert_close("state", seen.state, &key("state_after"), 1e-4);
            }
            if [1, 2, 5, 10, 100, 666].contains(&(step + 1)) {
                let after = format!("after{}.", step + 1);
                assert_close(&after, seen.params, &replay.variables(&after, 1.0), 1e-4);
                let slots = replay.variables(&format!("{after}slot_accumulator."), 0.0);
                assert_close("accumulators", seen.slots, &slots, 1e-4);
            }
        });
        let last: f32 = losses[3230..].iter().sum::<f32>() / 100.0;
        println!("{level}: losses off by {early:e} to 199, {first_epoch:e} to 665; end {last:e}");
        assert!(
            last < 1e-3,
            "{level}: the last losses are {last} on average"
        );
    });
}

#[test]
fn adam_runs() {
    for (name, hidden) in [("seed003_lr001", &[4][..]), ("seed000_lr001", &[4, 4, 4])] {
        let golden = Golden::open(name);
        let replay = Replay {
            golden: &golden,
            shape: NetworkShape::new(1, hidden).with_head(2),
            extent: Extent {
                steps: 10,
                batch: 100,
            },
            optimizer: Optimizer::Adam(Adam::tensorflow(0.01)),
            steps_per_epoch: 50,
        };
        let want = golden.f32("losses");
        each_level(|level| {
            let mut largest = 0.0f32;
            replay.run(300, |step, seen| {
                let gap = (seen.loss - want[step]).abs();
                assert!(
                    gap <= 2e-5,
                    "{name}, {level}, loss of step {step}: off by {gap:e}"
                );
                largest = largest.max(gap);
            });
            println!("{name}, {level}: losses off by {largest:e}");
        });
    }
}
