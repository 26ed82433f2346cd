//! The tutorials' runs through the driver: what is printed, and what is learnt.

mod common;

use common::Folder;
use fused_lstm_driver::settings::{Preset, Settings};
use fused_lstm_driver::train::Trainer;

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

/// Losses of all sizes that a log can have.
#[test]
fn pictures_show_any_losses() {
    let folder = Folder::new();
    let short = "--quiet --epochs 1 --series-length 300";
    folder.ok(&format!("train {short} --save c --log l"));
    let log = folder.text("l");
    for losses in [
        [3.4e38f32, 1e-45],
        [0.0, 0.0],
        [0.5, 0.5],
        [3.4e38, 3.4e38],
        [1e-45, 1e-45],
    ] {
        let lines = log.lines().enumerate().map(|(k, line)| match k {
            1 | 2 => format!("{},0,{:e}", k - 1, losses[k - 1]),
            _ => line.to_owned(),
        });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        std::fs::write(folder.path("l"), text).unwrap();
        folder.ok("train --quiet --resume c --epochs 2 --log l --plot p.svg");
        assert!(folder.text("p.svg").trim_end().ends_with("</svg>"));
    }
}
