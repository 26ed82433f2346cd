//! Training whose numbers leave the range of f32: what can be gone on with goes on, and what cannot
//! ends where it still was right, is saved, and says what may help.

mod common;

use common::{Folder, write_tensors};
use fused_lstm_driver::weights::Weights;

/// One layer of 4 units, of which only the candidate's recurrent weights and the head are not 0: the
/// state stays 0, and each step back the gradient grows by 0.5 + 2.5 / 4, to 5.7e22 in 500 steps.
fn exploding() -> Folder {
    let folder = Folder::new();
    let mut kernel = [0.0; 80];
    for unit in 0..4 {
        kernel[(1 + unit) * 16 + 4 + unit] = 2.5;
    }
    let weights: [(&str, &[usize], &[f32]); 4] = [
        ("lstm.0.kernel", &[5, 16], &kernel),
        ("lstm.0.bias", &[16], &[0.0; 16]),
        ("dense.kernel", &[4, 2], &[0.5, -0.5].repeat(4)),
        ("dense.bias", &[2], &[0.0; 2]),
    ];
    write_tensors(&folder.path("m"), &weights, &[]);
    let length = 500 * 5 * 8;
    let bits: Vec<i32> = (0..length)
        .map(|k| (k * k / 7 + k / 3) as i32 & 1)
        .collect();
    let shape = [1, length];
    let data: [(&str, &[usize], &[i32]); 2] = [("x", &shape, &bits), ("y", &shape, &bits)];
    write_tensors(&folder.path("d"), &[], &data);
    folder
}

const TRAIN: &str = "train --quiet --layers 1 --truncation 500 --learning-rate 0.01 --epochs 1 \
     --data d --init m --save c";

/// The norm of the gradients is 1e23, and its square infinite.
#[test]
fn huge_gradients_are_clipped() {
    let folder = exploding();
    for optimizer in ["sgd", "adagrad", "adam", "rmsprop"] {
        folder.ok(&format!(
            "{TRAIN} --optimizer {optimizer} --clip-norm 1 --log l"
        ));
        assert_eq!(folder.text("l").lines().count(), 9, "{optimizer}");
        let before = Weights::open(&folder.path("m")).unwrap().params;
        let after = Weights::open(&folder.path("c")).unwrap().params;
        assert!(after.iter().all(|w| w.is_finite()) && before != after);
    }
}

/// The squares of single gradients overflow: nothing is changed, and what is saved goes on.
#[test]
fn slots_that_would_overflow_end_the_run_in_time() {
    let folder = exploding();
    for optimizer in ["adagrad", "adam", "rmsprop"] {
        let train = format!("{TRAIN} --optimizer {optimizer} --log l");
        folder.fails(
            &train,
            1,
            &["step 0", "expected finite slots", "try --clip-norm"],
        );
        let before = Weights::open(&folder.path("m")).unwrap().params;
        let saved = Weights::open(&folder.path("c")).unwrap().params;
        assert!(before == saved, "{optimizer}");
        assert!(folder.text("l").is_empty());
        folder.ok("train --quiet --resume c --clip-norm 1 --log l");
        assert_eq!(folder.text("l").lines().count(), 9);
    }
}

/// Gradients that are infinite themselves: clipping is no help, and is not advised.
#[test]
fn infinite_gradients_are_said_to_be() {
    let folder = exploding();
    let longer = TRAIN.replace("--truncation 500", "--truncation 1000");
    for flags in [
        "--optimizer sgd",
        "--optimizer sgd --clip-norm 1",
        "--optimizer adam",
    ] {
        let output = folder.run(&format!("{longer} {flags}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags}: {error}");
        assert!(
            error.contains("step 0: expected finite gradients"),
            "{flags}: {error}"
        );
        assert!(!error.contains("clip-norm"), "{flags}: {error}");
        let before = Weights::open(&folder.path("m")).unwrap().params;
        assert!(before == Weights::open(&folder.path("c")).unwrap().params);
    }
}
