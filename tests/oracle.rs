//! The kernels against the oracle, at every level, over shapes around the lane
//! counts; and the oracle against finite differences of itself.

use fused_lstm::{Extent, LossGradient, Model, NetworkShape};
use fused_lstm_tests::levels::each_level;
use fused_lstm_tests::oracle::{self, narrow, wide};
use fused_lstm_tests::outcome::forward_and_backward;
use fused_lstm_tests::random::Random;
use proptest::prelude::*;

/// A network, its inputs, and everything random about it.
#[derive(Clone, Debug)]
struct Case {
    inputs: usize,
    hidden: Vec<usize>,
    classes: usize,
    extent: Extent,
    seed: u64,
}

impl Case {
    fn shape(&self) -> NetworkShape<'_> {
        NetworkShape::new(self.inputs, &self.hidden).with_head(self.classes)
    }
}

fn units() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1usize..=40, 1 => 63usize..=65]
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (
        1usize..=20,
        prop::collection::vec(units(), 1..=3),
        1usize..=5,
    );
    let extents = (1usize..=6, 1usize..=9);
    (sizes, extents, any::<u64>()).prop_map(|((inputs, hidden, classes), (steps, batch), seed)| {
        Case {
            inputs,
            hidden,
            classes,
            extent: Extent { steps, batch },
            seed,
        }
    })
}

/// Asserts |got − want| ≤ `tolerance`·max(1, largest |want|).
#[track_caller]
fn assert_near(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1.0f64, |scale, w| scale.max(w.abs()));
    for (k, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(
            error <= tolerance * scale,
            "{what}[{k}]: {got}, not {want} (scale {scale})"
        );
    }
}

/// Weights of a size that keeps sums of any length of order `gain`.
fn params(random: &mut Random, shape: NetworkShape, gain: f32) -> Vec<f32> {
    let mut params = Vec::new();
    for layer in shape.layers() {
        let limit = gain / ((layer.inputs + layer.hidden) as f32).sqrt();
        params.extend(random.vec(layer.params_len(), limit));
    }
    if let Some(head) = shape.head() {
        params.extend(random.vec(head.params_len(), 1.0));
    }
    params
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(96)))]

    #[test]
    fn forward_and_backward_equal_the_oracle(case in cases()) {
        let (shape, extent) = (case.shape(), case.extent);
        let mut random = Random(case.seed);
        let params = params(&mut random, shape, 1.5);
        let x = random.vec(extent.rows() * case.inputs, 1.5);
        let initial = random.vec(shape.state_len(extent.batch), 1.0);
        let dy = random.vec(extent.rows() * shape.outputs(), 1.0);
        let dfinal = random.vec(initial.len(), 1.0);

        let run = oracle::forward(shape, &wide(&params), extent, &wide(&x), &wide(&initial));
        let want = oracle::backward(&run, extent, &wide(&dy), &wide(&dfinal));

        each_level(|_| {
            let model = Model::new(shape, &params).unwrap();
            let mut state = initial.clone();
            let mut y = vec![f32::NAN; dy.len()];
            let mut scratch = vec![f32::NAN; shape.scratch_len(extent)];
            model.infer(extent, &x, &mut state, &mut y, &mut scratch).unwrap();
            assert_near("y", &y, &run.y, 4e-6);
            assert_near("state", &state, &run.state, 4e-6);

            let out = forward_and_backward(shape, &params, extent, &x, &initial, &dy, &dfinal);
            assert_eq!(out.y, y);
            assert_eq!(out.state, state);
            let (layers, head) = out.gradients.split_at(want.params.len());
            assert_near("gradients", layers, &want.params, 1e-5);
            assert_near("dx", &out.dx, &want.x, 1e-5);
            assert_near("dstate", &out.dstate, &want.state, 1e-5);
            assert!(head.iter().all(|&g| g == 0.0));
        });
    }

    #[test]
    fn loss_and_its_gradient_equal_the_oracle(case in cases()) {
        let (shape, extent) = (case.shape(), case.extent);
        let head = shape.head().unwrap();
        let mut random = Random(case.seed);
        let params = params(&mut random, shape, 1.0);
        let x = random.vec(extent.rows() * case.inputs, 1.0);
        let initial = random.vec(shape.state_len(extent.batch), 0.5);
        let labels: Vec<u32> =
            (0..extent.rows()).map(|_| (random.unit() * case.classes as f32) as u32).collect();

        let run = oracle::forward(shape, &wide(&params), extent, &wide(&x), &wide(&initial));
        let head_params = wide(&params[params.len() - head.params_len()..]);
        let logits = oracle::dense(&head_params, &run.y, head.inputs);
        let (loss, probabilities) = oracle::cross_entropy(&logits, &labels);
        // d loss / d logits, and through the head.
        let mut dlogits = probabilities.clone();
        for (row, &label) in labels.iter().enumerate() {
            dlogits[row * case.classes + label as usize] -= 1.0;
        }
        let mut dhead = vec![0.0; head_params.len()];
        let mut dy = vec![0.0; run.y.len()];
        for (row, d) in dlogits.chunks(case.classes).enumerate() {
            for (c, d) in d.iter().map(|d| d / labels.len() as f64).enumerate() {
                dhead[head.inputs * case.classes + c] += d;
                for k in 0..head.inputs {
                    dhead[k * case.classes + c] += run.y[row * head.inputs + k] * d;
                    dy[row * head.inputs + k] += head_params[k * case.classes + c] * d;
                }
            }
        }
        let mut want = oracle::backward(&run, extent, &dy, &vec![0.0; run.state.len()]).params;
        want.extend(dhead);

        each_level(|_| {
            let model = Model::new(shape, &params).unwrap();
            let mut state = initial.clone();
            let mut gradients = vec![0.0; params.len()];
            let mut p = vec![f32::NAN; shape.logits_len(extent)];
            let mut cache = vec![f32::NAN; shape.cache_len(extent)];
            let mut workspace = vec![f32::NAN; shape.workspace_len(extent)];
            let buffers = LossGradient {
                x: &x,
                state: &mut state,
                gradients: &mut gradients,
                outputs: &mut p,
                cache: &mut cache,
                workspace: &mut workspace,
            };
            let got = model.loss_gradient(extent, &labels, buffers).unwrap();
            assert_near("loss", &[got], &[loss], 2e-6);
            assert_near("probabilities", &p, &probabilities, 3e-6);
            assert_near("state", &state, &run.state, 4e-6);
            assert_near("gradients", &gradients, &want, 3e-6);
        });
    }
}

/// Gates deep in saturation: the bound is on each output itself.
#[test]
fn saturated_gates_equal_the_oracle() {
    let hidden = [9];
    let shape = NetworkShape::new(3, &hidden);
    let extent = Extent { steps: 4, batch: 5 };
    for gain in [10.0, 40.0, 100.0] {
        let mut random = Random(7);
        let params = random.vec(shape.params_len(), gain);
        let x = random.vec(extent.rows() * 3, 1.0);
        let initial = random.vec(shape.state_len(5), 1.0);
        let run = oracle::forward(shape, &wide(&params), extent, &wide(&x), &wide(&initial));
        each_level(|_| {
            let (mut state, mut y) = (initial.clone(), vec![0.0; run.y.len()]);
            let model = Model::new(shape, &params).unwrap();
            model
                .infer(extent, &x, &mut state, &mut y, &mut [])
                .unwrap();
            // A sum of order `gain` is off by its rounding, and so is what follows.
            assert_near("y", &y, &run.y, f64::from(gain) * 2e-6);
        });
    }
}

/// The oracle's gradients are the slopes of its loss, every one of them.
#[test]
fn oracle_gradients_equal_finite_differences() {
    let hidden = [3, 4];
    let shape = NetworkShape::new(2, &hidden);
    let extent = Extent { steps: 4, batch: 2 };
    let mut random = Random(3);
    let params = wide(&random.vec(shape.params_len(), 0.8));
    let x = wide(&random.vec(extent.rows() * 2, 1.0));
    let state = wide(&random.vec(shape.state_len(2), 1.0));
    let dy = wide(&random.vec(extent.rows() * 4, 1.0));
    let dfinal = wide(&random.vec(state.len(), 1.0));
    let value = |params: &[f64], x: &[f64], state: &[f64]| {
        let run = oracle::forward(shape, params, extent, x, state);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&run.y, &dy) + dot(&run.state, &dfinal)
    };
    let run = oracle::forward(shape, &params, extent, &x, &state);
    let got = oracle::backward(&run, extent, &dy, &dfinal);
    let slopes = |at: &[f64], value: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
        let step = 1e-5;
        let moved = |k: usize, by: f64| {
            let mut at = at.to_vec();
            at[k] += by;
            value(&at)
        };
        (0..at.len())
            .map(|k| (moved(k, step) - moved(k, -step)) / (2.0 * step))
            .collect()
    };
    let check = |what: &str, got: &[f64], want: &[f64]| {
        assert_near(what, &narrow(got), want, 1e-6);
        assert!(want.iter().any(|w| w.abs() > 0.01), "{what} is flat");
    };
    check(
        "params",
        &got.params,
        &slopes(&params, &|p| value(p, &x, &state)),
    );
    check("x", &got.x, &slopes(&x, &|x| value(&params, x, &state)));
    check(
        "state",
        &got.state,
        &slopes(&state, &|s| value(&params, &x, s)),
    );
}
