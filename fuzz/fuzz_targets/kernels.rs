//! Any small network on any numbers: every level against the oracle, and all levels of
//! a kind against each other.

#![no_main]

use arbitrary::Arbitrary;
use fused_lstm::{Extent, Level, Model, NetworkShape};
use fused_lstm_tests::oracle::{self, wide};
use fused_lstm_tests::outcome::forward_and_backward;
use fused_lstm_tests::random::Random;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    inputs: u8,
    hidden: [u8; 3],
    layers: u8,
    steps: u8,
    batch: u8,
    gain: u8,
    seed: u64,
}

fuzz_target!(|input: Input| {
    let hidden: Vec<usize> = input
        .hidden
        .iter()
        .map(|&h| usize::from(h % 36) + 1)
        .collect();
    let hidden = &hidden[..usize::from(input.layers % 3) + 1];
    let shape = NetworkShape::new(usize::from(input.inputs % 20) + 1, hidden);
    let extent = Extent {
        steps: usize::from(input.steps % 5),
        batch: usize::from(input.batch % 9) + 1,
    };
    let mut random = Random(input.seed);
    // Sums of order `gain`, up to where all gates are shut.
    let gain = f32::from(input.gain) / 8.0 + 0.1;
    let mut params = Vec::new();
    for layer in shape.layers() {
        let limit = gain / ((layer.inputs + layer.hidden) as f32).sqrt();
        params.extend(random.vec(layer.params_len(), limit));
    }
    let x = random.vec(extent.rows() * shape.inputs, 1.0);
    let state = random.vec(shape.state_len(extent.batch), 1.0);
    let dy = random.vec(extent.rows() * shape.outputs(), 1.0);
    let dfinal = random.vec(state.len(), 1.0);
    let run = oracle::forward(shape, &wide(&params), extent, &wide(&x), &wide(&state));
    let want = oracle::backward(&run, extent, &wide(&dy), &wide(&dfinal));

    let mut kinds: [Option<Vec<u32>>; 2] = [None, None];
    for level in Level::available() {
        assert!(level.force());
        let model = Model::new(shape, &params).unwrap();
        let (mut now, mut y) = (state.clone(), vec![0.0; dy.len()]);
        let mut scratch = vec![f32::NAN; shape.scratch_len(extent)];
        model
            .infer(extent, &x, &mut now, &mut y, &mut scratch)
            .unwrap();
        let out = forward_and_backward(shape, &params, extent, &x, &state, &dy, &dfinal);
        assert!(out.y == y && out.state == now);
        // An error in one step is multiplied by the weights in the next.
        let amplified = f64::from(gain.max(1.0)).powi((extent.steps * hidden.len()) as i32);
        near(&y, &run.y, amplified);
        near(&now, &run.state, amplified);
        near(
            &out.gradients,
            &want.params,
            amplified * f64::from(gain.max(1.0)),
        );
        near(&out.dx, &want.x, amplified * f64::from(gain.max(1.0)));
        near(
            &out.dstate,
            &want.state,
            amplified * f64::from(gain.max(1.0)),
        );

        let all = [y, now, out.gradients, out.dx, out.dstate].concat();
        let bits: Vec<u32> = all.iter().map(|v| v.to_bits()).collect();
        match &kinds[usize::from(level.is_fused())] {
            Some(other) => assert!(*other == bits, "{level} differs from its kind"),
            None => kinds[usize::from(level.is_fused())] = Some(bits),
        }
    }
});

fn near(got: &[f32], want: &[f64], amplified: f64) {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1.0f64, |scale, w| scale.max(w.abs()));
    for (&got, &want) in got.iter().zip(want) {
        let error = (f64::from(got) - want).abs();
        assert!(error <= 2e-5 * scale * amplified, "{got}, not {want}");
    }
}
