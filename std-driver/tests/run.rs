//! `run` against the oracle: unequal stacks, any batch and length, with and without a
//! head.

mod common;

use common::close::assert_close;
use common::oracle::{self, narrow, wide};
use common::random::Random;
use common::{Folder, write_tensors};
use fused_lstm::{Extent, NetworkShape};
use fused_lstm_driver::tensors::{self, TensorFile};
use fused_lstm_driver::weights::Weights;

/// A 4 → 5 stack, with a head of 3 classes if asked for.
fn stacked(head: bool) -> Weights {
    let mut params = Random(4).vec((6 + 4 + 1) * 16 + (4 + 5 + 1) * 20, 0.5);
    if head {
        params.extend(Random(5).vec(5 * 3 + 3, 1.0));
    }
    Weights {
        inputs: 6,
        hidden: vec![4, 5],
        classes: head.then_some(3),
        params,
    }
}

/// `[first, second, width]` as `[second, first, width]`.
fn swap(values: &[f32], first: usize, second: usize) -> Vec<f32> {
    let width = values.len() / (first * second);
    let row = |a: usize, b: usize| &values[(a * second + b) * width..][..width];
    (0..second)
        .flat_map(|b| (0..first).flat_map(move |a| row(a, b)))
        .copied()
        .collect()
}

#[test]
fn equals_the_oracle() {
    let folder = Folder::new();
    for head in [false, true] {
        let weights = stacked(head);
        tensors::write(&folder.path("m.safetensors"), &weights.tensors(""), None).unwrap();
        let shape = NetworkShape {
            inputs: 6,
            hidden: &[4, 5],
            classes: weights.classes,
        };
        for batch in [1, 2, 7] {
            for steps in [1, 3, 50] {
                for given_state in [false, true] {
                    let extent = Extent { steps, batch };
                    let mut random = Random((batch * steps) as u64);
                    let x = random.vec(extent.rows() * 6, 1.0);
                    let mut state = vec![0.0; shape.state_len(batch)];
                    if given_state {
                        state = random.vec(state.len(), 1.0);
                    }
                    let run = oracle::forward(
                        shape,
                        &wide(&weights.params),
                        extent,
                        &wide(&x),
                        &wide(&state),
                    );
                    let (s0, s1) = state.split_at(2 * batch * 4);
                    let (s0_shape, s1_shape) = ([2, batch, 4], [2, batch, 5]);
                    for batch_first in [false, true] {
                        let x_given = if batch_first {
                            swap(&x, steps, batch)
                        } else {
                            x.clone()
                        };
                        let x_shape = if batch_first {
                            [batch, steps, 6]
                        } else {
                            [steps, batch, 6]
                        };
                        let mut inputs: Vec<(&str, &[usize], &[f32])> =
                            vec![("x", &x_shape, &x_given)];
                        if given_state {
                            inputs.push(("state.0", &s0_shape, s0));
                            inputs.push(("state.1", &s1_shape, s1));
                        }
                        write_tensors(&folder.path("x.safetensors"), &inputs, &[]);
                        let flag = if batch_first { "--batch-first" } else { "" };
                        folder.ok(&format!(
                            "run --model m.safetensors --input x.safetensors --output y.safetensors {flag}"
                        ));
                        let output = TensorFile::open(&folder.path("y.safetensors")).unwrap();
                        let get = |key: &str, width: usize| {
                            let (shape, values) = output.f32(key).unwrap();
                            if batch_first {
                                assert_eq!(shape, [batch, steps, width], "{key}");
                                swap(&values, batch, steps)
                            } else {
                                assert_eq!(shape, [steps, batch, width], "{key}");
                                values
                            }
                        };
                        assert_close("y", &get("y", 5), &narrow(&run.y), 2e-6);
                        let states = [("state.0", &s0_shape), ("state.1", &s1_shape)]
                            .map(|(key, shape)| output.f32_of_shape(key, shape).unwrap());
                        assert_close("state", &states.concat(), &narrow(&run.state), 2e-6);
                        assert_eq!(output.has("logits"), head);
                        if head {
                            let params = wide(&weights.params[weights.params.len() - 18..]);
                            let logits = oracle::dense(&params, &run.y, 5);
                            let labels = vec![0; extent.rows()];
                            let (_, p) = oracle::cross_entropy(&logits, &labels);
                            assert_close("logits", &get("logits", 3), &narrow(&logits), 4e-6);
                            let probabilities = get("probabilities", 3);
                            assert_close("probabilities", &probabilities, &narrow(&p), 2e-6);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn runs_what_train_saved() {
    let folder = Folder::new();
    folder.ok("train --quiet --save c.safetensors");
    let mut random = Random(9);
    let bits: Vec<f32> = (0..200).map(|_| random.unit().round()).collect();
    write_tensors(
        &folder.path("x.safetensors"),
        &[("x", &[200, 1, 1], &bits)],
        &[],
    );
    folder.ok("run --model c.safetensors --input x.safetensors --output y.safetensors");
    let output = TensorFile::open(&folder.path("y.safetensors")).unwrap();
    let p = output.f32_of_shape("probabilities", &[200, 1, 2]).unwrap();
    // Training has seen the zero state five times only: give it time to settle.
    for t in 50..200 {
        assert_eq!(p[2 * t] < 0.5, bits[t - 3] == 1.0, "step {t}");
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let folder = Folder::new();
    tensors::write(
        &folder.path("m.safetensors"),
        &stacked(false).tensors(""),
        None,
    )
    .unwrap();
    let run = "run --model m.safetensors --input x.safetensors --output y.safetensors";
    let input = |tensors: &[(&str, &[usize], &[f32])]| {
        write_tensors(&folder.path("x.safetensors"), tensors, &[]);
    };
    let x = [0.0; 12];
    folder.fails(run, 1, &["x.safetensors", "cannot read"]);
    input(&[("y", &[1, 2, 6], &x)]);
    folder.fails(
        run,
        1,
        &[
            "x.safetensors",
            "key y",
            "expected x and state.0 to state.1",
        ],
    );
    input(&[("x", &[2, 1, 6], &x), ("state.2", &[2, 1, 5], &x[..10])]);
    folder.fails(run, 1, &["key state.2"]);
    input(&[("x", &[2, 2, 3], &x)]);
    folder.fails(run, 1, &["key x", "expected shape [T, B, 6]", "[2, 2, 3]"]);
    input(&[("x", &[2, 6], &x)]);
    folder.fails(run, 1, &["key x", "[2, 6]"]);
    input(&[("x", &[0, 2, 6], &[])]);
    folder.fails(run, 1, &["key x", "[0, 2, 6]"]);
    input(&[("x", &[2, 1, 6], &x), ("state.0", &[2, 2, 4], &[0.0; 16])]);
    folder.fails(
        run,
        1,
        &["key state.0", "expected shape [2, 1, 4]", "[2, 2, 4]"],
    );
    let mut nan = x;
    nan[3] = f32::NAN;
    input(&[("x", &[2, 1, 6], &nan)]);
    folder.fails(run, 1, &["key x", "finite", "NaN at 3"]);
    write_tensors(
        &folder.path("x.safetensors"),
        &[],
        &[("x", &[2, 1, 6], &[0; 12])],
    );
    folder.fails(run, 1, &["key x", "expected F32", "I32"]);
    input(&[("x", &[2, 1, 6], &x)]);
    folder.fails(
        &run.replace("y.saf", "no/y.saf"),
        1,
        &["no/y.safetensors", "cannot write"],
    );
    assert_eq!(folder.names(), ["m.safetensors", "x.safetensors"]);
}
