//! A run that was stopped, killed or interrupted goes on as if nothing had happened.

mod common;

use common::Folder;
use fused_lstm_driver::weights::Weights;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Small enough to be quick, long enough to be killed in the middle of an epoch.
const SETTINGS: &str = "--quiet --epochs 20 --seed 7";

#[test]
fn killed_and_resumed_is_uninterrupted() {
    for (preset, settings) in [
        ("echo", SETTINGS),
        (
            "echo-single",
            "--quiet --epochs 60 --clip-norm 0.5 --hidden 4,5",
        ),
    ] {
        let folder = Folder::new();
        folder.ok(&format!(
            "train {preset} {settings} --log whole.csv --save whole.safetensors"
        ));

        let arguments = format!(
            "train {preset} {settings} --log cut.csv --save cut.safetensors --save-every 7"
        );
        let mut child = folder
            .command(&arguments)
            .spawn()
            .expect("the command starts");
        // Killed as soon as there is something to go on from, wherever it is then.
        let start = Instant::now();
        while !folder.path("cut.safetensors").exists() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "no checkpoint was written"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        child.kill().expect("kill -9");
        let killed = child.wait().expect("an end");
        assert!(
            !killed.success(),
            "{preset} was done before it could be killed"
        );

        let rows = folder.text("cut.csv").lines().count();
        assert!(rows < folder.text("whole.csv").lines().count());
        folder.ok("train --quiet --resume cut.safetensors --log cut.csv --save cut.safetensors");
        assert!(
            folder.text("cut.csv") == folder.text("whole.csv"),
            "{preset}: the logs differ"
        );
        let bytes = |name| std::fs::read(folder.path(name)).expect("a checkpoint");
        assert!(
            bytes("cut.safetensors") == bytes("whole.safetensors"),
            "the ends differ"
        );
    }
}

#[test]
fn a_new_log_starts_at_the_next_step() {
    let folder = Folder::new();
    let settings = "--quiet --epochs 2 --series-length 1500";
    folder.ok(&format!("train {settings} --log whole.csv"));
    // 20 steps in an epoch: stop after 13 of the second by an error at the log.
    folder.ok(&format!(
        "train {settings} --save c.safetensors --save-every 33 --log first.csv"
    ));
    // `--save` at the end has replaced it: take one from a shorter run's middle.
    let mut trainer = fused_lstm_driver::train::Trainer::new(settings_of(&folder)).unwrap();
    for _ in 0..33 {
        trainer.step().unwrap();
    }
    fused_lstm_driver::checkpoint::save(&trainer, &folder.path("c.safetensors")).unwrap();
    folder.ok("train --quiet --resume c.safetensors --log rest.csv");
    let whole = folder.text("whole.csv");
    let mut lines = whole.lines();
    let rest: Vec<&str> = lines.next().into_iter().chain(lines.skip(33)).collect();
    assert_eq!(folder.text("rest.csv").lines().collect::<Vec<_>>(), rest);
    assert!(rest[1].starts_with("33,1,"));

    // A log that ends before the checkpoint has a gap that must not be hidden.
    let short: Vec<&str> = whole.lines().take(20).collect();
    std::fs::write(folder.path("short.csv"), short.join("\n") + "\n").unwrap();
    folder.fails(
        "train --quiet --resume c.safetensors --log short.csv",
        1,
        &[
            "short.csv",
            "expected step 32 before the checkpoint's, got step 18",
        ],
    );
    assert_eq!(folder.text("short.csv").lines().count(), 20);
}

fn settings_of(folder: &Folder) -> fused_lstm_driver::settings::Settings {
    let trainer = fused_lstm_driver::checkpoint::resume(&folder.path("c.safetensors")).unwrap();
    trainer.settings().clone()
}

#[test]
fn the_checkpoint_brings_its_settings() {
    let folder = Folder::new();
    folder.ok("train --quiet --epochs 1 --series-length 3000 --hidden 5 --save c.safetensors");
    let weights = Weights::open(&folder.path("c.safetensors")).unwrap();
    assert_eq!(
        (weights.hidden.as_slice(), weights.classes),
        (&[5, 5, 5][..], Some(2))
    );
    // The same again is no contradiction, and there is nothing left to do.
    folder.ok("train --resume c.safetensors --hidden 5 --epochs 1");
    for (flag, parts) in [
        (
            "--hidden 4",
            &["--hidden", "checkpoint's [5, 5, 5]", "[4, 4, 4]"][..],
        ),
        ("--epochs 0", &["--epochs", "at least the checkpoint's 1"]),
        ("--optimizer sgd", &["--optimizer", "Adagrad", "Sgd"]),
        ("--seed 3", &["--seed", "checkpoint's 0", "3"]),
        ("--state zero", &["--state", "Carry", "Zero"]),
    ] {
        folder.fails(&format!("train --resume c.safetensors {flag}"), 2, parts);
    }
    folder.ok("train echo --resume c.safetensors");
    let parts = ["--resume", "checkpoint's preset, echo", "got echo-single"];
    folder.fails("train echo-single --resume c.safetensors", 2, &parts);
    folder.fails(
        "train --resume c.safetensors --init c.safetensors",
        2,
        &["--init", "--resume"],
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_after_the_step_and_saves() {
    let folder = Folder::new();
    folder.ok(&format!("train {SETTINGS} --log whole.csv"));
    let arguments = format!("train {SETTINGS} --log cut.csv --save c.safetensors --save-every 1");
    let child = folder
        .command(&arguments)
        .stderr(Stdio::piped())
        .spawn()
        .expect("a start");
    let start = Instant::now();
    while !folder.path("c.safetensors").exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no checkpoint was written"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130));
    assert!(output.stderr.is_empty());
    folder.ok("train --quiet --resume c.safetensors --log cut.csv");
    assert!(
        folder.text("cut.csv") == folder.text("whole.csv"),
        "the logs differ"
    );
}
