//! Wrong arguments are refused by name, before anything is touched.

use fused_lstm::optimizer::{Adagrad, Adam, Optimizer};
use fused_lstm::{
    ArgumentError, Backward, DenseShape, Extent, LossGradient, Model, NetworkShape, dense, init,
    loss,
};

const HIDDEN: [usize; 2] = [4, 5];
const SHAPE: NetworkShape = NetworkShape::new(6, &HIDDEN).with_head(3);
const EXTENT: Extent = Extent { steps: 2, batch: 3 };

fn length(what: &'static str, expected: usize, got: usize) -> Result<(), ArgumentError> {
    Err(ArgumentError::Length {
        what,
        expected,
        got,
    })
}

#[test]
fn sizes_of_zero_are_refused() {
    let zero = |what| Err(ArgumentError::Zero { what });
    let check = |inputs, hidden, classes| {
        NetworkShape::new(inputs, hidden)
            .with_classes(classes)
            .check()
    };
    assert_eq!(check(0, &[4], None), zero("inputs"));
    assert_eq!(check(1, &[], None), zero("layers"));
    assert_eq!(check(1, &[4, 0], None), zero("hidden units"));
    assert_eq!(check(1, &[4], Some(0)), zero("classes"));
    assert_eq!(check(1, &[4], Some(1)), Ok(()));
}

#[test]
fn sizes_that_overflow_are_refused_like_any_other() {
    let huge = [usize::MAX / 2];
    let shape = NetworkShape::new(usize::MAX, &huge).with_head(usize::MAX);
    assert_eq!(shape.params_len(), usize::MAX);
    assert!(Model::new(shape, &[0.0; 8]).is_err());
    let params = vec![0.0; SHAPE.params_len()];
    let model = Model::new(SHAPE, &params).unwrap();
    let extent = Extent {
        steps: usize::MAX,
        batch: usize::MAX,
    };
    assert!(model.infer(extent, &[], &mut [], &mut [], &mut []).is_err());
}

#[test]
fn the_head_names_its_buffers() {
    let params = vec![0.0; SHAPE.params_len()];
    let model = Model::new(SHAPE, &params).unwrap();
    let logits = |y, logits| model.logits(EXTENT, &vec![0.0; y], &mut vec![0.0; logits]);
    assert_eq!(logits(30, 18), Ok(()));
    assert_eq!(logits(29, 18), length("y", 30, 29));
    assert_eq!(logits(30, 19), length("logits", 18, 19));
}

#[test]
fn every_buffer_of_a_wrong_length_is_named() {
    let params = vec![0.0; SHAPE.params_len()];
    assert_eq!(
        Model::new(SHAPE, &params[1..]).map(drop),
        length("params", params.len(), params.len() - 1)
    );
    let model = Model::new(SHAPE, &params).unwrap();
    let full = |n: usize| vec![0.0f32; n];
    let (x, state, y) = (full(36), full(SHAPE.state_len(3)), full(30));
    let scratch = full(SHAPE.scratch_len(EXTENT));
    let infer = |x: &[f32], state: &[f32], y: &[f32], scratch: &[f32]| {
        let (mut state, mut y) = (state.to_vec(), y.to_vec());
        model.infer(EXTENT, x, &mut state, &mut y, &mut scratch.to_vec())
    };
    assert_eq!(infer(&x, &state, &y, &scratch), Ok(()));
    assert_eq!(infer(&x[1..], &state, &y, &scratch), length("x", 36, 35));
    assert_eq!(
        infer(&x, &state[1..], &y, &scratch),
        length("state", 54, 53)
    );
    assert_eq!(infer(&x, &state, &y[1..], &scratch), length("y", 30, 29));
    assert_eq!(
        infer(&x, &state, &y, &scratch[1..]),
        length("scratch", 30, 29)
    );

    // One buffer at a time is one number short.
    let (cache, work) = (SHAPE.cache_len(EXTENT), SHAPE.workspace_len(EXTENT));
    let logits = SHAPE.logits_len(EXTENT);
    let lengths = [36, 6, 54, params.len(), logits, cache, work];
    let names = [
        "x",
        "labels",
        "state",
        "gradients",
        "outputs",
        "cache",
        "workspace",
    ];
    let loss = |lengths: [usize; 7]| {
        let [x, labels, state, gradients, p, cache, work] = lengths;
        model
            .loss_gradient(
                EXTENT,
                &vec![0; labels],
                LossGradient {
                    x: &full(x),
                    state: &mut full(state),
                    gradients: &mut full(gradients),
                    outputs: &mut full(p),
                    cache: &mut full(cache),
                    workspace: &mut full(work),
                },
            )
            .map(drop)
    };
    assert_eq!(loss(lengths), Ok(()));
    for (k, name) in names.into_iter().enumerate() {
        let mut short = lengths;
        short[k] -= 1;
        assert_eq!(loss(short), length(name, lengths[k], short[k]));
    }

    let lengths = [36, 30, 54, cache, params.len(), 36, work];
    let names = ["x", "dy", "dstate", "cache", "gradients", "dx", "workspace"];
    let backward = |lengths: [usize; 7]| {
        let [x, dy, dstate, cache, gradients, dx, work] = lengths;
        model.backward(
            EXTENT,
            Backward {
                x: &full(x),
                dy: &full(dy),
                dstate: &mut full(dstate),
                cache: &mut full(cache),
                gradients: &mut full(gradients),
                dx: Some(&mut full(dx)),
                workspace: &mut full(work),
            },
        )
    };
    assert_eq!(backward(lengths), Ok(()));
    for (k, name) in names.into_iter().enumerate() {
        let mut short = lengths;
        short[k] -= 1;
        assert_eq!(backward(short), length(name, lengths[k], short[k]));
    }
}

#[test]
fn labels_must_be_classes() {
    let error = loss::softmax_cross_entropy(2, &mut [0.0; 4], &[1, 2], &mut [0.0; 4]).unwrap_err();
    assert_eq!(
        error,
        ArgumentError::Label {
            row: 1,
            label: 2,
            classes: 2
        }
    );
    assert_eq!(error.to_string(), "label of row 1: expected 0 to 1, got 2");
    let none = loss::softmax_cross_entropy(2, &mut [], &[], &mut []);
    assert_eq!(none, Err(ArgumentError::Zero { what: "labels" }));
}

#[test]
fn a_model_without_a_head_has_no_logits() {
    let shape = SHAPE.with_classes(None);
    let params = vec![0.0; shape.params_len()];
    let model = Model::new(shape, &params).unwrap();
    assert_eq!(
        model.logits(EXTENT, &[0.0; 30], &mut []),
        Err(ArgumentError::NoHead)
    );
}

#[test]
fn optimizers_refuse_other_lengths_and_touch_nothing() {
    let mut params = [1.0, 2.0];
    let adagrad = Adagrad::tensorflow(0.1);
    assert_eq!(
        adagrad.update(&mut params, &[1.0], &mut [0.1; 2]),
        length("gradients", 2, 1)
    );
    assert_eq!(
        adagrad.update(&mut params, &[1.0; 2], &mut [0.1; 1]),
        length("slots", 2, 1)
    );
    let adam = Optimizer::Adam(Adam::pytorch(0.1));
    assert_eq!(
        adam.update(1, &mut params, &[1.0; 2], &mut [0.0; 3]),
        length("slots", 4, 3)
    );
    assert_eq!(params, [1.0, 2.0]);
}

#[test]
fn nothing_to_do_is_done() {
    // No step: the state stays. No row: nothing at all.
    let params = vec![0.5; SHAPE.params_len()];
    let model = Model::new(SHAPE, &params).unwrap();
    let mut state = vec![0.5; SHAPE.state_len(3)];
    model
        .infer(
            Extent { steps: 0, batch: 3 },
            &[],
            &mut state,
            &mut [],
            &mut [],
        )
        .unwrap();
    assert!(state.iter().all(|&s| s == 0.5));
    model
        .infer(
            Extent { steps: 2, batch: 0 },
            &[],
            &mut [],
            &mut [],
            &mut [],
        )
        .unwrap();
    let none = Extent { steps: 0, batch: 3 };
    let mut cache = vec![0.0; SHAPE.cache_len(none)];
    let mut work = vec![0.0; SHAPE.workspace_len(none)];
    let mut gradients = vec![0.0; params.len()];
    model.forward(none, &[], &mut state, &mut cache).unwrap();
    model
        .backward(
            none,
            Backward {
                x: &[],
                dy: &[],
                dstate: &mut state,
                cache: &mut cache,
                gradients: &mut gradients,
                dx: None,
                workspace: &mut work,
            },
        )
        .unwrap();
    assert!(state.iter().all(|&s| s == 0.5) && gradients.iter().all(|&g| g == 0.0));
}

#[test]
fn other_wrong_lengths_are_refused() {
    let shape = DenseShape::new(2, 3);
    let short = dense::forward(shape, 1, &[0.0; 8], &[0.0; 2], &mut [0.0; 3]);
    assert_eq!(short, length("params", 9, 8));
    assert_eq!(
        init::glorot_uniform(SHAPE, &mut [], || 0.5),
        length("params", SHAPE.params_len(), 0)
    );
    assert!(loss::mean_squared_error(&[1.0], &[], &mut [0.0]).is_err());
    assert!(loss::softmax(2, &mut [0.0; 3]).is_err());
    let none = DenseShape::new(0, 3);
    let refused = dense::forward(none, 1, &[0.0; 3], &[], &mut [0.0; 3]);
    assert_eq!(refused, Err(ArgumentError::Zero { what: "inputs" }));
}
