//! The tutorials' runs through the driver: what is printed, what is learnt, and
//! TensorFlow's own losses from its weights and data.

mod common;

use common::{Folder, write_tensors};
use fused_lstm_driver::settings::{Preset, Settings};
use fused_lstm_driver::tensors;
use fused_lstm_driver::train::Trainer;
use fused_lstm_driver::weights::Weights;
use fused_lstm_tests::golden::{Golden, from_tensorflow};

/// The losses of a whole run.
fn losses(settings: Settings) -> Vec<f32> {
    let mut trainer = Trainer::new(settings).unwrap();
    std::iter::from_fn(|| trainer.step().unwrap().map(|step| step.loss)).collect()
}

fn median(values: &[f32]) -> f32 {
    let mut values = values.to_vec();
    values.sort_by(f32::total_cmp);
    (values[values.len() / 2 - 1] + values[values.len() / 2]) / 2.0
}

/// TensorFlow learns it with 20 of 20 seeds.
#[test]
fn echo_is_learnt_from_any_start() {
    let learnt = |seed| {
        let settings = Settings {
            seed,
            epochs: 2,
            ..Settings::preset(Preset::Echo)
        };
        let losses = losses(settings);
        let end = median(&losses[losses.len() - 100..]);
        println!("seed {seed}: {end}");
        end < 0.01
    };
    let count = (0..20).filter(|&seed| learnt(seed)).count();
    assert!(count >= 19, "{count} of 20 seeds");
}

#[test]
fn the_state_matters() {
    // Without the carried state the first three bits of a batch cannot be known: with
    // 15 steps that costs 3/15 of ln 2 at least, but for luck.
    let settings = Settings {
        state: fused_lstm_driver::settings::StateMode::Zero,
        ..Settings::preset(Preset::Echo)
    };
    let losses = losses(settings);
    let end = median(&losses[losses.len() - 100..]);
    let floor = 3.0 / 15.0 * std::f32::consts::LN_2;
    assert!(
        (floor * 0.8..floor * 1.5).contains(&end),
        "{end}, floor {floor}"
    );
}

#[test]
fn echo_prints_as_the_tutorial_does() {
    let folder = Folder::new();
    let text = folder.ok("train --log l.csv");
    let lines: Vec<&str> = text.lines().collect();
    for epoch in 0..5 {
        assert_eq!(lines[8 * epoch], format!("New data, epoch {epoch}"));
        for k in 0..7 {
            let line = lines[8 * epoch + 1 + k];
            let loss = line.strip_prefix(&format!("Step {} Batch loss ", 100 * k));
            let loss = loss.unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                loss.split_once('.').map(|(_, digits)| digits.len()),
                Some(6),
                "{line}"
            );
        }
    }
    let last: f32 = lines[39].rsplit(' ').next().unwrap().parse().unwrap();
    assert!(last < 1e-3, "{last}");
    let log = folder.text("l.csv");
    assert_eq!(log.lines().count(), 3331);
    assert!(log.starts_with("step,epoch,loss\n0,0,0."));
    assert!(log.lines().last().unwrap().starts_with("3329,4,0.000"));
    // The same seed is the same run; another is another.
    folder.ok("train --quiet --log again.csv");
    assert!(folder.text("again.csv") == log);
    assert!(
        folder
            .ok("train --quiet --seed 1 --log other.csv")
            .is_empty()
    );
    assert!(folder.text("other.csv") != log);
}

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

#[test]
fn pictures_are_drawn_whole() {
    let folder = Folder::new();
    folder.ok("train --quiet --epochs 1 --plot p.svg");
    folder.ok("train --quiet --epochs 1 --plot p.png");
    let svg = folder.text("p.svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for text in [
        "Loss of each step",
        "Row 4 of the last batch",
        "input",
        "label",
        "prediction",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    for colour in ["#3C5ADC", "#DC3228", "#28A03C"] {
        assert!(svg.contains(colour), "{colour}");
    }
    let png = std::fs::read(folder.path("p.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"));
    // Fewer rows than panels, and an end between two pictures.
    folder.ok("train --quiet --epochs 1 --batch 2 --series-length 3000 --plot p.svg");
    assert!(!folder.text("p.svg").contains("Row 2"));
    assert_eq!(folder.names(), ["p.png", "p.svg"]);
}
