//! A run that was stopped, killed or interrupted goes on as if nothing had happened.

mod common;

use common::{Folder, write_tensors};
use fused_lstm::optimizer::{Adam, clip_by_global_norm};
use fused_lstm::{Extent, LossGradient, Model, NetworkShape};
use fused_lstm_driver::data::echo_series;
use fused_lstm_driver::parallel::TrainParts;
use fused_lstm_driver::tensors::TensorFile;
use fused_lstm_driver::weights::Weights;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
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
        .interruptible(&arguments)
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

/// A run that goes on with other settings is, from there on, the run that had them: held here
/// against the library, where a trainer takes them over at the same step.
#[test]
fn goes_on_with_changes() {
    let folder = Folder::new();
    let settings = "--quiet --epochs 2 --series-length 1500 --optimizer adam --learning-rate 0.01";
    folder.ok(&format!("train {settings} --save c"));
    // Longer alone is the run that had been longer from the beginning.
    folder.ok(&format!("train {settings} --log whole --save w").replace("epochs 2", "epochs 4"));
    folder.ok(&format!("train {settings} --log l --save c"));
    folder.ok("train --quiet --resume c --epochs 4 --log l --save longer");
    assert!(folder.text("l") == folder.text("whole"));
    assert!(folder.bytes("longer") == folder.bytes("w"));

    for (flags, line) in [
        ("--learning-rate 0.02", "--learning-rate 0.02 (was 0.01)"),
        ("--clip-norm 0.001", "--clip-norm 0.001 (was none)"),
        ("--shards 2", "--shards 2 (was 1)"),
        (
            "--learning-rate 0.02 --clip-norm 0.001 --shards 5",
            "--learning-rate 0.02 (was 0.01), --clip-norm 0.001 (was none), --shards 5 (was 1)",
        ),
    ] {
        let said = folder.ok(&format!("train --resume c --epochs 3 {flags} --save d"));
        let expected = format!("Goes on after step 40 of 60 with --epochs 3 (was 2), {line}\n");
        assert!(said.starts_with(&expected), "{said}");
        // The numbers of every step, by the core's own functions.
        let mut expected = Reference::open(&folder, "c");
        expected.train(20, flags);
        let got = Weights::open(&folder.path("d")).unwrap();
        assert!(got.params == expected.params, "{flags}");
        // Another stop on the way leaves no trace.
        folder.ok(&format!(
            "train --quiet --resume c --epochs 3 {flags} --save e --save-every 7"
        ));
        assert!(folder.bytes("d") == folder.bytes("e"), "{flags}");
    }
    // And back.
    folder.ok("train --quiet --resume c --epochs 3 --clip-norm 0.001 --save d");
    let said = folder.ok("train --resume d --epochs 4 --clip-norm none");
    assert!(said.contains("--clip-norm none (was 0.001)"), "{said}");
    let said = folder.ok("train --resume c");
    assert!(said.starts_with("All 40 steps are done already"), "{said}");
}

/// What `train` does, without it: the echo system's steps from a checkpoint on.
struct Reference {
    params: Vec<f32>,
    slots: Vec<f32>,
    state: Vec<f32>,
    random: ChaCha8Rng,
}

impl Reference {
    fn open(folder: &Folder, name: &str) -> Self {
        let file = TensorFile::open(&folder.path(name)).unwrap();
        let all = |prefix: &str| -> Vec<f32> {
            let layers = [
                "0.kernel", "0.bias", "1.kernel", "1.bias", "2.kernel", "2.bias",
            ];
            let layers = layers.map(|key| format!("{prefix}lstm.{key}"));
            let head = ["kernel", "bias"].map(|key| format!("{prefix}dense.{key}"));
            let keys = layers.into_iter().chain(head);
            keys.flat_map(|key| file.f32(&key).unwrap().1).collect()
        };
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let [low, high, _, _] = file.u64("random").unwrap();
        random.set_word_pos(u128::from(low) | u128::from(high) << 64);
        Self {
            params: all(""),
            slots: [all("optimizer.0."), all("optimizer.1.")].concat(),
            state: Vec::new(),
            random,
        }
    }

    /// An epoch of so many steps, after two others of as many.
    fn train(&mut self, steps: usize, flags: &str) {
        let value = |flag: &str| {
            let mut words = flags.split_whitespace();
            words.find(|word| *word == flag).and_then(|_| words.next())
        };
        let number = |flag: &str| value(flag).map(|text| text.parse::<f32>().unwrap());
        let adam = Adam::tensorflow(number("--learning-rate").unwrap_or(0.01));
        let shards = number("--shards").unwrap_or(1.0) as usize;
        let shape = NetworkShape::new(1, &[4; 3]).with_head(2);
        let extent = Extent {
            steps: 15,
            batch: 5,
        };
        let series = echo_series(&mut self.random, 1500, 3);
        self.state = vec![0.0; shape.state_len(5)];
        let (mut x, mut labels) = (vec![0.0; 75], vec![0; 75]);
        let mut probabilities = vec![0.0; 150];
        for step in 0..steps {
            series.batch(extent, step, &mut x, &mut labels);
            let mut gradients = vec![0.0; self.params.len()];
            let model = Model::new(shape, &self.params).unwrap();
            let state = &mut self.state;
            if shards > 1 {
                let mut parts = TrainParts::new(shape, extent, shards);
                let all = (&mut gradients, &mut probabilities);
                parts
                    .loss_gradient(model, &x, &labels, state, all.0, all.1)
                    .unwrap();
            } else {
                let mut cache = vec![0.0; shape.cache_len(extent)];
                let mut workspace = vec![0.0; shape.workspace_len(extent)];
                let all = (&mut gradients, &mut probabilities);
                model
                    .loss_gradient(
                        extent,
                        &labels,
                        LossGradient {
                            x: &x,
                            state,
                            gradients: all.0,
                            outputs: all.1,
                            cache: &mut cache,
                            workspace: &mut workspace,
                        },
                    )
                    .unwrap();
            }
            if let Some(norm) = number("--clip-norm") {
                clip_by_global_norm(&mut gradients, norm).unwrap();
            }
            let count = 2 * steps + step + 1;
            adam.update(count as u32, &mut self.params, &gradients, &mut self.slots)
                .unwrap();
        }
    }
}

/// Data may move, but not change.
#[test]
fn data_is_known_again() {
    let folder = Folder::new();
    let bits = |seed: usize| -> Vec<i32> {
        let bit = |k: usize| (k * k * seed / 7 + k / 3) as i32 & 1;
        (0..1500).map(bit).collect()
    };
    let write = |name: &str, rows: usize, bits: &[i32]| {
        let shape = [rows, 300];
        let bits = &bits[..rows * 300];
        write_tensors(
            &folder.path(name),
            &[],
            &[("x", &shape, bits), ("y", &shape, bits)],
        );
    };
    let (data, other) = (bits(3), bits(5));
    write("d", 4, &data);
    folder.ok("train --quiet --epochs 4 --data d --save whole");
    folder.ok("train --quiet --epochs 2 --data d --save c");
    let resume = "train --quiet --resume c --save r";
    // Random bits are other data.
    folder.ok("train --quiet --epochs 1 --series-length 300 --save random");
    let other_data = "train --quiet --resume random --epochs 2 --data d";
    folder.fails(other_data, 2, &["--data", "checkpoint's None"]);
    // Read once, so that a pipe will do; of another length it is not what it was.
    let piped = folder.bash("cat d | \"$FL\" train --quiet --epochs 4 --data /dev/stdin --save p");
    assert!(piped.status.success(), "{piped:?}");
    assert!(
        Weights::open(&folder.path("p")).unwrap().params
            == Weights::open(&folder.path("whole")).unwrap().params
    );
    let long = [1, 301];
    let bits = vec![1; 301];
    write_tensors(
        &folder.path("long"),
        &[],
        &[("x", &long, &bits), ("y", &long, &bits)],
    );
    folder.fails(
        &format!("{resume} --data long"),
        1,
        &["long: key x", "got [1, 301]"],
    );
    // In another place, with more epochs in it.
    std::fs::create_dir(folder.path("elsewhere")).unwrap();
    std::fs::rename(folder.path("d"), folder.path("elsewhere/e")).unwrap();
    folder.fails(
        resume,
        1,
        &["d: cannot read", "--data FILE says where it is now"],
    );
    folder.ok(&format!("{resume} --epochs 4 --data elsewhere/e"));
    let params = |name| Weights::open(&folder.path(name)).unwrap().params;
    assert!(params("r") == params("whole"));
    // Only the epochs that were used have to be there.
    write("d", 2, &data);
    folder.ok(resume);
    write("d", 4, &other);
    folder.fails(
        resume,
        1,
        &["d: expected the data that c was trained on, got other"],
    );
    let mut changed = data.clone();
    changed[599] ^= 1;
    write("d", 2, &changed);
    folder.fails(resume, 1, &["d: expected the data"]);
    changed[599] ^= 1;
    changed[601] ^= 1;
    write("d", 4, &changed);
    folder.ok(&format!("{resume} --epochs 3"));
}
