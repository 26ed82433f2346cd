//! TensorFlow's own losses, from its weights and data. Not in the published package: the recorded
//! runs are in `fused-lstm-tests`.

mod common;

use common::{Folder, write_tensors};
use fused_lstm_driver::tensors;
use fused_lstm_driver::weights::Weights;
use fused_lstm_tests::golden::{Golden, from_tensorflow};

/// The presets with given weights and data follow TensorFlow's own run.
#[test]
fn follows_tensorflow_from_its_weights_and_data() {
    let bits: Vec<i32> = Golden::open("echo_bits_seed42")
        .u8("x")
        .into_iter()
        .map(i32::from)
        .collect();
    let labels: Vec<i32> = (0..bits.len())
        .map(|k| if k % 50_000 < 3 { 0 } else { bits[k - 3] })
        .collect();
    for (name, layers, preset, flags, within) in [
        ("seed002", 3, "echo", "--epochs 1", 5e-5),
        (
            "seed003_lr001",
            1,
            "echo-single",
            "--learning-rate 0.01",
            2e-5,
        ),
        (
            "seed000_lr001",
            3,
            "echo-stacked",
            "--learning-rate 0.01",
            2e-5,
        ),
    ] {
        let golden = Golden::open(name);
        let mut params = Vec::new();
        for l in 0..layers {
            let get = |what: &str| golden.f32(&format!("init.l{l}.{what}"));
            params.extend(from_tensorflow(get("kernel"), get("bias"), 1.0));
        }
        params.extend(golden.f32("init.W2"));
        params.extend(golden.f32("init.b2"));
        let weights = Weights {
            inputs: 1,
            hidden: vec![4; layers],
            classes: Some(2),
            params,
            start: None,
        };

        let folder = Folder::new();
        tensors::write(&folder.path("w.safetensors"), &weights.tensors(""), None).unwrap();
        let shape = [6, 50_000];
        let data: [(&str, &[usize], &[i32]); 2] = [("x", &shape, &bits), ("y", &shape, &labels)];
        write_tensors(&folder.path("d.safetensors"), &[], &data);
        folder.ok(&format!(
            "train {preset} {flags} --quiet --init w.safetensors --data d.safetensors --log l.csv"
        ));
        let want = golden.f32("losses");
        let log = folder.text("l.csv");
        let rows: Vec<&str> = log.lines().skip(1).collect();
        assert!(rows.len() >= 300);
        for (step, row) in rows.into_iter().enumerate() {
            let loss: f32 = row.rsplit(',').next().unwrap().parse().unwrap();
            let gap = (loss - want[step]).abs();
            assert!(
                gap <= within,
                "{name}, loss of step {step}: {loss}, off by {gap:e}"
            );
        }
    }
}
