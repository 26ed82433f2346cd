//! The promises about bits: any batch, any place in it, any cut of the sequence
//! into calls, either API, and every level of a kind give the same ones.

use fused_lstm::optimizer::{
    Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd, clip_by_global_norm,
};
use fused_lstm::{
    Backward, Buffers, Classifier, Extent, Flat, LayerShape, LayerUnits, Level, LossGradient, Lstm,
    LstmState, Model, Network, NetworkShape, Packed, PackedModel, Stack, Stream, Zigzag,
    activation, init, loss,
};
use fused_lstm_tests::levels::{bits, each_level, same_bits_at_each_level};
use fused_lstm_tests::random::Random;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    inputs: usize,
    hidden: Vec<usize>,
    extent: Extent,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    // Now and then beyond what fits the tiles, the panels and the blocks of products.
    let units = prop_oneof![8 => 1usize..=40, 1 => 63usize..=65, 1 => 129usize..=131];
    (
        prop_oneof![8 => 1usize..=18, 1 => 257usize..=259],
        prop::collection::vec(units, 1..=3),
        1usize..=10,
        prop_oneof![8 => 1usize..=14, 1 => 97usize..=99],
        any::<u64>(),
    )
        .prop_map(|(inputs, hidden, steps, batch, seed)| Case {
            inputs,
            hidden,
            extent: Extent { steps, batch },
            seed,
        })
}

/// Everything that a network computes from random numbers.
struct Setup<'a> {
    shape: NetworkShape<'a>,
    params: Vec<f32>,
    x: Vec<f32>,
    state: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn setup(&self) -> Setup<'_> {
        let shape = NetworkShape::new(self.inputs, &self.hidden);
        let mut random = Random(self.seed);
        Setup {
            shape,
            params: random.vec(shape.params_len(), 0.5),
            x: random.vec(self.extent.rows() * self.inputs, 1.0),
            state: random.vec(shape.state_len(self.extent.batch), 1.0),
            dy: random.vec(self.extent.rows() * shape.outputs(), 1.0),
        }
    }
}

impl Setup<'_> {
    fn infer(&self, extent: Extent, x: &[f32], state: &mut [f32]) -> Vec<f32> {
        let mut y = vec![0.0; extent.rows() * self.shape.outputs()];
        let mut scratch = vec![0.0; self.shape.scratch_len(extent)];
        let model = Model::new(self.shape, &self.params).unwrap();
        model.infer(extent, x, state, &mut y, &mut scratch).unwrap();
        y
    }

    /// Forward and backward; gives dx and the initial state's gradient, and adds
    /// to `gradients`.
    fn train(
        &self,
        extent: Extent,
        x: &[f32],
        dy: &[f32],
        state: &mut [f32],
        dstate: &mut [f32],
        gradients: &mut [f32],
    ) -> Vec<f32> {
        let model = Model::new(self.shape, &self.params).unwrap();
        let mut cache = vec![0.0; self.shape.cache_len(extent)];
        model.forward(extent, x, state, &mut cache).unwrap();
        let mut dx = vec![0.0; x.len()];
        let mut work = vec![0.0; self.shape.workspace_len(extent)];
        model
            .backward(
                extent,
                Backward {
                    x,
                    dy,
                    dstate,
                    cache: &mut cache,
                    gradients,
                    dx: Some(&mut dx),
                    workspace: &mut work,
                },
            )
            .unwrap();
        dx
    }

    /// Row `row` of a time-major buffer `[T, B, width]`.
    fn row(values: &[f32], extent: Extent, row: usize) -> Vec<f32> {
        let width = values.len() / extent.rows();
        values
            .chunks(width)
            .skip(row)
            .step_by(extent.batch)
            .flatten()
            .copied()
            .collect()
    }

    /// Row `row` of the states of all layers.
    fn state_row(&self, state: &[f32], batch: usize, row: usize) -> Vec<f32> {
        let mut rest = state;
        let mut own = Vec::new();
        for LayerShape { hidden, .. } in self.shape.layers() {
            for _ in 0..2 {
                let (half, after) = rest.split_at(batch * hidden);
                own.extend(&half[row * hidden..][..hidden]);
                rest = after;
            }
        }
        own
    }
}

fn check_rows(case: &Case) {
    let (setup, extent) = (case.setup(), case.extent);
    let alone = Extent { batch: 1, ..extent };
    each_level(|_| {
        let mut state = setup.state.clone();
        let y = setup.infer(extent, &setup.x, &mut state);
        let mut dstate = vec![0.25; state.len()];
        let (mut again, mut unused) = (setup.state.clone(), vec![0.0; setup.params.len()]);
        let dx = setup.train(
            extent,
            &setup.x,
            &setup.dy,
            &mut again,
            &mut dstate,
            &mut unused,
        );
        for row in 0..extent.batch {
            let x = Setup::row(&setup.x, extent, row);
            let initial = setup.state_row(&setup.state, extent.batch, row);
            let mut own_state = initial.clone();
            let own_y = setup.infer(alone, &x, &mut own_state);
            assert_eq!(bits(&own_y), bits(&Setup::row(&y, extent, row)));
            let rows_state = setup.state_row(&state, extent.batch, row);
            assert_eq!(bits(&own_state), bits(&rows_state));

            let mut own_dstate = vec![0.25; initial.len()];
            let dy = Setup::row(&setup.dy, extent, row);
            let (mut s, mut g) = (initial, vec![0.0; setup.params.len()]);
            let own_dx = setup.train(alone, &x, &dy, &mut s, &mut own_dstate, &mut g);
            assert_eq!(bits(&own_dx), bits(&Setup::row(&dx, extent, row)));
            let rows_dstate = setup.state_row(&dstate, extent.batch, row);
            assert_eq!(bits(&own_dstate), bits(&rows_dstate));
        }
    });
}

fn check_cut(case: &Case, cut: usize) {
    let (setup, extent) = (case.setup(), case.extent);
    let cut = cut.min(extent.steps);
    let (first, second) = (
        Extent {
            steps: cut,
            ..extent
        },
        Extent {
            steps: extent.steps - cut,
            ..extent
        },
    );
    let (x1, x2) = setup.x.split_at(first.rows() * case.inputs);
    let (dy1, dy2) = setup.dy.split_at(first.rows() * setup.shape.outputs());
    each_level(|_| {
        let mut state = setup.state.clone();
        let y = setup.infer(extent, &setup.x, &mut state);
        let mut cut_state = setup.state.clone();
        let mut cut_y = setup.infer(first, x1, &mut cut_state);
        let middle = cut_state.clone();
        cut_y.extend(setup.infer(second, x2, &mut cut_state));
        assert_eq!(bits(&cut_y), bits(&y));
        assert_eq!(bits(&cut_state), bits(&state));

        // Backward: the last call first, handing on the gradient of the state.
        let (mut dstate, mut gradients) = (vec![0.25; state.len()], vec![0.0; setup.params.len()]);
        let (mut cut_dstate, mut cut_gradients) = (dstate.clone(), gradients.clone());
        let mut s = setup.state.clone();
        let dx = setup.train(
            extent,
            &setup.x,
            &setup.dy,
            &mut s,
            &mut dstate,
            &mut gradients,
        );
        let mut s = middle;
        let dx2 = setup.train(second, x2, dy2, &mut s, &mut cut_dstate, &mut cut_gradients);
        let mut s = setup.state.clone();
        let mut cut_dx = setup.train(first, x1, dy1, &mut s, &mut cut_dstate, &mut cut_gradients);
        cut_dx.extend(dx2);
        assert_eq!(bits(&cut_dx), bits(&dx));
        assert_eq!(bits(&cut_dstate), bits(&dstate));
        assert_eq!(bits(&cut_gradients), bits(&gradients));
    });
}

fn check_levels(case: &Case) {
    let (setup, extent) = (case.setup(), case.extent);
    same_bits_at_each_level(|| {
        let mut state = setup.state.clone();
        let mut out = setup.infer(extent, &setup.x, &mut state);
        out.extend(&state);
        let (mut s, mut dstate) = (setup.state.clone(), vec![0.25; state.len()]);
        let mut gradients = vec![0.0; setup.params.len()];
        out.extend(setup.train(
            extent,
            &setup.x,
            &setup.dy,
            &mut s,
            &mut dstate,
            &mut gradients,
        ));
        out.extend(dstate);
        out.push(clip_by_global_norm(&mut gradients, 0.5).unwrap());
        out.extend(gradients);
        out
    });
}

#[test]
fn kernels_packed_for_many_rows_keep_the_bits() {
    // More than 256 rows of wide layers over 8 steps or more, which random cases seldom are.
    let case = Case {
        inputs: 33,
        hidden: vec![50, 130],
        extent: Extent {
            steps: 9,
            batch: 33,
        },
        seed: 1,
    };
    check_rows(&case);
    check_cut(&case, 4);
    check_levels(&case);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(64)))]

    #[test]
    fn a_row_does_not_see_its_batch(case in cases()) {
        check_rows(&case);
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere(case in cases(), cut in 0usize..=10) {
        check_cut(&case, cut);
    }

    #[test]
    fn levels_of_a_kind_agree(case in cases()) {
        check_levels(&case);
    }

    #[test]
    fn levels_of_a_kind_agree_elementwise(n in 1usize..=70, seed in any::<u64>()) {
        let mut random = Random(seed);
        let (w, g) = (random.vec(n, 2.0), random.vec(n, 2.0));
        let slots: Vec<f32> = random.vec(2 * n, 1.0).iter().map(|v| v.abs()).collect();
        let wide = random.vec(n, 95.0);
        let optimizers = [
            Optimizer::Sgd(Sgd::new(0.1)),
            Optimizer::Momentum(Momentum::new(0.1, 0.9).nesterov()),
            Optimizer::Adagrad(Adagrad::tensorflow(0.3)),
            Optimizer::Adam(Adam::tensorflow(0.3)),
            Optimizer::Adam(Adam::pytorch_adamw(0.3)),
            Optimizer::RmsProp(RmsProp::tensorflow(0.3)),
            Optimizer::RmsProp(RmsProp::pytorch(0.3)),
        ];
        same_bits_at_each_level(|| {
            let mut out = Vec::new();
            for optimizer in optimizers {
                let (mut w, mut slots) = (w.clone(), slots.clone());
                slots.truncate(optimizer.slots_len(n));
                optimizer.update(3, &mut w, &g, &mut slots).unwrap();
                out.extend(w);
                out.extend(slots);
            }
            for function in
                [activation::exp_in_place, activation::sigmoid_in_place, activation::tanh_in_place]
            {
                let mut values = wide.clone();
                function(&mut values);
                out.extend(values);
            }
            let (mut logits, mut dlogits) = (wide.clone(), vec![0.0; n]);
            out.push(loss::softmax_cross_entropy(n, &mut logits, &[0], &mut dlogits).unwrap());
            out.extend(logits);
            out.extend(dlogits);
            let mut dy = vec![0.0; n];
            out.push(loss::mean_squared_error(&w, &g, &mut dy).unwrap());
            out
        });
    }
}

type Layers = Stack<Stack<Lstm<3, 4>, Lstm<4, 9>>, Lstm<9, 17>>;
type Net = Classifier<Layers, 17, 5>;
const HIDDEN: [usize; 3] = [4, 9, 17];

#[test]
fn both_apis_give_the_same_bits() {
    const T: usize = 6;
    const B: usize = 7;
    let shape = NetworkShape::new(3, &HIDDEN).with_head(5);
    let extent = Extent { steps: T, batch: B };
    let mut random = Random(11);
    let mut net = Net::ZERO;
    assert_eq!(shape.params_len(), net.as_flat().len());
    net.as_flat_mut()
        .copy_from_slice(&random.vec(shape.params_len(), 0.5));
    let mut x = <Layers as Buffers>::Input::<T, B>::ZERO;
    x.as_flat_mut().copy_from_slice(&random.vec(T * B * 3, 1.0));
    let labels: [[u32; B]; T] =
        std::array::from_fn(|t| std::array::from_fn(|b| ((t + b) % 5) as u32));
    let mut initial = <Layers as Buffers>::State::<B>::ZERO;
    initial
        .as_flat_mut()
        .copy_from_slice(&random.vec(shape.state_len(B), 1.0));

    each_level(|_| {
        let model = Model::new(shape, net.as_flat()).unwrap();

        let (mut state, mut y) = (initial, [[[0.0; 17]; B]; T]);
        net.lstm.infer(&x, &mut state, &mut y, &mut Flat::zero());
        let mut model_state = initial.as_flat().to_vec();
        let mut model_y = vec![0.0; T * B * 17];
        let mut scratch = vec![0.0; shape.scratch_len(extent)];
        model
            .infer(
                extent,
                x.as_flat(),
                &mut model_state,
                &mut model_y,
                &mut scratch,
            )
            .unwrap();
        assert_eq!(bits(y.as_flat()), bits(&model_y));
        assert_eq!(bits(state.as_flat()), bits(&model_state));

        // Step by step is the sequence.
        let mut step_state = initial;
        for (x, y) in x.iter().zip(&y) {
            let mut step_y = [[[0.0; 17]; B]];
            net.lstm.step(&[*x], &mut step_state, &mut step_y);
            assert_eq!(bits(step_y.as_flat()), bits(y.as_flat()));
        }

        let mut state = initial;
        let mut gradients = Net::ZERO;
        let mut p = [[[0.0; 5]; B]; T];
        let (mut cache, mut workspace) = (Flat::zero(), Flat::zero());
        let loss = net
            .loss_gradient(
                &x,
                &labels,
                &mut state,
                &mut gradients,
                &mut p,
                &mut cache,
                &mut workspace,
            )
            .unwrap();
        let mut model_state = initial.as_flat().to_vec();
        let mut model_gradients = vec![0.0; shape.params_len()];
        let mut model_p = vec![0.0; shape.logits_len(extent)];
        let mut model_cache = vec![0.0; shape.cache_len(extent)];
        let model_loss = model
            .loss_gradient(
                extent,
                labels.as_flattened(),
                LossGradient {
                    x: x.as_flat(),
                    state: &mut model_state,
                    gradients: &mut model_gradients,
                    outputs: &mut model_p,
                    cache: &mut model_cache,
                    workspace: &mut vec![0.0; shape.workspace_len(extent)],
                },
            )
            .unwrap();
        assert_eq!(loss.to_bits(), model_loss.to_bits());
        assert_eq!(bits(p.as_flat()), bits(&model_p));
        assert_eq!(bits(state.as_flat()), bits(&model_state));
        assert_eq!(bits(gradients.as_flat()), bits(&model_gradients));
        assert_eq!(bits(cache.as_flat()), bits(&model_cache));
    });
}

/// A step of a wide layer with sizes as types has room for the sums of some of its
/// units only.
#[test]
fn wide_layers_give_the_same_bits_through_both_apis() {
    fn check<const I: usize, const H: usize, const B: usize>() {
        let shape = NetworkShape::new(I, &[H]);
        let extent = Extent { steps: 3, batch: B };
        let mut random = Random(12);
        let params = random.vec(shape.params_len(), 0.2);
        let inputs = random.vec(3 * B * I, 1.0);
        let initial = random.vec(shape.state_len(B), 1.0);
        let mut net: Box<Lstm<I, H>> = bytemuck::zeroed_box();
        net.as_flat_mut().copy_from_slice(&params);
        let mut x: Box<[[[f32; I]; B]; 3]> = bytemuck::zeroed_box();
        x.as_flat_mut().copy_from_slice(&inputs);
        each_level(|_| {
            let mut state = LstmState::<B, H>::ZERO;
            state.as_flat_mut().copy_from_slice(&initial);
            let mut y: Box<[[[f32; H]; B]; 3]> = bytemuck::zeroed_box();
            net.infer(&x, &mut state, &mut y, &mut Flat::zero());
            let model = Model::new(shape, &params).unwrap();
            let (mut model_state, mut model_y) = (initial.clone(), vec![0.0; 3 * B * H]);
            let mut scratch = vec![0.0; shape.scratch_len(extent)];
            model
                .infer(
                    extent,
                    &inputs,
                    &mut model_state,
                    &mut model_y,
                    &mut scratch,
                )
                .unwrap();
            assert_eq!(bits(y.as_flat()), bits(&model_y));
            assert_eq!(bits(state.as_flat()), bits(&model_state));
        });
    }
    check::<3, 64, 1>();
    check::<3, 64, 70>();
    check::<260, 70, 63>();
}

#[test]
fn packed_weights_give_the_same_bits() {
    fn check<N: Network, const B: usize>() {
        let mut random = Random(13);
        let mut net = N::glorot_uniform(|| random.unit());
        for w in net.as_flat_mut() {
            *w += 0.25 * (random.unit() - 0.5);
        }
        let packed = Packed::new(&net);
        each_level(|_| {
            let (mut state, mut stream) = (N::State::<B>::ZERO, Stream::ZERO);
            let (mut y, mut packed_y) = (N::Output::<1, B>::ZERO, N::Output::<1, B>::ZERO);
            for _ in 0..3 {
                let mut x = N::Input::<1, B>::ZERO;
                x.as_flat_mut().fill_with(|| random.unit() - 0.5);
                net.step(&x, &mut state, &mut y);
                packed.step(&x, &mut stream, &mut packed_y);
                assert_eq!(bits(packed_y.as_flat()), bits(y.as_flat()));
                assert_eq!(bits(stream.state.as_flat()), bits(state.as_flat()));
            }
        });
    }
    check::<Lstm<1, 4>, 1>();
    check::<Lstm<3, 8>, 5>();
    check::<Lstm<1, 16>, 1>();
    check::<Lstm<2, 20>, 2>();
    check::<Lstm<1, 28>, 1>();
    check::<Lstm<1, 32>, 1>();
    check::<Stack<Lstm<3, 8>, Lstm<8, 32>>, 1>();
    check::<Lstm<1, 45>, 1>();
    check::<Lstm<5, 64>, 4>();
    check::<Stack<Lstm<1, 33>, Lstm<33, 50>>, 1>();
}

/// Kernels packed once against kernels that are packed in the call or read as rows, on
/// both sides of what is a few rows, a shallow product and a tile.
#[test]
fn packed_models_give_the_same_bits() {
    let cases: [(usize, &[usize], Extent); 5] = [
        (1, &[48], Extent { steps: 9, batch: 1 }),
        (20, &[50, 12, 70], Extent { steps: 3, batch: 3 }),
        (3, &[70, 46], Extent { steps: 9, batch: 4 }),
        (
            300,
            &[64],
            Extent {
                steps: 2,
                batch: 14,
            },
        ),
        (
            7,
            &[258],
            Extent {
                steps: 8,
                batch: 17,
            },
        ),
    ];
    for (inputs, hidden, extent) in cases {
        let case = Case {
            inputs,
            hidden: hidden.to_vec(),
            extent,
            seed: 5,
        };
        let setup = case.setup();
        same_bits_at_each_level(|| {
            let mut state = setup.state.clone();
            let y = setup.infer(extent, &setup.x, &mut state);

            let model = Model::new(setup.shape, &setup.params).unwrap();
            let mut panels = vec![0.0; setup.shape.packed_len()];
            let packed = PackedModel::new(model, extent.batch, &mut panels).unwrap();
            let mut same = vec![0.0; y.len()];
            let mut scratch = vec![0.0; setup.shape.packed_scratch_len(extent)];
            let level = Level::current();
            for now in Level::available() {
                // Packed at one level, used at another.
                assert!(now.force());
                let mut same_state = setup.state.clone();
                let (x, scratch) = (&setup.x, &mut scratch);
                let done = packed.infer(extent, x, &mut same_state, &mut same, scratch);
                done.unwrap();
                if now.is_fused() == level.is_fused() {
                    assert_eq!(bits(&same), bits(&y), "{case:?} {level} {now}");
                    assert_eq!(bits(&same_state), bits(&state), "{case:?} {level} {now}");
                }
            }
            assert!(level.force());
            [y, state].concat()
        });
    }
}

/// Packed units say themselves where they begin, so that a copy is right wherever it lies.
#[test]
fn copies_of_packed_units_are_right_at_any_place() {
    let layer = LayerShape::new(3, 20);
    let mut random = Random(14);
    let params = random.vec(layer.params_len(), 0.5);
    let (x, h) = (random.vec(3, 1.0), random.vec(20, 1.0));
    let len = LayerUnits::packed_len(layer, 7);
    let step = |packed: &[f32]| {
        let part = LayerUnits::new(layer, 7, packed).unwrap();
        let (mut sums, mut c, mut own) = ([0.0; 28], [0.5; 7], [0.0; 7]);
        part.input_preact(1, &x, &mut sums).unwrap();
        let zigzag = &mut Zigzag::default();
        part.step(1, &h, &mut sums, &mut c, &mut own, zigzag)
            .unwrap();
        bits(&[&sums[..], &c, &own].concat())
    };
    each_level(|_| {
        // Whatever the alignment at which it is packed, and that of the copy.
        let mut room = vec![0.0; len + 16];
        let mut results = Vec::new();
        for at in 0..16 {
            LayerUnits::pack(layer, 9..16, &params, &mut room[at..at + len]).unwrap();
            results.push(step(&room[at..at + len]));
            let packed = room[at..at + len].to_vec();
            for to in 0..16 {
                let mut copy = vec![f32::NAN; len + 16];
                copy[to..to + len].copy_from_slice(&packed);
                results.push(step(&copy[to..to + len]));
            }
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        // Numbers that nobody packed do no harm.
        for bad in [f32::NAN, f32::INFINITY, -1.0, 1e9] {
            room[..len].fill(bad);
            assert!(LayerUnits::new(layer, 7, &room[..len]).is_ok());
        }
    });
}

#[test]
fn both_apis_start_from_the_same_weights() {
    let shape = NetworkShape::new(3, &HIDDEN).with_head(5);
    let (mut one, mut other) = (Random(4), Random(4));
    let net = Net::glorot_uniform(|| one.unit());
    let mut params = vec![0.0; shape.params_len()];
    init::glorot_uniform(shape, &mut params, || other.unit()).unwrap();
    assert_eq!(bits(net.as_flat()), bits(&params));
    // As TensorFlow's: within ±√(6 / (I + H + 4H)), and the forget gates open.
    let limit = (6.0f32 / (9 + 17 + 4 * 17) as f32).sqrt();
    let top = net.lstm.above;
    let kernel = [top.input_kernel.as_flat(), top.recurrent_kernel.as_flat()].concat();
    let largest = kernel
        .iter()
        .fold(0.0f32, |largest, w| largest.max(w.abs()));
    assert!(
        largest <= limit && largest > 0.95 * limit,
        "{largest}, limit {limit}"
    );
    assert_eq!(top.bias, [[0.0; 17], [0.0; 17], [1.0; 17], [0.0; 17]]);
    assert_eq!(net.dense.bias, [0.0; 5]);
}

/// NaN anywhere in what a row reads is NaN in what it gives, and nowhere else.
#[test]
fn nan_in_is_nan_out() {
    let hidden = [5, 4];
    let case = Case {
        inputs: 3,
        hidden: hidden.into(),
        extent: Extent { steps: 2, batch: 3 },
        seed: 1,
    };
    let setup = case.setup();
    each_level(|_| {
        let mut x = setup.x.clone();
        x[3 + 1] = f32::NAN; // step 0, row 1
        let y = setup.infer(case.extent, &x, &mut setup.state.clone());
        for row in 0..3 {
            let poisoned = Setup::row(&y, case.extent, row);
            assert!(
                poisoned.iter().all(|v| v.is_nan() == (row == 1)),
                "row {row}: {poisoned:?}"
            );
        }
        // A NaN weight reaches every row.
        let mut broken = Setup {
            params: setup.params.clone(),
            ..case.setup()
        };
        broken.params[0] = f32::NAN;
        let y = broken.infer(case.extent, &setup.x, &mut setup.state.clone());
        assert!(y.iter().all(|v| v.is_nan()));
    });
}
