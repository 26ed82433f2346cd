//! The losses and the training steps on them: rows that do not count, and long sums, against
//! the oracle.

use fused_lstm::loss::{self, IGNORE, Weighting};
use fused_lstm::{
    ArgumentError, Buffers, Classifier, Extent, Flat, LossGradient, Lstm, LstmState, Model,
    Network, NetworkShape, Stack,
};
use fused_lstm_tests::golden::{Golden, assert_close};
use fused_lstm_tests::levels::{bits, each_level, same_bits_at_each_level};
use fused_lstm_tests::oracle::{self, wide};
use fused_lstm_tests::random::Random;
use proptest::prelude::*;

/// What a training step gives: loss, gradients, outputs, state.
#[derive(Clone, Debug, PartialEq)]
struct Done {
    loss: f32,
    gradients: Vec<f32>,
    outputs: Vec<f32>,
    state: Vec<f32>,
}

impl Done {
    fn bits(&self) -> Vec<u32> {
        let all = [
            &[self.loss][..],
            &self.gradients,
            &self.outputs,
            &self.state,
        ];
        bits(&all.concat())
    }
}

/// What the rows are held against.
#[derive(Clone, Copy, Debug)]
enum Aim<'a> {
    Labels(&'a [u32]),
    Targets(&'a [f32], Option<&'a [bool]>),
}

#[derive(Clone, Copy, Debug)]
struct Task<'a> {
    shape: NetworkShape<'a>,
    extent: Extent,
    params: &'a [f32],
    x: &'a [f32],
    state: &'a [f32],
    aim: Aim<'a>,
}

impl Task<'_> {
    fn width(&self) -> usize {
        self.shape.classes.unwrap_or(self.shape.outputs())
    }

    fn run(&self) -> Result<Done, ArgumentError> {
        let Self { shape, extent, .. } = *self;
        let model = Model::new(shape, self.params)?;
        let mut state = self.state.to_vec();
        let mut gradients = vec![0.0; self.params.len()];
        let mut outputs = vec![f32::NAN; extent.rows() * self.width()];
        let mut cache = vec![f32::NAN; shape.cache_len(extent)];
        let mut work = vec![f32::NAN; shape.workspace_len(extent)];
        let (s, g, o) = (&mut state, &mut gradients, &mut outputs);
        let (c, w) = (&mut cache, &mut work);
        let loss = match self.aim {
            Aim::Labels(labels) => model.loss_gradient(
                extent,
                labels,
                LossGradient {
                    x: self.x,
                    state: s,
                    gradients: g,
                    outputs: o,
                    cache: c,
                    workspace: w,
                },
            )?,
            Aim::Targets(targets, mask) => model.squared_error_gradient(
                extent,
                targets,
                mask,
                LossGradient {
                    x: self.x,
                    state: s,
                    gradients: g,
                    outputs: o,
                    cache: c,
                    workspace: w,
                },
            )?,
        };
        Ok(Done {
            loss,
            gradients,
            outputs,
            state,
        })
    }

    /// The same in `f64`: loss, gradients, outputs.
    fn oracle(&self) -> (f64, Vec<f64>, Vec<f64>) {
        let Self { shape, extent, .. } = *self;
        let params = wide(self.params);
        let (width, hidden) = (self.width(), shape.outputs());
        let head_at = params.len() - shape.head().map_or(0, |head| head.params_len());
        let run = oracle::forward(shape, &params, extent, &wide(self.x), &wide(self.state));
        let mut outputs = match shape.head() {
            Some(_) => oracle::dense(&params[head_at..], &run.y, hidden),
            None => run.y.clone(),
        };
        let counts = |row: usize| match self.aim {
            Aim::Labels(labels) => labels[row] != IGNORE,
            Aim::Targets(_, mask) => mask.is_none_or(|mask| mask[row]),
        };
        let counted = (0..extent.rows()).filter(|&row| counts(row)).count();
        let (mut loss, mut d) = (0.0, vec![0.0; outputs.len()]);
        for row in 0..extent.rows() {
            let part = row * width..(row + 1) * width;
            let (z, d) = (&mut outputs[part.clone()], &mut d[part.clone()]);
            match self.aim {
                Aim::Labels(labels) => {
                    let label = if counts(row) { labels[row] } else { 0 };
                    let (own, p) = oracle::cross_entropy(z, &[label]);
                    z.copy_from_slice(&p);
                    if counts(row) {
                        loss += own / counted as f64;
                        for (class, (d, p)) in d.iter_mut().zip(p).enumerate() {
                            *d = (p - f64::from(class == label as usize)) / counted as f64;
                        }
                    }
                }
                Aim::Targets(targets, _) if counts(row) => {
                    let n = (counted * width) as f64;
                    for ((d, z), target) in d.iter_mut().zip(z).zip(&targets[part]) {
                        let off = *z - f64::from(*target);
                        loss += off * off / n;
                        *d = 2.0 * off / n;
                    }
                }
                Aim::Targets(..) => {}
            }
        }
        let mut dhead = vec![0.0; params.len() - head_at];
        let dy = if shape.head().is_some() {
            let mut dy = vec![0.0; run.y.len()];
            for (row, d) in d.chunks(width).enumerate() {
                for (c, d) in d.iter().enumerate() {
                    dhead[hidden * width + c] += d;
                    for k in 0..hidden {
                        dhead[k * width + c] += run.y[row * hidden + k] * d;
                        dy[row * hidden + k] += params[head_at + k * width + c] * d;
                    }
                }
            }
            dy
        } else {
            d
        };
        let dstate = vec![0.0; self.state.len()];
        let mut gradients = oracle::backward(&run, extent, &dy, &dstate).params;
        gradients.truncate(head_at);
        gradients.extend(dhead);
        (loss, gradients, outputs)
    }

    fn holds(&self) {
        let (loss, gradients, outputs) = self.oracle();
        each_level(|level| {
            let done = self.run().unwrap();
            assert!((f64::from(done.loss) - loss).abs() < 2e-6, "{level}");
            for (what, got, want) in [
                ("gradients", &done.gradients, &gradients),
                ("outputs", &done.outputs, &outputs),
            ] {
                for (k, (&got, want)) in got.iter().zip(want).enumerate() {
                    let off = (f64::from(got) - want).abs();
                    assert!(off < 3e-6, "{level} {what}[{k}]: {got}, not {want}");
                }
            }
        });
    }
}

/// Two sequences of 5 and 2 steps in one batch; the right values are PyTorch's, in `f64`.
#[test]
fn padding_is_ignored() {
    let shape = NetworkShape::new(2, &[3]).with_head(3);
    let extent = Extent { steps: 5, batch: 2 };
    let params: Vec<f32> = (0..shape.params_len())
        .map(|k| ((k * 37 % 23) as f32 - 11.0) / 11.0)
        .collect();
    let x: Vec<f32> = (0..20)
        .map(|k| ((k * 29 % 17) as f32 - 8.0) / 8.0)
        .collect();
    let labels: Vec<u32> = (0..10)
        .map(|k| {
            if k / 2 < [5, 2][k % 2] {
                (k * 5 % 3) as u32
            } else {
                IGNORE
            }
        })
        .collect();
    let state = vec![0.0; shape.state_len(2)];
    let task = Task {
        shape,
        extent,
        params: &params,
        x: &x,
        state: &state,
        aim: Aim::Labels(&labels),
    };
    each_level(|_| {
        let done = task.run().unwrap();
        assert!((done.loss - 1.331_919_8).abs() < 2e-7);
        let bias = &done.gradients[params.len() - 3..];
        for (got, want) in bias.iter().zip([-0.256_513_37, 0.199_492_5, 0.057_020_87]) {
            assert!((got - want).abs() < 2e-7);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(48)))]

    #[test]
    fn training_steps_are_those_of_the_oracle(
        inputs in 1usize..5,
        hidden in prop::collection::vec(prop_oneof![6 => 1usize..12, 1 => 46usize..49], 1..4),
        outputs in 1usize..5,
        steps in 1usize..9,
        batch in 1usize..5,
        head in any::<bool>(),
        masked in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let extent = Extent { steps, batch };
        let classes = head.then_some(outputs);
        let shape = NetworkShape::new(inputs, &hidden).with_classes(classes);
        let mut random = Random(seed);
        let params = random.vec(shape.params_len(), 0.5);
        let x = random.vec(extent.rows() * inputs, 1.0);
        let state = random.vec(shape.state_len(batch), 0.5);
        let width = classes.unwrap_or(shape.outputs());
        let mask: Vec<bool> = (0..extent.rows()).map(|_| random.unit() < 0.6).collect();
        let mut targets = random.vec(extent.rows() * width, 1.0);
        for (targets, _) in targets.chunks_mut(width).zip(&mask).filter(|(_, m)| masked && !**m) {
            targets.fill(f32::NAN);
        }
        let task = Task {
            shape, extent, params: &params, x: &x, state: &state,
            aim: Aim::Targets(&targets, masked.then_some(&mask)),
        };
        task.holds();
        same_bits_at_each_level(|| {
            let done = task.run().unwrap();
            [&[done.loss][..], &done.gradients, &done.outputs, &done.state].concat()
        });
        if head {
            let labels: Vec<u32> = mask
                .iter()
                .map(|&counts| {
                    let label = (random.unit() * outputs as f32) as u32;
                    if counts || !masked { label } else { IGNORE }
                })
                .collect();
            Task { aim: Aim::Labels(&labels), ..task }.holds();
        }
    }
}

#[test]
fn no_row_that_counts_is_no_gradient() {
    for classes in [Some(2), None] {
        let shape = NetworkShape::new(1, &[4]).with_classes(classes);
        let extent = Extent { steps: 3, batch: 2 };
        let mut random = Random(2);
        let params = random.vec(shape.params_len(), 1.0);
        let x = random.vec(6, 1.0);
        let state = vec![0.0; shape.state_len(2)];
        let targets = random.vec(6 * classes.unwrap_or(4), 1.0);
        let task = Task {
            shape,
            extent,
            params: &params,
            x: &x,
            state: &state,
            aim: Aim::Targets(&targets, Some(&[false; 6])),
        };
        let aims = [task.aim, Aim::Labels(&[IGNORE; 6])];
        for aim in aims.into_iter().take(classes.map_or(1, |_| 2)) {
            each_level(|_| {
                let done = Task { aim, ..task }.run().unwrap();
                assert_eq!(done.loss, 0.0);
                assert!(done.gradients.iter().all(|&g| g == 0.0));
                assert!(done.outputs.iter().all(|y| y.is_finite()));
                assert!(done.state.iter().all(|&s| s != 0.0));
            });
        }
    }
}

#[test]
fn both_apis_ignore_the_same_rows() {
    type Net = Classifier<Lstm<2, 5>, 5, 3>;
    let shape = NetworkShape::new(2, &[5]).with_head(3);
    let extent = Extent { steps: 3, batch: 2 };
    let mut random = Random(4);
    let net = Net::glorot_uniform(|| random.unit());
    let x: [[[f32; 2]; 2]; 3] = std::array::from_fn(|_| [[random.unit(); 2]; 2]);
    let labels = [[0, 2], [IGNORE, 1], [2, IGNORE]];
    each_level(|_| {
        let mut state = LstmState::<2, 5>::ZERO;
        let (mut gradients, mut p) = (Net::ZERO, [[[0.0; 3]; 2]; 3]);
        let (g, cache, work) = (&mut gradients, &mut Flat::zero(), &mut Flat::zero());
        let loss = net.loss_gradient(&x, &labels, &mut state, g, &mut p, cache, work);
        let fixed = Done {
            loss: loss.unwrap(),
            gradients: gradients.as_flat().to_vec(),
            outputs: p.as_flat().to_vec(),
            state: state.as_flat().to_vec(),
        };
        let task = Task {
            shape,
            extent,
            params: net.as_flat(),
            x: x.as_flat(),
            state: &[0.0; 20],
            aim: Aim::Labels(labels.as_flattened()),
        };
        assert_eq!(fixed.bits(), task.run().unwrap().bits());
    });
}

#[test]
fn a_mask_of_all_rows_leaves_no_trace() {
    let mut random = Random(7);
    let (y, target) = (random.vec(600, 1.0), random.vec(600, 1.0));
    each_level(|_| {
        let (mut dy, mut same) = (vec![0.0; 600], vec![1.0; 600]);
        let loss = loss::mean_squared_error(&y, &target, &mut dy).unwrap();
        let masked = loss::masked_mean_squared_error(3, &y, &target, &[true; 200], &mut same);
        assert_eq!(loss.to_bits(), masked.unwrap().to_bits());
        assert_eq!(bits(&dy), bits(&same));
    });
}

#[test]
fn wrong_masks_and_targets_are_refused() {
    let length = |what, expected, got| {
        Err(ArgumentError::Length {
            what,
            expected,
            got,
        })
    };
    let masked = |mask: &[bool]| {
        loss::masked_mean_squared_error(2, &[0.0; 6], &[0.0; 6], mask, &mut [0.0; 6])
    };
    assert_eq!(masked(&[true; 3]), Ok(0.0));
    assert_eq!(masked(&[true; 4]), length("y", 8, 6));
    let none = loss::masked_mean_squared_error(0, &[], &[], &[], &mut []);
    assert_eq!(none, Err(ArgumentError::Zero { what: "outputs" }));
    let none = loss::masked_mean_squared_error(2, &[], &[], &[], &mut []);
    assert_eq!(none, Err(ArgumentError::Zero { what: "y" }));

    let shape = NetworkShape::new(1, &[2]).with_head(3);
    let params = vec![0.0; shape.params_len()];
    let extent = Extent { steps: 2, batch: 2 };
    let with_x = |extent, x: &[f32], targets: &[f32], mask: &[bool]| {
        let task = Task {
            shape,
            extent,
            params: &params,
            x,
            state: &[0.0; 8],
            aim: Aim::Targets(targets, Some(mask)),
        };
        task.run().map(|done| done.loss)
    };
    let with = |targets: &[f32], mask: &[bool]| with_x(extent, &[0.0; 4], targets, mask);
    assert_eq!(with(&[0.0; 12], &[true; 4]), Ok(0.0));
    assert_eq!(with(&[0.0; 11], &[true; 4]), length("targets", 12, 11));
    assert_eq!(with(&[0.0; 12], &[true; 3]), length("mask", 4, 3));
    assert_eq!(with(&[], &[true; 4]), length("targets", 12, 0));
    let none = with_x(Extent { steps: 0, batch: 2 }, &[], &[], &[]);
    assert_eq!(none, Err(ArgumentError::Zero { what: "targets" }));
}

/// Huber's loss and its gradient, in `f64`.
fn huber_oracle(y: &[f32], target: &[f32], counts: &[bool], delta: f64) -> (f64, Vec<f32>) {
    let n = counts.iter().filter(|&&counts| counts).count() as f64;
    let (mut loss, mut d) = (0.0, Vec::new());
    for ((y, t), counts) in y.iter().zip(target).zip(counts) {
        let e = f64::from(*y) - f64::from(*t);
        let (own, slope) = if e.abs() <= delta {
            (0.5 * e * e, e)
        } else {
            (delta * (e.abs() - 0.5 * delta), delta * e.signum())
        };
        loss += if *counts { own / n } else { 0.0 };
        d.push(if *counts { (slope / n) as f32 } else { 0.0 });
    }
    (loss, d)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(64)))]

    #[test]
    fn huber_is_the_oracle(
        rows in 1usize..60,
        width in 1usize..5,
        delta in prop_oneof![0.05f32..2.0, Just(f32::INFINITY)],
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let len = rows * width;
        let (y, mut target) = (random.vec(len, 1.5), random.vec(len, 1.5));
        let mask: Vec<bool> = (0..rows).map(|_| random.unit() < 0.7).collect();
        let each: Vec<bool> = mask.iter().flat_map(|&counts| vec![counts; width]).collect();
        let (want, dwant) = huber_oracle(&y, &target, &vec![true; len], f64::from(delta));
        let (want_masked, dwant_masked) = huber_oracle(&y, &target, &each, f64::from(delta));
        same_bits_at_each_level(|| {
            let mut d = vec![f32::NAN; len];
            let got = loss::huber(&y, &target, delta, &mut d).unwrap();
            assert!((f64::from(got) - want).abs() < 1e-6, "{got}, not {want}");
            assert_close("dy", &d, &dwant, 1e-6);
            let mut same = vec![f32::NAN; len];
            let all = loss::masked_huber(width, &y, &target, &vec![true; rows], delta, &mut same);
            assert_eq!((all.unwrap().to_bits(), bits(&same)), (got.to_bits(), bits(&d)));
            d.push(got);
            d
        });
        for (target, _) in target.iter_mut().zip(&each).filter(|(_, counts)| !**counts) {
            *target = f32::NAN;
        }
        let mut d = vec![f32::NAN; len];
        let got = loss::masked_huber(width, &y, &target, &mask, delta, &mut d).unwrap();
        assert!((f64::from(got) - want_masked).abs() < 1e-6, "{got}, not {want_masked}");
        assert_close("dy", &d, &dwant_masked, 1e-6);
    }

    /// Weighted rows are the sum of their classes' cross-entropies.
    #[test]
    fn weighted_entropy_is_the_oracle(
        rows in 1usize..60,
        classes in 1usize..7,
        smoothing in prop_oneof![Just(0.0f32), 0.0f32..=1.0],
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let logits = random.vec(rows * classes, 4.0);
        let labels: Vec<u32> = (0..rows)
            .map(|_| {
                let label = (random.unit() * classes as f32) as u32;
                if random.unit() < 0.8 { label } else { IGNORE }
            })
            .collect();
        let weights: Vec<f32> = (0..classes).map(|_| (2.0 * random.unit() - 0.5).max(0.0)).collect();
        let weighting = Weighting { class_weights: Some(&weights), smoothing };
        let all: f64 = labels
            .iter()
            .filter_map(|&label| weights.get(label as usize))
            .map(|&w| f64::from(w))
            .sum();
        let (mut want, mut dwant) = (0.0, Vec::new());
        for (z, &label) in logits.chunks(classes).zip(&labels) {
            let sum: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
            let q = |class: usize| {
                let hit = f64::from(u8::from(class == label as usize));
                let smoothing = f64::from(smoothing);
                let share = (1.0 - smoothing) * hit + smoothing / classes as f64;
                if label == IGNORE || all == 0.0 { 0.0 } else { f64::from(weights[class]) * share / all }
            };
            let total: f64 = (0..classes).map(q).sum();
            for (class, &z) in z.iter().enumerate() {
                want -= q(class) * (f64::from(z) - sum.ln());
                dwant.push((f64::from(z).exp() / sum * total - q(class)) as f32);
            }
        }
        same_bits_at_each_level(|| {
            let (mut p, mut d) = (logits.clone(), vec![f32::NAN; logits.len()]);
            let got = loss::weighted_softmax_cross_entropy(classes, &mut p, &labels, weighting, &mut d);
            let got = got.unwrap();
            assert!((f64::from(got) - want).abs() < 1e-5 * (1.0 + want), "{got}, not {want}");
            assert_close("dlogits", &d, &dwant, 2e-6);
            let mut softmax = logits.clone();
            loss::softmax(classes, &mut softmax).unwrap();
            assert_eq!(bits(&p), bits(&softmax));
            d.push(got);
            d
        });
    }
}

/// PyTorch's `cross_entropy` with `weight`, `label_smoothing` and `ignore_index`.
#[test]
fn pytorch_weighted_entropy() {
    let golden = Golden::open("loss_weighted");
    let labels: Vec<u32> = golden.i32("labels").iter().map(|&l| l as u32).collect();
    let weights = golden.f32("weights");
    for (name, class_weights, smoothing) in [
        ("weights", Some(&weights[..]), 0.0),
        ("smoothing", None, 0.15),
        ("both", Some(&weights[..]), 0.15),
    ] {
        let weighting = Weighting {
            class_weights,
            smoothing,
        };
        each_level(|level| {
            let (mut z, mut d) = (golden.f32("logits"), [f32::NAN; 28]);
            let got = loss::weighted_softmax_cross_entropy(4, &mut z, &labels, weighting, &mut d);
            let what = format!("{name} at {level}");
            assert_close(
                &what,
                &[got.unwrap()],
                &golden.f32(&format!("{name}.loss")),
                5e-7,
            );
            assert_close(&what, &d, &golden.f32(&format!("{name}.grad")), 2e-7);
        });
    }
}

#[test]
fn wrong_deltas_and_weightings_are_refused() {
    for delta in [0.0, -1.0, f32::NAN] {
        let got = loss::huber(&[1.0], &[0.0], delta, &mut [0.0]);
        assert_eq!(got, Err(ArgumentError::NotPositive { what: "delta" }));
    }
    let got = loss::huber(&[], &[], 1.0, &mut []);
    assert_eq!(got, Err(ArgumentError::Zero { what: "y" }));
    let got = loss::masked_huber(0, &[], &[], &[], 1.0, &mut []);
    assert_eq!(got, Err(ArgumentError::Zero { what: "outputs" }));
    let with = |class_weights: Option<&[f32]>, smoothing| {
        let weighting = Weighting {
            class_weights,
            smoothing,
        };
        let (z, d) = (&mut [0.0; 2], &mut [0.0; 2]);
        loss::weighted_softmax_cross_entropy(2, z, &[1], weighting, d)
    };
    let range =
        |what| move |error| matches!(error, ArgumentError::Range { what: own, .. } if own == what);
    for smoothing in [-0.1, 1.1, f32::NAN] {
        assert!(with(None, smoothing).is_err_and(range("smoothing")));
    }
    for weight in [-0.1, f32::INFINITY, f32::NAN] {
        assert!(with(Some(&[1.0, weight]), 0.0).is_err_and(range("class_weights")));
    }
    let error = with(Some(&[1.0]), 0.0).unwrap_err();
    assert_eq!(error.to_string(), "class_weights: expected 2 values, got 1");
    // Nothing that counts has a weight.
    assert_eq!(with(Some(&[1.0, 0.0]), 0.1), Ok(0.0));
}

/// A loss of the caller's.
type AnyLoss<'a> = dyn FnMut(&mut [f32], &mut [f32]) -> Result<f32, ArgumentError> + 'a;

/// The two losses that are built in, given as a loss of the caller's; and one that is refused.
#[test]
fn any_loss_gives_the_same_step() {
    let extent = Extent { steps: 3, batch: 2 };
    let mut random = Random(9);
    let (x, labels) = (random.vec(12, 1.0), [0, 2, IGNORE, 1, 2, IGNORE]);
    let targets = random.vec(18, 1.0);
    for classes in [Some(3), None] {
        let shape = NetworkShape::new(2, &[4, 3]).with_classes(classes);
        let params = random.vec(shape.params_len(), 0.7);
        let start = random.vec(shape.state_len(2), 0.7);
        let lens = shape.lengths(extent);
        let aims = [Aim::Targets(&targets, None), Aim::Labels(&labels)];
        for aim in aims.into_iter().take(classes.map_or(1, |_| 2)) {
            let task = Task {
                shape,
                extent,
                params: &params,
                x: &x,
                state: &start,
                aim,
            };
            each_level(|_| {
                let want = task.run().unwrap();
                let model = Model::new(shape, &params).unwrap();
                let run = |loss: &mut AnyLoss| {
                    let (mut state, mut gradients) = (start.clone(), vec![0.0; lens.params]);
                    let mut outputs = vec![f32::NAN; lens.outputs];
                    let buffers = LossGradient {
                        x: &x,
                        state: &mut state,
                        gradients: &mut gradients,
                        outputs: &mut outputs,
                        cache: &mut vec![f32::NAN; lens.cache],
                        workspace: &mut vec![f32::NAN; lens.workspace],
                    };
                    let loss = model.gradient_of(extent, loss, buffers);
                    (
                        loss,
                        Done {
                            loss: 0.0,
                            gradients,
                            outputs,
                            state,
                        },
                    )
                };
                let (loss, done) = run(&mut |y, dy| match aim {
                    Aim::Labels(labels) => loss::softmax_cross_entropy(3, y, labels, dy),
                    Aim::Targets(targets, _) => loss::mean_squared_error(y, targets, dy),
                });
                let done = Done {
                    loss: loss.unwrap(),
                    ..done
                };
                assert_eq!(done.bits(), want.bits());

                let refused = ArgumentError::Zero { what: "y" };
                let (loss, done) = run(&mut |_, dy| {
                    assert!(dy.iter().all(|d| d.to_bits() == 0));
                    Err(refused)
                });
                assert_eq!(loss, Err(refused));
                assert_eq!(bits(&done.state), bits(&want.state));
                assert!(done.gradients.iter().all(|&g| g == 0.0));
                // A loss that writes no gradient.
                let (loss, done) = run(&mut |_, _| Ok(7.0));
                assert_eq!(loss, Ok(7.0));
                assert!(done.gradients.iter().all(|&g| g == 0.0));
            });
        }
    }
}

/// Huber's loss at the last step, with sizes as types and at run time.
#[test]
fn both_apis_take_any_loss() {
    type Layers = Stack<Lstm<2, 5>, Lstm<5, 3>>;
    type Net = Classifier<Layers, 3, 2>;
    let mut random = Random(5);
    let net = Net::glorot_uniform(|| random.unit());
    let x: [[[f32; 2]; 2]; 3] = std::array::from_fn(|_| [[random.unit(); 2]; 2]);
    let targets = [0.3, -0.7, 0.1, 0.9];
    let y_targets = [0.3, -0.7, 0.1, 0.9, 0.2, -0.3];
    let extent = Extent { steps: 3, batch: 2 };
    let layers = NetworkShape::new(2, &[5, 3]);
    let at_run_time = |shape: NetworkShape, params: &[f32], targets: &[f32]| {
        let lens = shape.lengths(extent);
        let (mut state, mut gradients) = (vec![0.0; lens.state], vec![0.0; lens.params]);
        let mut outputs = vec![f32::NAN; lens.outputs];
        let last = lens.outputs - targets.len();
        let buffers = LossGradient {
            x: x.as_flat(),
            state: &mut state,
            gradients: &mut gradients,
            outputs: &mut outputs,
            cache: &mut vec![f32::NAN; lens.cache],
            workspace: &mut vec![f32::NAN; lens.workspace],
        };
        let loss = Model::new(shape, params)
            .unwrap()
            .gradient_of(
                extent,
                |y, dy| loss::huber(&y[last..], targets, 0.5, &mut dy[last..]),
                buffers,
            )
            .unwrap();
        Done {
            loss,
            gradients,
            outputs,
            state,
        }
    };
    each_level(|_| {
        let mut state = <Layers as Buffers>::State::<2>::ZERO;
        let (mut gradients, mut y) = (Net::ZERO, [[[f32::NAN; 2]; 2]; 3]);
        let (cache, work) = (&mut Flat::zero(), &mut Flat::zero());
        let last = |y: &mut [[[f32; 2]; 2]; 3], dy: &mut [[[f32; 2]; 2]; 3]| {
            loss::huber(y[2].as_flat(), &targets, 0.5, dy[2].as_flat_mut())
        };
        let loss = net.gradient_of(&x, last, &mut state, &mut gradients, &mut y, cache, work);
        let fixed = Done {
            loss: loss.unwrap(),
            gradients: gradients.as_flat().to_vec(),
            outputs: y.as_flat().to_vec(),
            state: state.as_flat().to_vec(),
        };
        let want = at_run_time(layers.with_head(2), net.as_flat(), &targets);
        assert!(want.loss > 0.0 && want.gradients.iter().any(|&g| g != 0.0));
        assert_eq!(fixed.bits(), want.bits());

        let mut state = <Layers as Buffers>::State::<2>::ZERO;
        let (mut gradients, mut dy) = (Layers::ZERO, [[[f32::NAN; 3]; 2]; 3]);
        let (cache, work) = (&mut Flat::zero(), &mut Flat::zero());
        let mut outputs = Vec::new();
        let last = |y: &[[[f32; 3]; 2]; 3], dy: &mut [[[f32; 3]; 2]; 3]| {
            outputs = y.as_flat().to_vec();
            loss::huber(y[2].as_flat(), &y_targets, 0.5, dy[2].as_flat_mut())
        };
        let own = &net.lstm;
        let loss = own.gradient_of(&x, last, &mut state, &mut gradients, &mut dy, cache, work);
        let fixed = Done {
            loss: loss.unwrap(),
            gradients: gradients.as_flat().to_vec(),
            outputs,
            state: state.as_flat().to_vec(),
        };
        let want = at_run_time(layers, own.as_flat(), &y_targets);
        assert_eq!(fixed.bits(), want.bits());
    });
}

/// The relative errors of the mean losses over so many rows.
fn errors_of_means(rows: usize) -> [f64; 2] {
    let mut random = Random(rows as u64);
    let mut logits = random.vec(2 * rows, 2.0);
    let labels: Vec<u32> = (0..rows).map(|_| (random.unit() * 2.0) as u32).collect();
    let want = logits.chunks(2).zip(&labels).map(|(z, &label)| {
        let (own, other) = (z[label as usize], z[1 - label as usize]);
        (f64::from(other) - f64::from(own)).exp().ln_1p()
    });
    let want = want.sum::<f64>() / rows as f64;
    let mut d = vec![0.0; 2 * rows];
    let got = loss::softmax_cross_entropy(2, &mut logits, &labels, &mut d).unwrap();
    let of_entropy = (f64::from(got) / want - 1.0).abs();

    let (y, target) = (random.vec(2 * rows, 1.0), random.vec(2 * rows, 1.0));
    let want = y.iter().zip(&target).map(|(y, t)| f64::from(y - t).powi(2));
    let want = want.sum::<f64>() / (2 * rows) as f64;
    let got = loss::mean_squared_error(&y, &target, &mut d).unwrap();
    [of_entropy, (f64::from(got) / want - 1.0).abs()]
}

#[test]
fn means_over_a_million_rows_are_exact() {
    each_level(|level| {
        let errors = errors_of_means(1_000_000);
        println!("{level}: {errors:?}");
        assert!(errors.iter().all(|&e| e < 5e-7), "{level}: {errors:?}");
    });
}

#[test]
#[ignore = "takes a while"]
fn means_over_twenty_million_rows_are_exact() {
    each_level(|level| {
        let errors = errors_of_means(20_000_000);
        println!("{level}: {errors:?}");
        assert!(errors.iter().all(|&e| e < 5e-7), "{level}: {errors:?}");
    });
}

/// The largest error of a gradient over so many steps of a thousand rows, as a part of the
/// largest gradient.
fn errors_of_gradients(steps: usize) -> f64 {
    let shape = NetworkShape::new(1, &[4]).with_head(2);
    let extent = Extent { steps, batch: 1000 };
    let mut random = Random(1);
    let params = random.vec(shape.params_len(), 0.5);
    let x = random.vec(extent.rows(), 1.0);
    let labels: Vec<u32> = (0..extent.rows())
        .map(|_| u32::from(random.unit() < 0.3))
        .collect();
    let state = vec![0.0; shape.state_len(1000)];
    let task = Task {
        shape,
        extent,
        params: &params,
        x: &x,
        state: &state,
        aim: Aim::Labels(&labels),
    };
    let (_, want, _) = task.oracle();
    let largest = want.iter().fold(0.0f64, |most, g| most.max(g.abs()));
    let errors = each_level(|_| {
        let done = task.run().unwrap();
        let off = done.gradients.iter().zip(&want);
        off.fold(0.0f64, |most, (&g, w)| most.max((f64::from(g) - w).abs())) / largest
    });
    println!("{steps} steps: {errors:?}");
    errors.into_iter().fold(0.0, |most, (_, e)| most.max(e))
}

/// They are plain sums over the rows of a call; the documentation says how far off.
#[test]
fn gradients_over_many_rows_are_as_near_as_documented() {
    assert!(errors_of_gradients(1) < 3e-6);
    assert!(errors_of_gradients(10) < 3e-5);
    assert!(errors_of_gradients(100) < 3e-4);
    assert!(errors_of_gradients(1000) < 3e-3);
}
