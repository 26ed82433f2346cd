//! States that decay: zero below the bound, by one rule in every API.

use fused_lstm::{
    Cell, Chain, Extent, Flat, LayerShape, LayerUnits, Lstm, LstmStage, LstmState, Model, Network,
    NetworkShape, Packed, PackedModel, SMALLEST_STATE, Stage, Stream, Zigzag, Zoneout,
};
use fused_lstm_tests::levels::{bits, each_level, same_bits_at_each_level};
use fused_lstm_tests::oracle::{self, wide};
use fused_lstm_tests::random::Random;
use proptest::prelude::*;

/// Parameters without biases of so small weights that the states are around the bound.
fn faint(shape: NetworkShape, random: &mut Random) -> Vec<f32> {
    let mut params = random.vec(shape.params_len(), 1.0);
    let mut at = 0;
    for (index, layer) in shape.layers().enumerate() {
        let inputs = layer.inputs * 4 * layer.hidden;
        for w in &mut params[at..at + inputs] {
            *w *= if index == 0 {
                8.0 * SMALLEST_STATE
            } else {
                4.0
            };
        }
        params[at + layer.kernel_len()..at + layer.params_len()].fill(0.0);
        at += layer.params_len();
    }
    params
}

fn infer(
    shape: NetworkShape,
    extent: Extent,
    params: &[f32],
    x: &[f32],
    state: &mut [f32],
) -> Vec<f32> {
    let mut y = vec![f32::NAN; extent.rows() * shape.outputs()];
    let mut scratch = vec![0.0; shape.scratch_len(extent)];
    let model = Model::new(shape, params).unwrap();
    model.infer(extent, x, state, &mut y, &mut scratch).unwrap();
    y
}

#[track_caller]
fn holds_the_bound(values: &[f32]) {
    for v in values {
        assert!(v.to_bits() == 0 || v.abs() >= SMALLEST_STATE, "{v:e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(48)))]

    #[test]
    fn states_are_zero_or_not_below_the_bound(
        inputs in 1usize..4,
        hidden in prop::collection::vec(
            prop_oneof![6 => 1usize..=40, 2 => 45usize..=66, 1 => 129usize..=131], 1..3),
        steps in 1usize..9,
        batch in prop_oneof![8 => 1usize..=6, 1 => 60usize..=66],
        seed in any::<u64>(),
    ) {
        let shape = NetworkShape::new(inputs, &hidden);
        let extent = Extent { steps, batch };
        let mut random = Random(seed);
        let params = faint(shape, &mut random);
        let x = random.vec(extent.rows() * inputs, 1.0);
        let start: Vec<f32> =
            random.vec(shape.state_len(batch), 1.0).iter().map(|s| 8.0 * SMALLEST_STATE * s).collect();
        let model = Model::new(shape, &params).unwrap();

        // One step, against the oracle, which has no bound.
        let once = Extent { steps: 1, batch };
        let layer = LayerShape::new(inputs, hidden[0]);
        let first = NetworkShape::new(inputs, &hidden[..1]);
        let (own, own_start) =
            (&params[..layer.params_len()], &start[..first.state_len(batch)]);
        let x_once = &x[..batch * inputs];
        let want = oracle::forward(first, &wide(own), once, &wide(x_once), &wide(own_start));

        same_bits_at_each_level(|| {
            let mut state = own_start.to_vec();
            infer(first, once, own, x_once, &mut state);
            let bound = f64::from(SMALLEST_STATE);
            for (&got, &want) in state.iter().zip(&want.state) {
                let want: f64 = want;
                if want.abs() < 0.999 * bound {
                    assert_eq!(got.to_bits(), 0, "{want:e}");
                } else if want.abs() > 1.001 * bound {
                    assert!((f64::from(got) / want - 1.0).abs() < 1e-4, "{got:e}, not {want:e}");
                }
            }

            // A sequence, through every API.
            let mut state = start.clone();
            let y = infer(shape, extent, &params, &x, &mut state);
            holds_the_bound(&y);
            holds_the_bound(&state);
            let mut trained = start.clone();
            let mut cache = vec![0.0; shape.cache_len(extent)];
            model.forward(extent, &x, &mut trained, &mut cache).unwrap();
            assert_eq!(bits(&trained), bits(&state));
            assert_eq!(bits(model.output(extent, &cache).unwrap()), bits(&y));
            let mut panels = vec![0.0; shape.packed_len()];
            let packed = PackedModel::new(model, batch, &mut panels).unwrap();
            let (mut own, mut same) = (start.clone(), vec![0.0; y.len()]);
            let mut scratch = vec![0.0; shape.packed_scratch_len(extent)];
            packed.infer(extent, &x, &mut own, &mut same, &mut scratch).unwrap();
            assert_eq!((bits(&own), bits(&same)), (bits(&state), bits(&y)));
            let (mut own, mut same) = (start.clone(), Vec::new());
            for x in x.chunks(batch * inputs) {
                same.extend(infer(shape, once, &params, x, &mut own));
            }
            assert_eq!((bits(&own), bits(&same)), (bits(&state), bits(&y)));
            [y, state].concat()
        });
    }
}

#[test]
fn fixed_layers_and_units_hold_the_bound() {
    fn check<const H: usize>() {
        let layer = LayerShape::new(2, H);
        let shape = NetworkShape::new(2, &[H]);
        let mut random = Random(H as u64);
        let params = faint(shape, &mut random);
        let mut net: Box<Lstm<2, H>> = bytemuck::zeroed_box();
        net.as_flat_mut().copy_from_slice(&params);
        let packed = Packed::new(&*net);
        let x = [0.7, -0.9];
        each_level(|_| {
            let (mut fixed, mut stream) = (LstmState::<1, H>::ZERO, Stream::ZERO);
            let (mut in_units, mut zigzag) = (LstmState::<1, H>::ZERO, Zigzag::default());
            let mut zeros = 0;
            for _ in 0..4 {
                let h_before = in_units.h;
                net.step(&[[x]], &mut fixed, &mut Flat::zero());
                packed.step(&[[x]], &mut stream, &mut Flat::zero());
                for units in [0..H / 2, H / 2..H] {
                    let mut buffer = vec![0.0; LayerUnits::packed_len(layer, units.len())];
                    LayerUnits::pack(layer, units.clone(), &params, &mut buffer).unwrap();
                    let part = LayerUnits::new(layer, units.len(), &buffer).unwrap();
                    let mut sums = vec![0.0; 4 * units.len()];
                    part.input_preact(1, &x, &mut sums).unwrap();
                    let (c, h) = (&mut in_units.c[0], &mut in_units.h[0]);
                    let (c, h) = (&mut c[units.clone()], &mut h[units]);
                    part.step(1, &h_before[0], &mut sums, c, h, &mut zigzag)
                        .unwrap();
                }
                assert_eq!(bits(stream.state.as_flat()), bits(fixed.as_flat()));
                assert_eq!(bits(in_units.as_flat()), bits(fixed.as_flat()));
                holds_the_bound(fixed.as_flat());
                zeros += fixed.as_flat().iter().filter(|&&v| v == 0.0).count();
            }
            assert!(zeros > 0 && zeros < 8 * H, "{zeros} zeros");
        });
    }
    check::<4>();
    check::<8>();
    check::<50>();
}

#[test]
fn a_state_that_decays_ends_at_zero_and_nan_stays() {
    let shape = NetworkShape::new(1, &[20, 50]);
    let extent = Extent {
        steps: 200,
        batch: 1,
    };
    let params = vec![0.0; shape.params_len()];
    each_level(|_| {
        let mut state = vec![-1.0; shape.state_len(1)];
        let y = infer(shape, extent, &params, &[0.0; 200], &mut state);
        holds_the_bound(&y);
        assert!(state.iter().all(|s| s.to_bits() == 0));
        let mut state = vec![0.0; shape.state_len(1)];
        state[3] = f32::NAN;
        infer(shape, extent, &params, &[0.0; 200], &mut state);
        assert!(state[3].is_nan());
    });
}

/// What is mixed of a state and the one before it is one, too.
#[test]
fn states_that_may_stay_hold_the_bound() {
    let zoneout = Zoneout {
        cell: 0.25,
        hidden: 0.5,
    };
    let stages = [Stage::Lstm(LstmStage {
        cell: Cell {
            zoneout,
            ..Cell::PLAIN
        },
        ..LstmStage::new(LayerShape::new(1, 9))
    })];
    let extent = Extent {
        steps: 200,
        batch: 1,
    };
    let lens = Chain::lengths(1, &stages, extent);
    let params = vec![0.0; lens.params];
    let chain = Chain::new(1, &stages, &params).unwrap();
    each_level(|_| {
        for steps in [90, 200] {
            let extent = Extent { steps, ..extent };
            let mut state = vec![1.0; lens.state];
            let mut y = vec![f32::NAN; 9 * steps];
            let scratch = &mut vec![0.0; Chain::lengths(1, &stages, extent).scratch];
            let x = &vec![0.0; steps];
            chain
                .run(extent, None, x, &mut state, &mut y, scratch)
                .unwrap();
            holds_the_bound(&y);
            holds_the_bound(&state);
            assert_eq!(state[0] == 0.0, steps == 200);
        }
    });
}

/// In chains, too, with a projection: what it makes of a state is one.
#[test]
fn projected_states_are_zero_or_not_below_the_bound() {
    let cell = Cell {
        projection: Some(3),
        peepholes: true,
        ..Cell::PLAIN
    };
    let stages = [Stage::Lstm(LstmStage {
        cell,
        ..LstmStage::new(LayerShape::new(2, 9))
    })];
    let extent = Extent {
        steps: 40,
        batch: 2,
    };
    let lens = Chain::lengths(2, &stages, extent);
    let mut params = Random(8).vec(lens.params, 1.0);
    let projection = lens.params - 9 * 3;
    params[projection..].iter_mut().for_each(|w| *w *= 4e-19);
    each_level(|_| {
        let mut state = vec![1.0; lens.state];
        let mut y = vec![f32::NAN; lens.y];
        let x = [vec![1.0; 8], vec![0.0; lens.x - 8]].concat();
        let chain = Chain::new(2, &stages, &params).unwrap();
        let mut scratch = vec![0.0; lens.scratch];
        chain
            .run(extent, None, &x, &mut state, &mut y, &mut scratch)
            .unwrap();
        holds_the_bound(&y);
        holds_the_bound(&state);
        assert!(y.contains(&0.0) && y.iter().any(|&v| v != 0.0));
    });
}
