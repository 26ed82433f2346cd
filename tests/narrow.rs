//! Weights of half precision and of 8 bits: against the network of the rounded weights, against
//! integers in 64 bits, and at every level.

use fused_lstm::{
    ArgumentError, Extent, LayerShape, Level, Model, NarrowLayer, NetworkShape, QuantizeError,
    Storage, Zigzag,
};
use fused_lstm_tests::levels::{bits, each_level};
use fused_lstm_tests::narrow::Int8;
use fused_lstm_tests::random::{Random, cases};
use proptest::prelude::*;

/// How a kernel's numbers are spread.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Random,
    /// Of one magnitude: every sum is as large as it can be.
    Extreme,
    /// From 2⁻⁴⁰ to 2⁴⁰, and zeros.
    Wide,
}

#[derive(Clone, Debug)]
struct Case {
    shape: LayerShape,
    steps: usize,
    batch: usize,
    weights: Weights,
    range: f32,
    seed: u64,
}

fn layers() -> impl Strategy<Value = Case> {
    let hidden = prop_oneof![6 => 1usize..=40, 1 => 63usize..=65];
    let inputs = prop_oneof![6 => 1usize..=33, 1 => 300usize..=301];
    let weights = prop_oneof![
        3 => Just(Weights::Random),
        1 => Just(Weights::Extreme),
        1 => Just(Weights::Wide)
    ];
    let range = prop_oneof![Just(1.0f32), Just(3.7), Just(0.01), Just(1e-30), Just(1e20)];
    (
        inputs,
        hidden,
        1usize..=4,
        1usize..=3,
        weights,
        range,
        any::<u64>(),
    )
        .prop_map(
            |(inputs, hidden, steps, batch, weights, range, seed)| Case {
                shape: LayerShape::new(inputs, hidden),
                steps,
                batch,
                weights,
                range,
                seed,
            },
        )
}

impl Case {
    fn extent(&self) -> Extent {
        Extent {
            steps: self.steps,
            batch: self.batch,
        }
    }

    fn params(&self, random: &mut Random) -> Vec<f32> {
        let mut params = random.vec(self.shape.params_len(), 0.5);
        for v in &mut params {
            match self.weights {
                Weights::Random => {}
                Weights::Extreme => *v = 0.25f32.copysign(*v),
                Weights::Wide => *v *= 2.0f32.powi((random.unit() * 40.0) as i32),
            }
            if matches!(self.weights, Weights::Wide) && random.unit() > 0.5 {
                *v = 0.0;
            }
        }
        params
    }
}

/// A run, with every buffer that is overwritten full of NaN.
fn run(layer: NarrowLayer, extent: Extent, x: &[f32], state: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut state = state.to_vec();
    let mut y = vec![f32::NAN; extent.rows() * layer.shape().hidden];
    let mut scratch = vec![f32::NAN; NarrowLayer::scratch_for(layer.shape())];
    layer
        .run(extent, x, &mut state, &mut y, &mut scratch)
        .unwrap();
    (y, state)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]

    #[test]
    fn int8_is_integers_at_every_level(case in layers()) {
        let mut random = Random(case.seed);
        let params = case.params(&mut random);
        let (extent, shape) = (case.extent(), case.shape);
        // Some of the inputs are beyond the range, and some states are saturated.
        let x = random.vec(extent.rows() * shape.inputs, 2.5 * case.range);
        let mut state = random.vec(shape.state_len(case.batch), 1.0);
        for v in state.iter_mut().skip(case.batch * shape.hidden).step_by(3) {
            *v = 1.0f32.copysign(*v);
        }
        let mut words = vec![0; Storage::Int8.words_len(shape)];
        let layer = NarrowLayer::pack(shape, Storage::Int8, &params, case.range, &mut words).unwrap();
        let int8 = Int8::read(shape, &words_of(layer, &params, case.range));
        // Whatever the inputs and the states.
        prop_assert!(int8.largest_sum() <= i64::from(i32::MAX));

        let results = each_level(|level| {
            let (y, end) = run(layer, extent, &x, &state);
            if level == Level::Portable {
                let (mut c, mut h) = (state.clone(), Vec::new());
                h.extend(c.drain(case.batch * shape.hidden..));
                for step in 0..extent.steps {
                    for row in 0..extent.batch {
                        let at = (step * extent.batch + row) * shape.inputs;
                        let own = row * shape.hidden..(row + 1) * shape.hidden;
                        int8.step(&x[at..at + shape.inputs], &mut c[own.clone()], &mut h[own]);
                    }
                }
                c.extend(&h);
                assert_eq!(bits(&end), bits(&c), "the oracle");
                assert_eq!(bits(&y[y.len() - h.len()..]), bits(&h));
            }
            (bits(&y), bits(&end))
        });
        for (level, result) in &results {
            prop_assert!(*result == results[0].1, "{level}");
        }
    }

    #[test]
    fn halves_are_the_network_of_rounded_weights(case in layers(), storage in prop_oneof![Just(Storage::F16), Just(Storage::F32)]) {
        let mut random = Random(case.seed);
        let mut params = case.params(&mut random);
        if storage == Storage::F16 {
            params.iter_mut().for_each(|v| *v = v.clamp(-60_000.0, 60_000.0));
        }
        let (extent, shape) = (case.extent(), case.shape);
        let x = random.vec(extent.rows() * shape.inputs, 1.0);
        let state = random.vec(shape.state_len(case.batch), 1.0);
        let mut words = vec![0; storage.words_len(shape)];
        let layer = NarrowLayer::pack(shape, storage, &params, 1.0, &mut words).unwrap();
        let mut rounded = vec![f32::NAN; params.len()];
        layer.unpack(&mut rounded).unwrap();
        for (rounded, exact) in rounded.iter().zip(&params) {
            let most = if storage == Storage::F16 { exact.abs() / 2048.0 + 3e-8 } else { 0.0 };
            prop_assert!((rounded - exact).abs() <= most, "{rounded} {exact}");
        }
        let hidden = [shape.hidden];
        let net = NetworkShape::new(shape.inputs, &hidden);
        each_level(|level| {
            let (y, end) = run(layer, extent, &x, &state);
            let (mut same, mut same_end) = (vec![f32::NAN; y.len()], state.clone());
            let mut scratch = vec![f32::NAN; net.scratch_len(extent)];
            Model::new(net, &rounded).unwrap()
                .infer(extent, &x, &mut same_end, &mut same, &mut scratch).unwrap();
            assert_eq!(bits(&y), bits(&same), "{level}");
            assert_eq!(bits(&end), bits(&same_end), "{level}");
        });
    }

    #[test]
    fn int8_weights_are_the_nearest(case in layers()) {
        let mut random = Random(case.seed);
        let params = case.params(&mut random);
        let (LayerShape { inputs, hidden, .. }, shape) = (case.shape, case.shape);
        let mut words = vec![0; Storage::Int8.words_len(shape)];
        let layer = NarrowLayer::pack(shape, Storage::Int8, &params, case.range, &mut words).unwrap();
        let mut rounded = vec![f32::NAN; params.len()];
        layer.unpack(&mut rounded).unwrap();
        let largest = |rows: std::ops::Range<usize>, column: usize| {
            rows.map(|row| params[row * 4 * hidden + column].abs()).fold(0.0, f32::max)
        };
        for row in 0..inputs + hidden {
            for column in 0..4 * hidden {
                let at = row * 4 * hidden + column;
                let rows = if row < inputs { 0..inputs } else { inputs..inputs + hidden };
                // Half a step, of which the scale's rounding makes up to 1/128 more.
                let half = largest(rows, column) / 127.0 / 2.0 * 1.01;
                let error = (rounded[at] - params[at]).abs();
                prop_assert!(error <= half + f32::MIN_POSITIVE, "{} {}", rounded[at], params[at]);
            }
        }
    }
}

/// The words of a layer anew, which the layer itself keeps to itself.
fn words_of(layer: NarrowLayer, params: &[f32], range: f32) -> Vec<u32> {
    let mut words = vec![u32::MAX; layer.storage().words_len(layer.shape())];
    NarrowLayer::pack(layer.shape(), layer.storage(), params, range, &mut words).unwrap();
    words
}

#[test]
fn steps_rows_and_directions_leave_no_trace() {
    let shape = LayerShape::new(3, 37);
    let mut random = Random(5);
    let params = random.vec(shape.params_len(), 0.4);
    let x = random.vec(6 * 2 * 3, 1.0);
    for storage in [Storage::F32, Storage::F16, Storage::Int8] {
        let mut words = vec![0; storage.words_len(shape)];
        let layer = NarrowLayer::pack(shape, storage, &params, 1.0, &mut words).unwrap();
        each_level(|_| {
            let extent = Extent { steps: 6, batch: 2 };
            let (y, state) = run(layer, extent, &x, &vec![0.0; shape.state_len(2)]);
            let mut scratch = vec![f32::NAN; NarrowLayer::scratch_for(shape)];
            for row in 0..2 {
                let (mut own, mut zigzag) = (vec![0.0; shape.state_len(1)], Zigzag::NEW);
                for step in 0..6 {
                    let at = (step * 2 + row) * 3;
                    layer
                        .step(1, &x[at..at + 3], &mut own, &mut zigzag, &mut scratch)
                        .unwrap();
                    let at = (step * 2 + row) * 37;
                    assert_eq!(bits(&own[37..]), bits(&y[at..at + 37]));
                }
                assert_eq!(bits(&own[..37]), bits(&state[row * 37..(row + 1) * 37]));
            }
        });
    }
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let shape = LayerShape::new(1, 2);
    let mut params = vec![0.5; shape.params_len()];
    let pack = |params: &[f32], storage: Storage, range: f32| {
        let mut words = vec![0; storage.words_len(shape)];
        NarrowLayer::pack(shape, storage, params, range, &mut words).map(|_| ())
    };
    let range = QuantizeError::Argument(ArgumentError::NotPositive { what: "range" });
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(pack(&params, Storage::Int8, bad), Err(range));
    }
    params[3] = 70_000.0;
    assert!(pack(&params, Storage::Int8, 1.0).is_ok());
    let error = pack(&params, Storage::F16, 1.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "params: expected magnitudes up to 65504, got 70000 at 3"
    );
    params[3] = 1e30;
    assert!(pack(&params, Storage::Int8, 1.0).is_err());
    params[3] = f32::NAN;
    let nan = QuantizeError::Argument(ArgumentError::NotFinite { what: "params" });
    assert_eq!(pack(&params, Storage::Int8, 1.0), Err(nan));
    assert!(NarrowLayer::new(shape, Storage::Int8, &[0; 3]).is_err());
    assert!(NarrowLayer::new(LayerShape::new(1, 0), Storage::Int8, &[0; 3]).is_err());
}

#[test]
fn nan_and_infinity_are_clipped() {
    let shape = LayerShape::new(1, 1);
    let params = [0.5; 12];
    let mut words = vec![0; Storage::Int8.words_len(shape)];
    let layer = NarrowLayer::pack(shape, Storage::Int8, &params, 1.0, &mut words).unwrap();
    let extent = Extent { steps: 1, batch: 1 };
    let largest = run(layer, extent, &[1.0], &[0.0; 2]);
    assert_eq!(run(layer, extent, &[f32::INFINITY], &[0.0; 2]), largest);
    assert_eq!(run(layer, extent, &[f32::NAN], &[0.0; 2]), largest);
    assert_eq!(run(layer, extent, &[1e30], &[0.0; 2]), largest);
}

/// Words that nothing packed are refused by a check, and do no harm without.
#[test]
fn words_of_others_are_checked() {
    let shape = LayerShape::new(5, 21);
    let params = Random(8).vec(shape.params_len(), 0.4);
    for storage in [Storage::F32, Storage::F16, Storage::Int8] {
        let mut words = vec![0; storage.words_len(shape)];
        let layer = NarrowLayer::pack(shape, storage, &params, 1.0, &mut words).unwrap();
        assert_eq!(layer.check(), Ok(()));
        let end = words.len();
        let some = [
            0,
            4 * 8,
            4 * 8 + 7,
            end - 40,
            end - 4,
            end - 3,
            end - 2,
            end - 1,
        ];
        let mut refused = 0;
        for at in some {
            let mut bad = words.clone();
            bad[at] = u32::MAX;
            let layer = NarrowLayer::new(shape, storage, &bad).unwrap();
            refused += usize::from(layer.check().is_err());
            run(layer, Extent { steps: 2, batch: 1 }, &[0.5; 10], &[0.5; 42]);
        }
        // Weights may be any integers.
        let expected = if storage == Storage::Int8 {
            6
        } else {
            some.len()
        };
        assert_eq!(refused, expected, "{storage:?}");
    }
}

#[test]
fn lengths_saturate_and_nothing_takes_no_time() {
    let huge = LayerShape::new(usize::MAX, usize::MAX);
    assert_eq!(Storage::Int8.words_len(huge), usize::MAX);
    assert_eq!(NarrowLayer::scratch_for(huge), usize::MAX);
    let shape = LayerShape::new(1, 2);
    let mut words = vec![0; Storage::Int8.words_len(shape)];
    let params = vec![0.5; shape.params_len()];
    let layer = NarrowLayer::pack(shape, Storage::Int8, &params, 1.0, &mut words).unwrap();
    let nothing = Extent {
        steps: usize::MAX,
        batch: 0,
    };
    let mut scratch = vec![0.0; NarrowLayer::scratch_for(shape)];
    assert_eq!(
        layer.run(nothing, &[], &mut [], &mut [], &mut scratch),
        Ok(())
    );
}
