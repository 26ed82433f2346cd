//! `run` against the oracle: unequal stacks, any batch and length, with and without a
//! head.

mod common;

use common::close::assert_close;
use common::oracle::{self, narrow, wide};
use common::random::Random;
use common::{Folder, write_tensors};
use fused_lstm::{Extent, NetworkShape};
use fused_lstm_driver::tensors::{self, TensorFile};
use fused_lstm_driver::weights::{Start, Weights};

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
        start: None,
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
        let shape = NetworkShape::new(6, &[4, 5]).with_classes(weights.classes);
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
        &["x.safetensors", "key x", "expected a tensor, got none"],
    );
    input(&[("x", &[2, 1, 6], &x), ("h", &[1, 2, 6], &x)]);
    folder.fails(run, 1, &["key h", "expected x and state.0 to state.1"]);
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

type Tensor<'a> = (&'a str, &'a [usize], &'a [f32]);

/// The state of a layer of [`stacked`], for three rows.
fn layer_state(index: usize, values: &[f32]) -> Tensor<'_> {
    match index {
        0 => ("state.0", &[2, 3, 4], values),
        _ => ("state.1", &[2, 3, 5], values),
    }
}

/// A state comes from the input, else from --state, else from the model, else it is zeros.
#[test]
fn starts_from_the_state_that_is_given() {
    let folder = Folder::new();
    let mut weights = stacked(true);
    let shape = NetworkShape::new(6, &[4, 5]).with_head(3);
    let batch = 3;
    let extent = Extent { steps: 4, batch };
    let mut random = Random(11);
    let x = random.vec(extent.rows() * 6, 1.0);
    let [one, own, file, given] =
        [1, batch, batch, batch].map(|batch| random.vec(shape.state_len(batch), 1.0));
    let parts = |batch: usize, state: &[f32]| {
        let (first, second) = state.split_at(2 * batch * 4);
        (first.to_vec(), second.to_vec())
    };
    // A row stands for all.
    let repeated: Vec<f32> = [(0, 4), (4, 4), (8, 5), (13, 5)]
        .iter()
        .flat_map(|&(at, len)| one[at..at + len].repeat(batch))
        .collect();
    let write = |name: &str, tensors: &[Tensor]| {
        write_tensors(&folder.path(name), tensors, &[]);
    };
    let x_input: Tensor = ("x", &[4, batch, 6], &x);
    write("x", &[x_input]);
    let (file0, file1) = parts(batch, &file);
    write("file", &[layer_state(0, &file0), layer_state(1, &file1)]);
    let (given0, given1) = parts(batch, &given);
    let ones = vec![1.0; 60];
    write(
        "given",
        &[
            x_input,
            layer_state(0, &given0),
            layer_state(1, &given1),
            // As a run has written them, and nobody reads them.
            ("y", &[4, 3, 5], &ones),
            ("logits", &[1], &ones[..1]),
        ],
    );
    write("half", &[x_input, layer_state(1, &given1)]);
    let mixed: Vec<f32> = file0.iter().chain(&given1).copied().collect();

    let zeros = vec![0.0; given.len()];
    for (start, flags, expected) in [
        (None, "--input x", &zeros),
        (Some((1, &one)), "--input x", &repeated),
        (Some((batch, &own)), "--input x", &own),
        (Some((batch, &own)), "--input x --state file", &file),
        (Some((batch, &own)), "--input given", &given),
        (Some((batch, &own)), "--input given --state file", &given),
        (None, "--input half --state file", &mixed),
    ] {
        weights.start = start.map(|(batch, state)| Start {
            batch,
            state: state.clone(),
        });
        tensors::write(&folder.path("m"), &weights.tensors(""), None).unwrap();
        folder.ok(&format!("run --model m {flags} --output y"));
        let params = wide(&weights.params);
        let run = oracle::forward(shape, &params, extent, &wide(&x), &wide(expected));
        let output = TensorFile::open(&folder.path("y")).unwrap();
        let y = output.f32_of_shape("y", &[4, batch, 5]).unwrap();
        assert_close(flags, &y, &narrow(&run.y), 2e-6);
        // What was written is where the next run starts.
        folder.ok("run --model m --input x --state y --output z");
        let run = oracle::forward(shape, &params, extent, &wide(&x), &run.state);
        let output = TensorFile::open(&folder.path("z")).unwrap();
        let z = output.f32_of_shape("y", &[4, batch, 5]).unwrap();
        assert_close(flags, &z, &narrow(&run.y), 2e-6);
    }
    weights.start = Some(Start {
        batch: 2,
        state: vec![0.0; shape.state_len(2)],
    });
    tensors::write(&folder.path("m"), &weights.tensors(""), None).unwrap();
    let run = "run --model m --input x --output n";
    folder.fails(run, 1, &["x: key x", "expected 2 rows", "got 3"]);
    // It is not asked for where the input has states of its own.
    folder.ok("run --model m --input given --output n");
    // The state of a checkpoint is where its training stands.
    folder.ok("train --quiet --epochs 1 --series-length 300 --batch 1 --save c");
    write("bit", &[("x", &[1, 1, 1], &[1.0])]);
    folder.ok("run --model c --input bit --output a");
    let z: Vec<f32> = vec![0.0; 8];
    write(
        "zeros",
        &[
            ("state.0", &[2, 1, 4], &z),
            ("state.1", &[2, 1, 4], &z),
            ("state.2", &[2, 1, 4], &z),
        ],
    );
    folder.ok("run --model c --input bit --state zeros --output b");
    assert!(folder.bytes("a") == folder.bytes("b"));
}

/// A long series goes through in blocks, whose number leaves no trace; and only what is wanted is
/// written.
#[test]
fn writes_what_is_wanted() {
    let folder = Folder::new();
    let weights = stacked(true);
    tensors::write(&folder.path("m"), &weights.tensors(""), None).unwrap();
    let (steps, batch) = (20_000, 3);
    let x = Random(2).vec(steps * batch * 6, 1.0);
    write_tensors(&folder.path("x"), &[("x", &[steps, batch, 6], &x)], &[]);
    folder.ok("run --model m --input x --output all");
    let all = TensorFile::open(&folder.path("all")).unwrap();
    let (shape, extent) = (weights.shape(), Extent { steps, batch });
    let mut state = vec![0.0; shape.state_len(batch)];
    let (mut y, mut scratch) = (
        vec![0.0; steps * batch * 5],
        vec![0.0; shape.scratch_len(extent)],
    );
    let model = weights.model().unwrap();
    model
        .infer(extent, &x, &mut state, &mut y, &mut scratch)
        .unwrap();
    let mut logits = vec![0.0; steps * batch * 3];
    model.logits(extent, &y, &mut logits).unwrap();
    assert!(all.f32("y").unwrap().1 == y && all.f32("logits").unwrap().1 == logits);
    let (s0, s1) = state.split_at(2 * batch * 4);
    assert!(all.f32("state.0").unwrap().1 == s0 && all.f32("state.1").unwrap().1 == s1);

    for (wanted, keys) in [
        ("y", &["y"][..]),
        ("logits", &["logits"]),
        (
            "probabilities,state",
            &["probabilities", "state.0", "state.1"],
        ),
        ("state,y", &["y", "state.0", "state.1"]),
    ] {
        for threads in [1, 2, 5] {
            let flags = format!("--outputs {wanted} --threads {threads}");
            folder.ok(&format!("run --model m --input x --output some {flags}"));
            let some = TensorFile::open(&folder.path("some")).unwrap();
            for key in ["y", "logits", "probabilities", "state.0", "state.1"] {
                assert_eq!(some.has(key), keys.contains(&key), "{wanted}: {key}");
                if some.has(key) {
                    assert!(
                        some.f32(key).unwrap() == all.f32(key).unwrap(),
                        "{flags}: {key}"
                    );
                }
            }
        }
    }
    folder
        .ok("run --model m --input x --output first --batch-first --outputs logits,probabilities");
    let first = TensorFile::open(&folder.path("first")).unwrap();
    assert_eq!(first.f32_shape("logits").unwrap(), [steps, batch, 3]);

    // One output has a logit and no probability; no head has neither.
    let mut weights = stacked(false);
    tensors::write(&folder.path("none"), &weights.tensors(""), None).unwrap();
    weights.classes = Some(1);
    weights.params.extend([0.5; 6]);
    tensors::write(&folder.path("one"), &weights.tensors(""), None).unwrap();
    folder.ok("run --model one --input x --output y");
    let y = TensorFile::open(&folder.path("y")).unwrap();
    assert!(y.has("logits") && !y.has("probabilities"));
    for (flags, part) in [
        (
            "--model one --outputs probabilities",
            "probabilities of a head of 1",
        ),
        ("--model none --outputs y,logits", "logits without a head"),
        ("--model one --outputs loss", "loss"),
        ("--model one --threads 0", "--threads"),
    ] {
        folder.fails(&format!("run --input x --output n {flags}"), 2, &[part]);
    }
    // Rows and units are shared by threads; the bits are those of one.
    let hidden = 130;
    let weights = Weights {
        inputs: 6,
        hidden: vec![hidden],
        classes: None,
        params: Random(4).vec(4 * hidden * (6 + hidden + 1), 0.1),
        start: None,
    };
    tensors::write(&folder.path("wide"), &weights.tensors(""), None).unwrap();
    for (name, shape) in [("x", [500, 1, 6]), ("x", [40, 9, 6])] {
        let len = shape.iter().product();
        write_tensors(&folder.path(name), &[("x", &shape, &x[..len])], &[]);
        folder.ok("run --model wide --input x --output one --threads 1 --force");
        for threads in [2, 4] {
            folder.ok(&format!(
                "run --model wide --input x --output n --threads {threads} --force"
            ));
            assert!(folder.bytes("n") == folder.bytes("one"));
        }
    }
}
