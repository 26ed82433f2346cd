//! Chains and cells with options: against TensorFlow's, Keras's, PyTorch's and ONNX's own numbers,
//! and against the oracle, at every level.

use fused_lstm::{
    Activation, ArgumentError, Cell, Chain, ChainBackward, ChainForward, DenseShape, Direction,
    Extent, Flat, LayerShape, LstmStage, Model, NetworkShape, Returns, Stage, VariantLstm,
    VariantState, Zoneout,
};
use fused_lstm_tests::chain::{Case, Values};
use fused_lstm_tests::golden::{Golden, assert_close, from_tensorflow, from_torch};
use fused_lstm_tests::levels::{bits, each_level, same_bits_at_each_level};
use fused_lstm_tests::random::{Random, cases};
use proptest::prelude::*;

/// What a run, a forward and a backward pass give.
#[derive(Debug)]
struct Passes {
    run: [Vec<f32>; 2],
    y: Vec<f32>,
    state: Vec<f32>,
    gradients: Vec<f32>,
    dx: Vec<f32>,
    dstate: Vec<f32>,
}

/// Both passes, with every buffer that is overwritten full of NaN; and a run, which must give the
/// bits of the forward pass unless that has masks.
fn passes(
    case: &Case,
    params: &[f32],
    x: &[f32],
    state: &[f32],
    dy: &[f32],
    dfinal: &[f32],
) -> Passes {
    let nan = |len| vec![f32::NAN; len];
    let lens = Chain::lengths(case.inputs, &case.stages, case.extent);
    let chain = Chain::new(case.inputs, &case.stages, params).unwrap();
    let lengths = case.lengths.as_deref();
    let (mut run_y, mut run_state) = (nan(lens.y), state.to_vec());
    let mut scratch = nan(lens.scratch);
    chain
        .run(
            case.extent,
            lengths,
            x,
            &mut run_state,
            &mut run_y,
            &mut scratch,
        )
        .unwrap();

    let (mut y, mut end, mut cache) = (nan(lens.y), state.to_vec(), nan(lens.cache));
    if lens.masks == 0 {
        chain
            .forward(case.extent, lengths, x, &mut end, &mut y, &mut cache)
            .unwrap();
        assert_eq!(bits(&run_y), bits(&y), "run");
        assert_eq!(bits(&run_state), bits(&end), "run's state");
    } else {
        let buffers = ChainForward {
            x,
            state: &mut end,
            y: &mut y,
            cache: &mut cache,
            masks: &f32s(case.masks.as_ref().unwrap()),
        };
        chain.forward_with(case.extent, lengths, buffers).unwrap();
    }
    let (mut dstate, mut dx) = (dfinal.to_vec(), nan(lens.x));
    let mut gradients = vec![0.0; lens.params];
    chain
        .backward(
            case.extent,
            lengths,
            ChainBackward {
                dy,
                dstate: &mut dstate,
                cache: &mut cache,
                gradients: &mut gradients,
                dx: Some(&mut dx),
                workspace: &mut nan(lens.workspace),
            },
        )
        .unwrap();
    Passes {
        run: [run_y, run_state],
        y,
        state: end,
        gradients,
        dx,
        dstate,
    }
}

/// TensorFlow's cells, with both sets of gradients.
#[test]
fn tensorflow_cells() {
    for name in [
        "cell_plain",
        "cell_forget_bias0",
        "cell_peepholes",
        "cell_cell_clip0.3",
        "cell_proj3",
        "cell_proj3_projclip0.2",
        "cell_seqlen_6_2_0",
        "cell_all",
    ] {
        let golden = Golden::open(&format!("{name}_I7H5B3T6"));
        let option = |key: &str| {
            let stands = name == "cell_all" || name.contains(&key.replace('_', ""));
            let stands = stands || (key == "cell_clip" && name.contains(key));
            if stands {
                golden.f32(&format!("opt.{key}"))[0]
            } else {
                f32::INFINITY
            }
        };
        let peepholes = name.contains("peepholes") || name == "cell_all";
        let projects = name.contains("proj") || name == "cell_all";
        let cell = Cell {
            peepholes,
            projection: projects.then_some(3),
            cell_clip: option("cell_clip"),
            projection_clip: option("proj_clip"),
            ..Cell::PLAIN
        };
        let stage = LstmStage {
            cell,
            ..LstmStage::new(LayerShape::new(7, 5))
        };
        let lengths = name.contains("seqlen").then(|| {
            golden
                .i32("sequence_length")
                .iter()
                .map(|&n| n as usize)
                .collect()
        });
        let case = Case {
            inputs: 7,
            stages: vec![Stage::Lstm(stage)],
            extent: Extent { steps: 6, batch: 3 },
            lengths,
            masks: None,
        };
        // Parameters, or their gradients.
        let params = |prefix: &str, forget_bias: f32| {
            let get = |key: &str| golden.f32(&format!("{prefix}{key}"));
            let mut params = from_tensorflow(get("kernel"), get("bias"), forget_bias);
            if peepholes {
                params.extend(
                    ["w_i_diag", "w_f_diag", "w_o_diag"]
                        .iter()
                        .flat_map(|w| get(w)),
                );
            }
            if projects {
                params.extend(get("projection.kernel"));
            }
            params
        };
        let state = |c: &str, h: &str| [golden.f32(c), golden.f32(h)].concat();
        let values = params("", golden.f32("opt.forget_bias")[0]);
        each_level(|level| {
            for which in ["grad", "grad_full"] {
                let dfinal = match which {
                    "grad" => vec![0.0; case_state_len(&case)],
                    _ => state("cotangent_cT", "cotangent_hT"),
                };
                let out = passes(
                    &case,
                    &values,
                    &golden.f32("x"),
                    &state("c0", "h0"),
                    &golden.f32("cotangent"),
                    &dfinal,
                );
                let what = format!("{name} at {level}, {which}");
                assert_close(&what, &out.y, &golden.f32("output"), 1e-6);
                assert_close(&what, &out.state, &state("cT", "hT"), 1e-6);
                let key = |key: &str| format!("{which}.{key}");
                assert_close(&what, &out.gradients, &params(&key(""), 0.0), 4e-6);
                assert_close(&what, &out.dx, &golden.f32(&key("x")), 4e-6);
                assert_close(&what, &out.dstate, &state(&key("c0"), &key("h0")), 4e-6);
            }
        });
    }
}

/// TensorFlow's cells with layer normalisation, with both sets of gradients.
#[test]
fn tensorflow_layer_norm() {
    for name in ["layer_norm_plain", "layer_norm_all"] {
        let golden = Golden::open(name);
        let options = name == "layer_norm_all";
        let clip = |key: &str| {
            if options {
                golden.f32(&format!("opt.{key}"))[0]
            } else {
                f32::INFINITY
            }
        };
        let cell = Cell {
            layer_norm: true,
            peepholes: options,
            projection: options.then_some(3),
            cell_clip: clip("cell_clip"),
            projection_clip: clip("proj_clip"),
            ..Cell::PLAIN
        };
        let case = Case {
            inputs: 7,
            stages: vec![Stage::Lstm(LstmStage {
                cell,
                ..LstmStage::new(LayerShape::new(7, 5))
            })],
            extent: Extent { steps: 6, batch: 3 },
            lengths: None,
            masks: None,
        };
        // Parameters, or their gradients.
        let params = |prefix: &str, forget_bias: f32| {
            let get = |key: &str| golden.f32(&format!("{prefix}{key}"));
            let gates = ["input", "transform", "forget", "output"];
            let of_gates = |what: &str| -> Vec<f32> {
                let each = gates.iter().flat_map(|gate| get(&format!("{gate}.{what}")));
                each.collect()
            };
            let mut params = from_tensorflow(get("kernel"), of_gates("beta"), forget_bias);
            params.extend(of_gates("gamma"));
            params.extend(get("state.gamma"));
            params.extend(get("state.beta"));
            if options {
                let more = ["w_i_diag", "w_f_diag", "w_o_diag", "projection.kernel"];
                params.extend(more.iter().flat_map(|key| get(key)));
            }
            params
        };
        let state = |c: &str, h: &str| [golden.f32(c), golden.f32(h)].concat();
        each_level(|level| {
            for which in ["grad", "grad_full"] {
                let dfinal = match which {
                    "grad" => vec![0.0; case_state_len(&case)],
                    _ => state("cotangent_cT", "cotangent_hT"),
                };
                let out = passes(
                    &case,
                    &params("", 1.0),
                    &golden.f32("x"),
                    &state("c0", "h0"),
                    &golden.f32("cotangent"),
                    &dfinal,
                );
                let what = format!("{name} at {level}, {which}");
                assert_close(&what, &out.y, &golden.f32("output"), 2e-6);
                assert_close(&what, &out.state, &state("cT", "hT"), 2e-6);
                let key = |key: &str| format!("{which}.{key}");
                assert_close(&what, &out.gradients, &params(&key(""), 0.0), 2e-5);
                assert_close(&what, &out.dx, &golden.f32(&key("x")), 2e-5);
                assert_close(&what, &out.dstate, &state(&key("c0"), &key("h0")), 2e-5);
            }
        });
    }
}

fn case_state_len(case: &Case) -> usize {
    Chain::lengths(case.inputs, &case.stages, case.extent).state
}

/// With sizes as types: the bits of a chain of one layer, all options at once and one by one.
#[test]
fn sizes_as_types_give_the_same_bits() {
    fn same<const P: usize, const E: usize, const R: usize>(
        cell: Cell,
        lengths: Option<[usize; 3]>,
    ) {
        let full = Cell {
            peepholes: E == 3,
            projection: (R > 0).then_some(P),
            ..cell
        };
        let case = Case {
            inputs: 7,
            stages: vec![Stage::Lstm(LstmStage {
                cell: full,
                ..LstmStage::new(LayerShape::new(7, 5))
            })],
            extent: Extent { steps: 6, batch: 3 },
            // Plain rows would be a model's.
            lengths: Some(lengths.unwrap_or([6; 3]).to_vec()),
            masks: None,
        };
        let mut random = Random(11);
        let mut layer = VariantLstm::<7, 5, P, E, R>::ZERO;
        let params = random.vec(layer.as_flat().len(), 0.9);
        layer.as_flat_mut().copy_from_slice(&params);
        let mut x = [[[0.0; 7]; 3]; 6];
        let mut dy = [[[0.0; P]; 3]; 6];
        let mut state = VariantState::<3, 5, P>::ZERO;
        let mut dstate = VariantState::<3, 5, P>::ZERO;
        for flat in [
            x.as_flat_mut(),
            dy.as_flat_mut(),
            state.as_flat_mut(),
            dstate.as_flat_mut(),
        ] {
            let len = flat.len();
            flat.copy_from_slice(&random.vec(len, 0.8));
        }
        each_level(|_| {
            let out = passes(
                &case,
                &params,
                x.as_flat(),
                state.as_flat(),
                dy.as_flat(),
                dstate.as_flat(),
            );
            let lengths = lengths.as_ref();
            let (mut end, mut y) = (state, [[[f32::NAN; P]; 3]; 6]);
            layer
                .infer(&cell, lengths, &x, &mut end, &mut y, &mut Flat::zero())
                .unwrap();
            assert_eq!((y.as_flat(), end.as_flat()), (&out.y[..], &out.state[..]));
            let (mut end, mut y, mut cache) = (state, [[[f32::NAN; P]; 3]; 6], Flat::zero());
            layer
                .forward(&cell, lengths, &x, &mut end, &mut y, &mut cache)
                .unwrap();
            assert_eq!((y.as_flat(), end.as_flat()), (&out.y[..], &out.state[..]));
            let (mut before, mut gradients) = (dstate, VariantLstm::ZERO);
            let dx = layer
                .backward(
                    &cell,
                    lengths,
                    &x,
                    &dy,
                    &mut before,
                    &mut cache,
                    &mut gradients,
                    &mut Flat::zero(),
                )
                .unwrap();
            assert_eq!(dx.as_flat(), &out.dx[..]);
            assert_eq!(before.as_flat(), &out.dstate[..]);
            assert_eq!(gradients.as_flat(), &out.gradients[..]);
        });
    }
    let clipped = Cell {
        cell_clip: 0.5,
        projection_clip: 0.1,
        ..Cell::PLAIN
    };
    same::<5, 0, 0>(Cell::PLAIN, None);
    same::<5, 3, 0>(Cell::PLAIN, Some([6, 2, 0]));
    same::<3, 0, 5>(Cell::PLAIN, None);
    same::<3, 3, 5>(clipped, Some([0, 6, 3]));
    let hard = Cell {
        gates: Activation::HardSigmoid { slope: 0.2 },
        coupled: true,
        preact_clip: 0.9,
        ..Cell::PLAIN
    };
    same::<5, 3, 0>(hard, None);
}

/// PyTorch's layers: with a projection, and two in both directions.
#[test]
fn pytorch_projection_and_directions() {
    for (name, layers, directions) in [("torch_lstm_l1_proj3", 1, 1), ("torch_lstm_l2_bidir", 2, 2)]
    {
        let golden = Golden::open(name);
        let projects = directions == 1;
        let suffixes: Vec<String> = (0..layers)
            .flat_map(|layer| {
                ["", "_reverse"][..directions]
                    .iter()
                    .map(move |d| format!("l{layer}{d}"))
            })
            .collect();
        let width = if projects { 3 } else { 5 };
        let stage = |inputs| {
            Stage::Lstm(LstmStage {
                cell: Cell {
                    projection: projects.then_some(3),
                    ..Cell::PLAIN
                },
                direction: if projects {
                    Direction::Forward
                } else {
                    Direction::Both
                },
                ..LstmStage::new(LayerShape::new(inputs, 5))
            })
        };
        let case = Case {
            inputs: 7,
            stages: (0..layers)
                .map(|layer| stage(if layer == 0 { 7 } else { 10 }))
                .collect(),
            extent: Extent { steps: 6, batch: 3 },
            lengths: None,
            masks: None,
        };
        // Each bias has the gradient of their sum.
        let params = |prefix: &str, gradient: bool| -> Vec<f32> {
            let each = suffixes.iter().flat_map(|suffix| {
                let get = |what: &str| golden.f32(&format!("{prefix}.{what}_{suffix}"));
                let mut second = get("bias_hh");
                if gradient {
                    second.fill(0.0);
                }
                let mut params = from_torch(
                    &get("weight_ih"),
                    &get("weight_hh"),
                    &get("bias_ih"),
                    &second,
                );
                if projects {
                    // [P, H] as [H, P].
                    let weights = get("weight_hr");
                    params.extend((0..5 * 3).map(|k| weights[k % 3 * 5 + k / 3]));
                }
                params
            });
            each.collect()
        };
        // [L·D, B, H] and [L·D, B, P] as c and h of each.
        let state = |c: &str, h: &str| -> Vec<f32> {
            let (c, h) = (golden.f32(c), golden.f32(h));
            let each = c.chunks(15).zip(h.chunks(3 * width));
            each.flat_map(|(c, h)| [c, h].concat()).collect()
        };
        each_level(|level| {
            for which in ["grad", "grad_full"] {
                let dfinal = match which {
                    "grad" => vec![0.0; case_state_len(&case)],
                    _ => state("cotangent_cT", "cotangent_hT"),
                };
                let out = passes(
                    &case,
                    &params("param", false),
                    &golden.f32("x"),
                    &state("c0", "h0"),
                    &golden.f32("cotangent"),
                    &dfinal,
                );
                let what = format!("{name} at {level}, {which}");
                assert_close(&what, &out.y, &golden.f32("output"), 1e-6);
                assert_close(&what, &out.state, &state("cT", "hT"), 1e-6);
                let key = |key: &str| format!("{which}.{key}");
                assert_close(&what, &out.gradients, &params(which, true), 4e-6);
                assert_close(&what, &out.dx, &golden.f32(&key("x")), 4e-6);
                assert_close(&what, &out.dstate, &state(&key("c0"), &key("h0")), 4e-6);
            }
        });
    }
}

/// ONNX's peepholes, of the standard's own test.
#[test]
fn onnx_peepholes() {
    let golden = Golden::open("onnx_test_lstm_with_peepholes");
    // Rows of i, o, f, c as columns of i, j, f, o.
    let columns = |values: &[f32], rows: usize| -> Vec<f32> {
        let each = (0..rows).flat_map(|row| [0, 3, 2, 1].map(|gate| (row, gate)));
        each.flat_map(|(row, gate)| (0..3).map(move |unit| (gate * 3 + unit) * rows + row))
            .map(|k| values[k])
            .collect()
    };
    let bias: Vec<f32> = {
        let both = golden.f32("input.B");
        both[..12]
            .iter()
            .zip(&both[12..])
            .map(|(a, b)| a + b)
            .collect()
    };
    let peepholes = golden.f32("input.P");
    let (i, rest) = peepholes.split_at(3);
    let (o, f) = rest.split_at(3);
    let params = [
        columns(&golden.f32("input.W"), 4),
        columns(&golden.f32("input.R"), 3),
        columns(&bias, 1),
        [i, f, o].concat(),
    ]
    .concat();
    let stages = [Stage::Lstm(LstmStage {
        cell: Cell {
            peepholes: true,
            ..Cell::PLAIN
        },
        returns: Returns::Last,
        ..LstmStage::new(LayerShape::new(4, 3))
    })];
    let extent = Extent { steps: 1, batch: 2 };
    each_level(|_| {
        let lens = Chain::lengths(4, &stages, extent);
        let chain = Chain::new(4, &stages, &params).unwrap();
        let (mut y, mut scratch) = (vec![0.0; lens.y], vec![0.0; lens.scratch]);
        let mut state = [golden.f32("input.initial_c"), golden.f32("input.initial_h")].concat();
        let x = golden.f32("input.X");
        chain
            .run(extent, None, &x, &mut state, &mut y, &mut scratch)
            .unwrap();
        assert_close("Y_h", &y, &golden.f32("output.Y_h"), 1e-6);
    });
}

/// A function of one number, any of them.
fn function(which: u32) -> Activation {
    match which % 5 {
        0 => Activation::Linear,
        1 => Activation::Tanh,
        2 => Activation::Sigmoid,
        3 => Activation::Relu,
        _ => Activation::HardSigmoid { slope: 0.2 },
    }
}

fn cell(which: u32) -> Cell {
    let bit = |k: u32| which >> k & 1 == 1;
    let gates = match which >> 3 & 3 {
        0 => Activation::HardSigmoid { slope: 0.2 },
        1 => Activation::Tanh,
        _ => Activation::Sigmoid,
    };
    Cell {
        projection: bit(0).then_some(2 + (which >> 20) as usize % 9),
        peepholes: bit(1),
        coupled: bit(2),
        gates,
        candidate: if bit(5) {
            function(which >> 10)
        } else {
            Activation::Tanh
        },
        output: if bit(6) {
            function(which >> 14)
        } else {
            Activation::Tanh
        },
        preact_clip: if bit(7) { 0.9 } else { f32::INFINITY },
        cell_clip: if bit(8) { 0.4 } else { f32::INFINITY },
        projection_clip: if bit(9) { 0.3 } else { f32::INFINITY },
        ..Cell::PLAIN
    }
}

prop_compose! {
    fn any_lstm()(
        which in prop_oneof![Just(1 << 4), any::<u32>()],
        hidden in prop_oneof![4 => 1usize..6, 1 => prop::sample::select(vec![8, 9, 16, 17, 33])],
        direction in prop::sample::select(vec![Direction::Forward, Direction::Reverse, Direction::Both]),
        returns in prop::sample::select(vec![Returns::Sequence, Returns::Sequence, Returns::Last, Returns::Mean]),
        recurrent_mask in prop::bool::weighted(0.3),
        layer_norm in prop::bool::weighted(0.3),
        zoneout in prop::option::weighted(0.4, [0, 1].map(|_| prop::sample::select(vec![0.0f32, 0.0, 0.25, 1.0]))),
    ) -> LstmStage {
        let mut cell = if which == 1 << 4 { Cell::PLAIN } else { cell(which) };
        if let Some([c, h]) = zoneout {
            cell.zoneout = Zoneout { cell: c, hidden: h };
        }
        if layer_norm && hidden > 2 {
            // Two units that are almost equal have a normalisation that almost jumps.
            cell = Cell { layer_norm, coupled: false, preact_clip: f32::INFINITY, ..cell };
        }
        // The inputs are set where it stands.
        LstmStage {
            cell, direction, returns, recurrent_mask, ..LstmStage::new(LayerShape::new(1, hidden))
        }
    }
}

fn any_stage() -> impl Strategy<Value = Stage> {
    let activations = vec![
        Activation::Linear,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Relu,
        Activation::HardSigmoid { slope: 1.0 / 6.0 },
        Activation::Softmax,
    ];
    prop_oneof![
        8 => any_lstm().prop_map(Stage::Lstm),
        2 => (1usize..5).prop_map(|outputs| Stage::Dense(DenseShape::new(1, outputs))),
        2 => prop::sample::select(activations).prop_map(Stage::Activation),
        1 => (0usize..2, -1.0f32..1.5).prop_map(|(first, gain)| Stage::Skip { first, gain }),
        1 => (-2.0f32..2.0).prop_map(Stage::Gain),
        1 => Just(Stage::Reverse),
        1 => Just(Stage::Flatten { steps: 1 }),
        1 => any::<bool>().prop_map(|per_step| Stage::Mask { per_step }),
    ]
}

/// The stages with the inputs that they get, and without those that do not fit where they stand.
fn fitted(inputs: usize, table: Option<usize>, stages: Vec<Stage>, extent: Extent) -> Case {
    let mut all = Vec::new();
    if let Some(rows) = table {
        all.push(Stage::Embedding { rows, width: 3 });
    }
    let inputs = if table.is_some() { 1 } else { inputs };
    let mut width = if table.is_some() { 3 } else { inputs };
    let (mut whole, mut aligned) = (true, true);
    for mut stage in stages {
        match &mut stage {
            Stage::Lstm(lstm) => {
                lstm.layer.inputs = width;
                whole &= lstm.returns == Returns::Sequence;
            }
            Stage::Dense(shape) => shape.inputs = width,
            Stage::Flatten { steps } => {
                *steps = if whole { extent.steps } else { 1 };
                whole = false;
            }
            Stage::Skip { first, .. } => {
                let fits = *first + width <= inputs && table.is_none();
                if !whole || !aligned || !fits {
                    continue;
                }
            }
            Stage::Reverse => aligned = false,
            _ => {}
        }
        width = stage.width(width);
        all.push(stage);
    }
    Case {
        inputs,
        stages: all,
        extent,
        lengths: None,
        masks: None,
    }
}

prop_compose! {
    fn any_case()(
        inputs in 1usize..4,
        table in prop::option::weighted(0.2, 2usize..5),
        stages in prop::collection::vec(any_stage(), 1..4),
        steps in 1usize..8,
        batch in 1usize..4,
        lengths in prop::option::of(prop::collection::vec(0usize..8, 3)),
    ) -> Case {
        let lengths = lengths.map(|l| l[..batch].iter().map(|&n| n.min(steps)).collect());
        let case = fitted(inputs, table, stages, Extent { steps, batch });
        Case { lengths, ..case }
    }
}

prop_compose! {
    /// A chain in which no stage looks at later steps.
    fn any_causal()(
        inputs in 1usize..4,
        table in prop::option::weighted(0.2, 2usize..5),
        stages in prop::collection::vec(any_stage(), 1..4),
        steps in 1usize..8,
        batch in 1usize..4,
    ) -> Case {
        let causal = stages.into_iter().filter_map(|stage| match stage {
            Stage::Reverse | Stage::Flatten { .. } => None,
            Stage::Lstm(lstm) => Some(Stage::Lstm(LstmStage {
                direction: Direction::Forward,
                returns: Returns::Sequence,
                ..lstm
            })),
            other => Some(other),
        });
        fitted(inputs, table, causal.collect(), Extent { steps, batch })
    }
}

/// Random values for a case, rounded as the kernels read them.
fn values(case: &Case, seed: u64) -> (Values, Vec<f64>, Vec<f64>) {
    let mut random = Random(seed);
    let lens = Chain::lengths(case.inputs, &case.stages, case.extent);
    let mut some = |len: usize, most: f32| -> Vec<f64> {
        random.vec(len, most).into_iter().map(f64::from).collect()
    };
    let params = some(lens.params, 1.0);
    let mut x = some(lens.x, 1.0);
    if let Some(&Stage::Embedding { rows, .. }) = case.stages.first() {
        x.iter_mut()
            .for_each(|x| *x = ((*x + 1.0) * 0.4999 * rows as f64).floor());
    }
    let values = Values {
        params,
        x,
        state: some(lens.state, 0.8),
    };
    (values, some(lens.y, 1.0), some(lens.state, 1.0))
}

fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// [`assert_close`], with as much more room as the largest number is above 1.
#[track_caller]
fn near(what: &str, got: &[f32], want: &[f64], tolerance: f32) {
    let largest = want.iter().fold(1.0, |most: f64, v| most.max(v.abs()));
    assert_close(what, got, &f32s(want), tolerance * largest as f32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(96)))]

    /// Outputs, states and all gradients of any chain.
    #[test]
    fn chains_are_the_oracle(case in any_case(), seed: u64) {
        let (values, dy, dstate) = values(&case, seed);
        let expected = case.run(&values);
        let case = Case { masks: Some(case.any_masks(&mut Random(!seed))), ..case };
        let want = case.run(&values);
        let gradients = case.gradients(&values, &dy, &dstate);
        // Close to where a function has a corner, differences are no gradients.
        let smooth = {
            let mut nudged = values.clone();
            nudged.params.iter_mut().for_each(|v| *v += 1e-4);
            let moved = case.gradients(&nudged, &dy, &dstate);
            let each = moved.params.iter().zip(&gradients.params);
            each.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < 5e-3
        };
        each_level(|_| {
            let out = passes(
                &case,
                &f32s(&values.params),
                &f32s(&values.x),
                &f32s(&values.state),
                &f32s(&dy),
                &f32s(&dstate),
            );
            near("run", &out.run[0], &expected.y, 2e-5);
            near("run's state", &out.run[1], &expected.state, 2e-5);
            near("y", &out.y, &want.y, 2e-5);
            near("state", &out.state, &want.state, 2e-5);
            if smooth {
                near("gradients", &out.gradients, &gradients.params, 3e-4);
                near("dx", &out.dx, &gradients.x, 3e-4);
                near("dstate", &out.dstate, &gradients.state, 3e-4);
            }
        });
    }

    /// Levels of a kind give the same bits.
    #[test]
    fn bits_of_levels(case in any_case(), seed: u64) {
        let (values, dy, dstate) = values(&case, seed);
        let case = Case { masks: Some(case.any_masks(&mut Random(!seed))), ..case };
        same_bits_at_each_level(|| {
            let out = passes(
                &case,
                &f32s(&values.params),
                &f32s(&values.x),
                &f32s(&values.state),
                &f32s(&dy),
                &f32s(&dstate),
            );
            [out.run.concat(), out.y, out.state, out.gradients, out.dx, out.dstate].concat()
        });
    }

    /// A chain of plain layers and a dense stage is a model.
    #[test]
    fn plain_chains_are_models(hidden in prop::collection::vec(1usize..20, 1..3), steps in 1usize..9, batch in 1usize..4, seed: u64) {
        let shape = NetworkShape::new(3, &hidden).with_head(2);
        let extent = Extent { steps, batch };
        let mut stages: Vec<Stage> =
            shape.layers().map(|layer| Stage::Lstm(LstmStage::new(layer))).collect();
        stages.push(Stage::Dense(DenseShape::new(shape.outputs(), 2)));
        let mut random = Random(seed);
        let params: Vec<f32> = random.vec(shape.params_len(), 0.5);
        let x: Vec<f32> = random.vec(extent.rows() * 3, 1.0);
each_level(|_| {
            let lens = Chain::lengths(3, &stages, extent);
            let (mut y, mut state) = (vec![0.0; lens.y], vec![0.0; lens.state]);
            let chain = Chain::new(3, &stages, &params).unwrap();
            chain.run(extent, None, &x, &mut state, &mut y, &mut vec![0.0; lens.scratch]).unwrap();

            let model = Model::new(shape, &params).unwrap();
            let mut theirs = vec![0.0; shape.state_len(batch)];
            let mut hs = vec![0.0; extent.rows() * shape.outputs()];
            let mut logits = vec![0.0; lens.y];
            model.infer(extent, &x, &mut theirs, &mut hs, &mut vec![0.0; shape.scratch_len(extent)]).unwrap();
            model.logits(extent, &hs, &mut logits).unwrap();
            assert_eq!((y, state), (logits, theirs));
        });
    }

    /// A sequence in two calls, and a row alone, give the bits of one call with all rows.
    #[test]
    fn cuts_and_rows_leave_no_trace(case in any_causal(), seed: u64, cut in 0usize..8) {
        let (values, ..) = values(&case, seed);
        let (params, x, start) = (f32s(&values.params), f32s(&values.x), f32s(&values.state));
        let chain = Chain::new(case.inputs, &case.stages, &params).unwrap();
        prop_assert!(chain.is_causal());
        let Extent { steps, batch, .. } = case.extent;
        let run = |extent: Extent, x: &[f32], state: &mut [f32]| {
            let lens = Chain::lengths(case.inputs, &case.stages, extent);
            let (mut y, mut scratch) = (vec![f32::NAN; lens.y], vec![f32::NAN; lens.scratch]);
            chain.run(extent, None, x, state, &mut y, &mut scratch).unwrap();
            y
        };
        each_level(|_| {
            let mut end = start.clone();
            let y = run(case.extent, &x, &mut end);
            let cut = cut.min(steps);
            let (first, second) = x.split_at(cut * batch * case.inputs);
            let mut state = start.clone();
            let mut parts = run(Extent { steps: cut, batch }, first, &mut state);
            parts.extend(run(Extent { steps: steps - cut, batch }, second, &mut state));
            assert_eq!((bits(&parts), bits(&state)), (bits(&y), bits(&end)));

            // The first row.
            let alone: Vec<f32> =
                x.chunks(batch * case.inputs).flat_map(|step| &step[..case.inputs]).copied().collect();
            let mut state = Vec::new();
            let mut rest = &start[..];
            for stage in &case.stages {
                if let Stage::Lstm(lstm) = stage {
                    for width in [lstm.layer.hidden, lstm.outputs()] {
                        let (own, after) = rest.split_at(batch * width);
                        rest = after;
                        state.extend_from_slice(&own[..width]);
                    }
                }
            }
            let own = run(Extent { steps, batch: 1 }, &alone, &mut state);
            let width = chain.outputs();
            let row: Vec<f32> =
                y.chunks(batch * width).flat_map(|step| &step[..width]).copied().collect();
            assert_eq!(bits(&own), bits(&row));
        });
    }
}

/// Gradients of functions without corners: of all options of noise and normalisation at once, in both
/// directions, with rows of unequal length.
#[test]
fn noise_and_norms_have_the_gradients_of_the_oracle() {
    let extent = Extent { steps: 5, batch: 3 };
    for (seed, (layer_norm, peepholes)) in [(false, true), (true, false), (true, true)]
        .into_iter()
        .enumerate()
    {
        for returns in [Returns::Sequence, Returns::Last, Returns::Mean] {
            let cell = Cell {
                layer_norm,
                peepholes,
                projection: peepholes.then_some(3),
                zoneout: Zoneout {
                    cell: 0.3,
                    hidden: 0.2,
                },
                ..Cell::PLAIN
            };
            let stage = Stage::Lstm(LstmStage {
                cell,
                returns,
                direction: Direction::Both,
                recurrent_mask: true,
                ..LstmStage::new(LayerShape::new(2, 5))
            });
            let case = Case {
                inputs: 2,
                stages: vec![
                    Stage::Mask { per_step: true },
                    Stage::Mask { per_step: false },
                    stage,
                    Stage::Mask { per_step: true },
                ],
                extent,
                lengths: Some(vec![5, 0, 3]),
                masks: None,
            };
            let (values, dy, dstate) = values(&case, seed as u64);
            let masks = Some(case.any_masks(&mut Random(seed as u64)));
            let case = Case { masks, ..case };
            let want = case.gradients(&values, &dy, &dstate);
            each_level(|level| {
                let [params, x, state] =
                    [&values.params, &values.x, &values.state].map(|v| f32s(v));
                let out = passes(&case, &params, &x, &state, &f32s(&dy), &f32s(&dstate));
                let what = format!("{returns:?}, {layer_norm}, {peepholes} at {level}");
                near(&what, &out.gradients, &want.params, 5e-5);
                near(&what, &out.dx, &want.x, 5e-5);
                near(&what, &out.dstate, &want.state, 5e-5);
            });
        }
    }
}

/// Masks that drop nothing leave no trace: of a plain layer, and of one whose states may stay.
#[test]
fn masks_of_nothing_leave_no_trace() {
    let layer = LstmStage {
        direction: Direction::Both,
        returns: Returns::Last,
        cell: Cell {
            peepholes: true,
            projection: Some(3),
            ..Cell::PLAIN
        },
        ..LstmStage::new(LayerShape::new(2, 5))
    };
    let noisy = LstmStage {
        recurrent_mask: true,
        cell: Cell {
            zoneout: Zoneout {
                cell: 0.2,
                hidden: 0.1,
            },
            ..layer.cell
        },
        ..layer
    };
    let mask = |per_step| Stage::Mask { per_step };
    let extent = Extent { steps: 4, batch: 3 };
    let case = |stages, masks| Case {
        inputs: 2,
        stages,
        extent,
        lengths: Some(vec![4, 0, 2]),
        masks,
    };
    let quiet = case(vec![Stage::Lstm(layer)], None);
    let (before, after) = (vec![1.0; 2 * 12 + 2 * 3], vec![1.0; 2 * 3 * 3]);
    let own = [vec![1.0; 3 * 3], vec![0.0; 12 * (5 + 3)]].concat();
    let masks = [before, own.clone(), own, after].concat();
    let stages = vec![mask(true), mask(false), Stage::Lstm(noisy), mask(true)];
    let noisy = case(stages, Some(masks));
    let (values, dy, dstate) = values(&quiet, 3);
    each_level(|_| {
        let [a, b] = [&quiet, &noisy].map(|case| {
            let [params, x, state] = [&values.params, &values.x, &values.state].map(|v| f32s(v));
            passes(case, &params, &x, &state, &f32s(&dy), &f32s(&dstate))
        });
        assert_eq!(bits(&a.y), bits(&b.y));
        assert_eq!(bits(&a.state), bits(&b.state));
        for (a, b) in [
            (&a.gradients, &b.gradients),
            (&a.dx, &b.dx),
            (&a.dstate, &b.dstate),
        ] {
            // A sum with 0 may have another sign of 0.
            assert_eq!(a, b);
        }
        assert_ne!(bits(&b.run[0]), bits(&b.y));
    });
}

/// A layer with a recurrent mask and no other option runs as a plain one does.
#[test]
fn a_run_knows_of_no_mask() {
    let layer = LstmStage::new(LayerShape::new(2, 5));
    let masked = LstmStage {
        recurrent_mask: true,
        ..layer
    };
    let extent = Extent { steps: 4, batch: 3 };
    let run = |stages: &[Stage]| {
        let lens = Chain::lengths(2, stages, extent);
        let mut random = Random(6);
        let (params, x) = (random.vec(lens.params, 1.0), random.vec(lens.x, 1.0));
        let (mut y, mut state) = (vec![0.0; lens.y], random.vec(lens.state, 1.0));
        let mut scratch = vec![f32::NAN; lens.scratch];
        Chain::new(2, stages, &params)
            .unwrap()
            .run(extent, None, &x, &mut state, &mut y, &mut scratch)
            .unwrap();
        (bits(&y), bits(&state))
    };
    let mask = Stage::Mask { per_step: true };
    each_level(|_| {
        let plain = run(&[Stage::Lstm(layer)]);
        assert_eq!(plain, run(&[mask, Stage::Lstm(masked), mask]));
    });
}

/// What does not fit is refused.
#[test]
fn refusals() {
    let lstm = Stage::Lstm(LstmStage::new(LayerShape::new(3, 4)));
    let refused = |inputs, stages: &[Stage]| Chain::new(inputs, stages, &[]).unwrap_err();
    assert_eq!(
        refused(2, &[lstm]).to_string(),
        "stage 0: expected 3 inputs, got 2"
    );
    assert_eq!(refused(0, &[lstm]), ArgumentError::Zero { what: "inputs" });
    let table = Stage::Embedding { rows: 5, width: 3 };
    assert_eq!(
        refused(3, &[lstm, Stage::Dense(DenseShape::new(4, 1)), table]).to_string(),
        "stage 2: expected a table to be the first stage"
    );
    let last = Stage::Lstm(LstmStage {
        returns: Returns::Last,
        ..LstmStage::new(LayerShape::new(3, 4))
    });
    let skip = Stage::Skip {
        first: 0,
        gain: 1.0,
    };
    assert_eq!(
        refused(3, &[last, Stage::Dense(DenseShape::new(4, 1)), skip]).to_string(),
        "stage 2: expected a skip where the steps are those of the input"
    );
    let softmax = Stage::Lstm(LstmStage {
        cell: Cell {
            gates: Activation::Softmax,
            ..Cell::PLAIN
        },
        ..LstmStage::new(LayerShape::new(3, 4))
    });
    assert_eq!(
        refused(3, &[softmax]).to_string(),
        "stage 0: expected functions of one number in a cell"
    );

    let stages = [table, lstm];
    let extent = Extent { steps: 2, batch: 1 };
    let lens = Chain::lengths(1, &stages, extent);
    let params = vec![0.1; lens.params];
    let chain = Chain::new(1, &stages, &params).unwrap();
    let run = |x: &[f32], lengths: Option<&[usize]>| {
        let (mut y, mut state) = (vec![0.0; lens.y], vec![0.0; lens.state]);
        let scratch = &mut vec![0.0; lens.scratch];
        chain.run(extent, lengths, x, &mut state, &mut y, scratch)
    };
    assert_eq!(run(&[0.0, 4.0], None), Ok(()));
    for x in [5.0, -1.0, 0.5, f32::NAN, f32::INFINITY] {
        let error = run(&[0.0, x], None).unwrap_err();
        assert_eq!(error, ArgumentError::Index { row: 1, rows: 5 });
    }
    let error = run(&[0.0, 1.0], Some(&[3])).unwrap_err();
    assert_eq!(error.to_string(), "row 0: expected at most 2 steps, got 3");
    let flat = [Stage::Flatten { steps: 5 }];
    let error = Chain::new(1, &flat, &[]).unwrap().run(
        extent,
        None,
        &[0.0; 2],
        &mut [],
        &mut [0.0; 5],
        &mut [0.0; 10],
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "stage 0: expected 5 steps, got 2"
    );
    assert_eq!(
        refused(
            1,
            &[
                table,
                Stage::Skip {
                    first: 0,
                    gain: 1.0
                }
            ]
        )
        .to_string(),
        "stage 1: expected no skip in a chain that begins with a table"
    );
    let zoneout = |cell, hidden| Cell {
        zoneout: Zoneout { cell, hidden },
        ..Cell::PLAIN
    };
    for cell in [
        zoneout(1.5, 0.0),
        zoneout(0.0, -0.1),
        zoneout(f32::NAN, 0.0),
    ] {
        let stage = Stage::Lstm(LstmStage {
            cell,
            ..LstmStage::new(LayerShape::new(3, 4))
        });
        assert_eq!(
            refused(3, &[stage]).to_string(),
            "stage 0: expected zoneout from 0 to 1"
        );
    }
    let coupled = Cell {
        layer_norm: true,
        coupled: true,
        ..Cell::PLAIN
    };
    let clipped = Cell {
        coupled: false,
        preact_clip: 1.0,
        ..coupled
    };
    for cell in [coupled, clipped] {
        let stage = Stage::Lstm(LstmStage {
            cell,
            ..LstmStage::new(LayerShape::new(3, 4))
        });
        assert_eq!(
            refused(3, &[stage]).to_string(),
            "stage 0: expected layer normalisation without coupled gates and clipped pre-activations"
        );
    }
    let stages = [Stage::Mask { per_step: false }];
    let lens = Chain::lengths(2, &stages, extent);
    let mut cache = vec![0.0; lens.cache];
    let error = Chain::new(2, &stages, &[]).unwrap().forward(
        extent,
        None,
        &[0.0; 4],
        &mut [],
        &mut [0.0; 4],
        &mut cache,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "masks: expected 2 values, got 0"
    );
    let error = VariantLstm::<1, 2, 2, 0, 0>::ZERO
        .infer(
            &zoneout(0.1, 0.0),
            None,
            &[[[1.0]]],
            &mut Flat::zero(),
            &mut [[[0.0; 2]]],
            &mut Flat::zero(),
        )
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage 0: expected no zoneout or layer normalisation, which chains have"
    );
    let wrong = Cell {
        cell_clip: -1.0,
        ..Cell::PLAIN
    };
    let mut y = [[[0.0; 2]]];
    let error = VariantLstm::<1, 2, 2, 0, 0>::ZERO
        .infer(
            &wrong,
            None,
            &[[[1.0]]],
            &mut Flat::zero(),
            &mut y,
            &mut Flat::zero(),
        )
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage 0: expected clipping to more than 0"
    );
}
