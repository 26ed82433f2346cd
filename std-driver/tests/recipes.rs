//! Training by recipes: the jobs through the command, resuming, and bad data.

mod common;

use common::Folder;
use fused_lstm_driver::jobs::Run;
use fused_lstm_driver::recipe::Recipe;
use std::fmt::Write;
use std::path::Path;

/// A folder with a series of two columns, `a` and `b`, and a day that is no number.
fn series() -> Folder {
    let folder = Folder::new();
    let mut text = "day,a,b\n".to_owned();
    for t in 0..160 {
        let t = f64::from(t);
        let (a, b) = (20.0 + 5.0 * (0.4 * t).sin(), (0.4 * t).cos());
        writeln!(text, "d{t},{a:.5},{b:.5}").unwrap();
    }
    write(&folder, "series.csv", &text);
    write(
        &folder,
        "forecast.toml",
        "job = \"forecast\"\n\
         data = { file = \"series.csv\", inputs = [\"a\", \"b\"], targets = [\"a\"], window = 8, horizon = 2 }\n\
         model = { hidden = [8] }\n\
         training = { epochs = 4, learning-rate = 0.01 }\n",
    );
    folder
}

fn write(folder: &Folder, name: &str, text: &str) {
    std::fs::write(folder.path(name), text).expect(name);
}

/// Recordings that rise, fall or stand still, of unequal lengths.
fn recordings() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("recordings")).unwrap();
    let mut labels = "file,label,person\n".to_owned();
    for n in 0..30usize {
        let (class, slope) = [("up", 0.2), ("down", -0.2), ("still", 0.0)][n % 3];
        let mut text = "x\n".to_owned();
        for t in 0..6 + n % 5 {
            let x = slope * t as f64 + 0.05 * ((n * 7 + t * 13) % 11) as f64;
            writeln!(text, "{x:.4}").unwrap();
        }
        write(&folder, &format!("recordings/{n}.csv"), &text);
        writeln!(labels, "{n}.csv,{class},p{}", n / 3 % 5).unwrap();
    }
    write(&folder, "recordings/labels.csv", &labels);
    write(
        &folder,
        "classify.toml",
        "job = \"classify\"\n\
         data = { source = \"recordings\", group-column = \"person\", validation = 0.2, test = 0.2 }\n\
         model = { hidden = [8] }\n\
         training = { epochs = 40, batch = 8, learning-rate = 0.02 }\n",
    );
    folder
}

fn wav(folder: &Folder, name: &str, rate: u32, samples: impl Iterator<Item = f32>) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(folder.path(name), spec).expect(name);
    samples.for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
}

/// A sound, and the same through a soft clip with a little memory.
fn sounds() -> Folder {
    let folder = Folder::new();
    let dry = |t: usize| 0.7 * (t as f32 * 0.13).sin() * (t as f32 * 0.011).sin();
    let wet = |t: usize| (3.0 * dry(t) + 0.5 * dry(t.saturating_sub(1))).tanh() * 0.5;
    wav(&folder, "dry.wav", 48_000, (0..4000).map(dry));
    wav(&folder, "processed.wav", 48_000, (0..4000).map(wet));
    wav(&folder, "short.wav", 48_000, (0..3999).map(wet));
    wav(&folder, "slow.wav", 44_100, (0..4000).map(wet));
    write(
        &folder,
        "audio.toml",
        "job = \"audio\"\n\
         data = { segment = 500 }\n\
         model = { hidden = [4] }\n\
         training = { epochs = 12, batch = 4, truncation = 100, warm-up = 50 }\n",
    );
    folder
}

fn text() -> Folder {
    let folder = Folder::new();
    write(
        &folder,
        "text.txt",
        &"the cat sat on the mat, grün.\n".repeat(60),
    );
    write(
        &folder,
        "text.toml",
        "job = \"text\"\n\
         data = { embedding = 4, sample = 20 }\n\
         model = { hidden = [16] }\n\
         training = { epochs = 12, batch = 4, truncation = 20, learning-rate = 0.02 }\n",
    );
    folder
}

/// The number behind a name in what a command printed.
#[track_caller]
fn number(text: &str, name: &str) -> f64 {
    let at = text
        .find(name)
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    let rest = text[at + name.len()..].trim_start();
    let end = rest.find([',', ' ', '\n']).unwrap_or(rest.len());
    rest[..end]
        .parse()
        .unwrap_or_else(|_| panic!("{name} in {text}"))
}

#[test]
fn a_forecast_is_better_than_the_last_value() {
    let folder = series();
    let printed = folder
        .ok("train forecast.toml --epochs 60 --save m.safetensors --log log.csv --report r.html");
    let test = printed
        .lines()
        .find(|line| line.starts_with("Test: "))
        .unwrap();
    let (own, naive) = (number(test, "RMSE"), number(test, "naive RMSE"));
    assert!(own < 0.2 * naive, "{test}");
    // The model in the file is for numbers as they are: what it was judged by is what it is worth.
    let judged = folder.ok("evaluate --model m.safetensors");
    assert!(
        (number(&judged, "RMSE") - own).abs() < 1e-4,
        "{judged} {test}"
    );
    let json = folder.ok("evaluate --model m.safetensors --data series.csv --json");
    assert!(
        number(&json.replace(['"', ':'], " "), "RMSE") < 0.5,
        "{json}"
    );
    // It is a plain network, which all other commands take.
    let shown = folder.ok("inspect m.safetensors");
    assert!(shown.contains("lstm.0  LSTM   2 -> 8"), "{shown}");
    folder.ok("export --model m.safetensors --format rust --output m.rs");

    let log = folder.text("log.csv");
    let header = "restart,epoch,updates,rate,training,validation,rmse,mae\n";
    assert!(log.starts_with(header), "{log}");
    let page = folder.text("r.html");
    assert!(page.contains("naive RMSE") && page.matches("<svg").count() == 2);
    // It needs nothing but itself.
    let links = page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(links, 0);
    // What is written once may be written again.
    folder.ok("train forecast.toml --epochs 1 --save m.safetensors --log log.csv --report r.html");
}

#[test]
fn classes_are_told_apart() {
    let folder = recordings();
    let printed = folder.ok("train classify.toml --save m.safetensors --report r.html");
    let test = printed
        .lines()
        .find(|line| line.starts_with("Test: "))
        .unwrap();
    assert!(number(test, "accuracy") > 0.8, "{printed}");
    let judged = folder.ok("evaluate --model m.safetensors");
    assert!(judged.contains("down |"), "{judged}");
    assert!(folder.text("r.html").contains("Confusion matrix"));
    // And by weights that the classes balance, smoothed, from both sides.
    let more = "--set loss.class-weights=balanced --set loss.label-smoothing=0.1 --set model.bidirectional=true";
    let printed = folder.ok(&format!("train classify.toml {more} --set data.mean=true"));
    let test = printed.lines().find(|line| line.starts_with("Test: "));
    assert!(number(test.unwrap(), "accuracy") > 0.8, "{printed}");
}

/// The network of the file, for numbers as they are, is worth what training said of the one for
/// standardised numbers.
#[test]
fn what_is_saved_is_what_was_judged() {
    let cases = [
        (series(), "forecast.toml", "RMSE", "--set data.change=true"),
        (
            series(),
            "forecast.toml",
            "RMSE",
            "--set model.layer-norm=true",
        ),
        (
            series(),
            "forecast.toml",
            "MAE",
            "--set data.targets=[\"b\",\"a\"] --set loss.kind=huber --set loss.delta=0.5",
        ),
        (
            recordings(),
            "classify.toml",
            "loss",
            "--set model.bidirectional=true",
        ),
        (
            recordings(),
            "classify.toml",
            "loss",
            "--set model.layer-norm=true --set data.mean=true",
        ),
        (sounds(), "audio.toml", "ESR", ""),
        (
            sounds(),
            "audio.toml",
            "ESR",
            "--set data.skip=false --set model.zoneout-cell=0.1",
        ),
        (text(), "text.toml", "bits per unit", "--layers 2"),
    ];
    for (folder, recipe, name, more) in cases {
        let printed = folder.ok(&format!(
            "train {recipe} --epochs 3 --save m.safetensors {more}"
        ));
        let test = printed
            .lines()
            .find(|line| line.starts_with("Test: "))
            .unwrap();
        let judged = folder.ok("evaluate --model m.safetensors");
        let (own, file) = (number(test, name), number(&judged, name));
        assert!(
            (own - file).abs() < 2e-5 * own.abs().max(1.0),
            "{recipe} {more}: {own} {file}"
        );
        // The best of the validation, not the last.
        let all = folder.ok("evaluate --model m.safetensors --part validation --json");
        assert!(all.contains(name), "{all}");
    }
}

/// A class for every step, from one file with lengths.
#[test]
fn steps_have_classes_too() {
    let folder = Folder::new();
    let (count, steps) = (40, 12);
    let x: Vec<f32> = (0..count * steps)
        .map(|k| ((k * k * 7 + k) % 17) as f32 / 8.5 - 1.0)
        .collect();
    // Whether the step before was above zero.
    let labels: Vec<i32> = (0..count * steps)
        .map(|k| i32::from(k % steps > 0 && x[k - 1] > 0.0))
        .collect();
    let lengths: Vec<i32> = (0..count as i32).map(|n| 5 + n % 8).collect();
    common::write_tensors(
        &folder.path("data.safetensors"),
        &[("x", &[count, steps, 1], &x)],
        &[
            ("labels", &[count, steps], &labels),
            ("lengths", &[count], &lengths),
        ],
    );
    write(
        &folder,
        "steps.toml",
        "job = \"classify\"\ndata = { source = \"data.safetensors\" }\nmodel = { hidden = [8] }\n\
         training = { epochs = 60, learning-rate = 0.02, batch = 8 }\n",
    );
    let printed = folder.ok("train steps.toml");
    let test = printed
        .lines()
        .find(|line| line.starts_with("Test: "))
        .unwrap();
    assert!(number(test, "accuracy") > 0.95, "{printed}");
}

#[test]
fn a_sound_is_learnt() {
    let folder = sounds();
    let printed =
        folder.ok("train audio.toml --save m.safetensors --report r.html --set training.epochs=40");
    let test = printed
        .lines()
        .find(|line| line.starts_with("Test: "))
        .unwrap();
    assert!(number(test, "ESR") < 0.1, "{printed}");
    // The model says its sample rate, and runs on sounds.
    folder.ok("run --model m.safetensors --input dry.wav --output out.wav");
    let rate = hound::WavReader::open(folder.path("out.wav"))
        .unwrap()
        .spec()
        .sample_rate;
    assert_eq!(rate, 48_000);
    folder.fails(
        "run --model m.safetensors --input slow.wav --output o.wav",
        1,
        &["slow.wav", "48000"],
    );
}

#[test]
fn a_text_is_learnt_and_written() {
    let folder = text();
    for more in ["", "--set data.embedding=0", "--set data.unit=byte"] {
        let printed = folder.ok(&format!("train text.toml --save m.safetensors {more}"));
        assert!(number(&printed, "Test: loss") < 0.7, "{printed}");
        let sample =
            |arguments: &str| folder.ok(&format!("sample --model m.safetensors {arguments}"));
        let written = sample("--length 30 --prompt the --temperature 0");
        assert!(
            written.starts_with("the ") && written.chars().count() >= 33,
            "{written}"
        );
        assert_eq!(sample("--seed 4"), sample("--seed 4"));
        assert_ne!(sample("--seed 4"), sample("--seed 5"));
    }
    folder.fails(
        "sample --model m.safetensors --temperature -1",
        2,
        &["--temperature"],
    );
    folder.ok("train text.toml --save m.safetensors --epochs 1");
    folder.fails(
        "sample --model m.safetensors --prompt XYZ",
        2,
        &["--prompt", "X"],
    );
}

/// A trained network goes on with other data.
#[test]
fn a_given_network_is_tuned() {
    let folder = series();
    folder.ok("train forecast.toml --epochs 40 --save first.safetensors");
    folder.ok("train forecast.toml --epochs 1 --learning-rate 1e-6 --save fresh.safetensors");
    let fresh = number(&folder.ok("evaluate --model fresh.safetensors"), "RMSE");
    let printed = folder.ok("train forecast.toml --epochs 1 --init first.safetensors --learning-rate 1e-6 --save second.safetensors");
    let (first, second) = (
        "evaluate --model first.safetensors",
        "evaluate --model second.safetensors",
    );
    let (before, after) = (
        number(&folder.ok(first), "RMSE"),
        number(&folder.ok(second), "RMSE"),
    );
    assert!(
        (before - after).abs() < 0.05 * before,
        "{before} {after} {printed}"
    );
    assert!(before < 0.3 * fresh, "{before} {fresh}");
    folder.ok("train --resume second.safetensors --epochs 2 --save second.safetensors");
    folder.ok("train echo --epochs 1 --save echo.safetensors");
    folder.fails(
        "train forecast.toml --init echo.safetensors",
        1,
        &["echo.safetensors", "2 inputs and 1 outputs"],
    );
}

#[test]
fn what_a_run_reads_and_keeps_is_not_lost() {
    let folder = series();
    folder.ok("train forecast.toml --epochs 2 --save m.safetensors");
    write(&folder, "precious.txt", "mine\n");
    folder.fails(
        "train --resume m.safetensors --epochs 3 --log precious.txt",
        2,
        &["precious.txt"],
    );
    assert_eq!(folder.text("precious.txt"), "mine\n");
    // A validation that is no number ends the run, and the older model stays.
    let before = folder.bytes("m.safetensors");
    let text = folder.text("series.csv");
    let loud: String = text
        .lines()
        .map(|line| {
            if line.starts_with("d120,") {
                "d120,1e30,1e30\n".into()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    write(&folder, "series.csv", &loud);
    folder.fails("train forecast.toml --epochs 2", 1, &["finite validation"]);
    assert!(folder.bytes("m.safetensors") == before);
    // A column that does nearly nothing does not make infinite weights.
    let flat: String = text
        .lines()
        .enumerate()
        .map(|(n, line)| match line.rsplit_once(',') {
            Some((rest, "b")) => format!("{rest},b\n"),
            Some((rest, _)) => format!("{rest},{}\n", if n % 2 == 0 { "1e-40" } else { "0" }),
            None => String::new(),
        })
        .collect();
    write(&folder, "series.csv", &flat);
    folder.ok("train forecast.toml --epochs 2 --save m.safetensors");
    folder.ok("evaluate --model m.safetensors");

    let folder = recordings();
    let labels = folder.text("recordings/labels.csv");
    for file in ["labels.csv", "3.csv"] {
        let save = format!("train classify.toml --force --epochs 1 --save recordings/{file}");
        folder.fails(&save, 2, &[file]);
    }
    assert_eq!(folder.text("recordings/labels.csv"), labels);
}

/// The whole of a run as it is saved, after so many calls of `step` and a new start in between.
fn saved(recipe: &Path, folder: &Folder, cut: Option<usize>, changes: &str) -> Vec<u8> {
    let changes: toml::Table = toml::from_str(changes).unwrap();
    let changes: Vec<_> = changes.into_iter().collect();
    let recipe = Recipe::open(recipe, &changes).unwrap();
    let path = folder.path("run.safetensors");
    let mut run = Run::new(recipe, None).unwrap();
    let mut calls = 0;
    loop {
        if cut == Some(calls) {
            run.save(&path).unwrap();
            run = Run::resume(&path, &[], None).unwrap();
        }
        calls += 1;
        if run.trainer.step().unwrap().is_none() {
            break;
        }
    }
    run.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_run_that_goes_on_is_the_run_that_never_stopped() {
    let cases = [
        (
            series(),
            "forecast.toml",
            "\"training.accumulate\" = 2\n\"training.epochs\" = 3\n\"training.restarts\" = 2",
        ),
        (
            recordings(),
            "classify.toml",
            "\"training.epochs\" = 3\n\"model.dropout\" = 0.3\n\"model.recurrent-dropout\" = 0.2\n\"training.shards\" = 3",
        ),
        (
            sounds(),
            "audio.toml",
            "\"training.epochs\" = 2\n\"model.zoneout-cell\" = 0.1\n\"training.shards\" = 2",
        ),
        (
            recordings(),
            "classify.toml",
            "\"training.epochs\" = 9\n\"training.patience\" = 1\n\"training.learning-rate\" = 0.5\n\"training.restarts\" = 2",
        ),
        (
            text(),
            "text.toml",
            "\"training.epochs\" = 2\n\"model.layer-norm\" = true\n\"training.optimizer\" = \"adamw\"",
        ),
    ];
    for (folder, recipe, changes) in &cases {
        // The recipes name files beside them.
        let recipe_path = folder.path(recipe);
        let text = std::fs::read_to_string(&recipe_path).unwrap();
        let root = recipe_path.parent().unwrap().to_owned();
        let text = absolute(&text, &root);
        std::fs::write(&recipe_path, text).unwrap();
        let whole = saved(&recipe_path, folder, None, changes);
        for cut in [1, 4, 7, 11] {
            let again = saved(&recipe_path, folder, Some(cut), changes);
            assert!(whole == again, "{recipe} cut after {cut}");
        }
    }
}

/// The recipe with its files under `root`.
fn absolute(text: &str, root: &Path) -> String {
    let root = root.display();
    text.replace("\"series.csv\"", &format!("\"{root}/series.csv\""))
        .replace("\"recordings\"", &format!("\"{root}/recordings\""))
        .replace("data = { segment", &format!("data = {{ dry = [\"{root}/dry.wav\"], processed = [\"{root}/processed.wav\"], segment"))
        .replace("data = { embedding", &format!("data = {{ file = \"{root}/text.txt\", embedding"))
}

/// The bits depend on the shards, and not on the threads.
#[test]
fn threads_do_not_matter() {
    let folder = recordings();
    let run = |threads: &str, name: &str| {
        folder.ok(&format!(
            "train classify.toml --epochs 3 --shards 3 --set model.dropout=0.2 --threads {threads} --save {name}"
        ));
        folder.bytes(name)
    };
    assert!(run("1", "a.safetensors") == run("3", "b.safetensors"));
}

#[test]
fn a_run_is_resumed_by_the_command() {
    let folder = series();
    folder.ok("train forecast.toml --epochs 5 --save whole.safetensors --log whole.csv");
    folder.ok("train forecast.toml --epochs 2 --save part.safetensors --log part.csv");
    folder.ok("train --resume part.safetensors --epochs 5 --save part.safetensors --log part.csv");
    assert!(folder.bytes("whole.safetensors") == folder.bytes("part.safetensors"));
    assert_eq!(folder.text("whole.csv"), folder.text("part.csv"));
    // More restarts come behind those that there were.
    let two = "--set training.restarts=2";
    folder.ok(&format!(
        "train forecast.toml --epochs 5 {two} --save whole.safetensors"
    ));
    folder.ok(&format!(
        "train --resume part.safetensors {two} --save part.safetensors"
    ));
    assert!(folder.bytes("whole.safetensors") == folder.bytes("part.safetensors"));
    let refused = ["--batch 5", "--set model.hidden=[9]", "--seed 3"];
    for change in refused {
        folder.fails(
            &format!("train --resume part.safetensors {change}"),
            2,
            &["resume"],
        );
    }
    // Other data is refused, the same elsewhere is not.
    let text = folder.text("series.csv");
    write(&folder, "moved.csv", &text);
    folder.ok("train --resume part.safetensors --epochs 6 --data moved.csv");
    write(&folder, "series.csv", &text.replace("20.00000", "20.10000"));
    folder.fails(
        "train --resume part.safetensors --epochs 6",
        1,
        &["series.csv", "other"],
    );
}

/// The tutorials are recipes too.
#[test]
fn a_preset_is_its_recipe() {
    let folder = Folder::new();
    let recipe = folder.ok("train echo-single --print-recipe --epochs 1 --series-length 2000");
    assert!(
        recipe.starts_with("job = \"echo\"\npreset = \"echo-single\"\n"),
        "{recipe}"
    );
    write(&folder, "echo.toml", &recipe);
    folder.ok("train echo.toml --save a.safetensors");
    folder.ok("train echo-single --epochs 1 --series-length 2000 --save b.safetensors");
    assert!(folder.bytes("a.safetensors") == folder.bytes("b.safetensors"));
    for job in ["forecast", "classify", "audio", "text"] {
        let recipe = folder.ok(&format!("train {job} --print-recipe"));
        write(&folder, "job.toml", &recipe);
        assert_eq!(folder.ok("train job.toml --print-recipe"), recipe);
        folder.fails(&format!("train {job}"), 2, &["--print-recipe"]);
    }
}

#[test]
fn bad_recipes_are_refused_in_one_line() {
    let folder = series();
    let cases: &[(&str, i32, &[&str])] = &[
        ("job = forecast", 1, &["r.toml: line 1"]),
        ("seed = 1", 1, &["r.toml: key job", "got none"]),
        ("job = \"weather\"", 1, &["r.toml: key job", "weather"]),
        ("job = \"forecast\"\nlayers = 1", 1, &["r.toml: key layers"]),
        (
            "job = \"forecast\"\n[data]\nfiles = 1",
            1,
            &["r.toml: data: unknown field `files`"],
        ),
        (
            "job = \"forecast\"\n[training]\nbatch = \"many\"",
            1,
            &["r.toml: training", "many"],
        ),
        (
            "job = \"forecast\"\n[training]\nbatch = 0",
            2,
            &["training.batch"],
        ),
        (
            "job = \"forecast\"\n[training]\nschedule = { kind = \"cosine\", warm-up = 1, least = 2 }",
            2,
            &["training.schedule"],
        ),
        (
            "job = \"forecast\"\n[data]\nvalidation = 0.6\ntest = 0.6",
            2,
            &["data.validation"],
        ),
        (
            "job = \"forecast\"\n[model]\ndropout = 1",
            2,
            &["model.dropout"],
        ),
        (
            "job = \"forecast\"\n[model]\nhidden = [4, 0]",
            2,
            &["model.hidden"],
        ),
        (
            "job = \"forecast\"\n[loss]\nkind = \"huber\"\ndelta = -1",
            2,
            &["loss.delta"],
        ),
    ];
    for (text, code, parts) in cases {
        write(&folder, "r.toml", text);
        folder.fails("train r.toml", *code, parts);
    }
    folder.fails("train nothing.toml", 1, &["nothing.toml: cannot read"]);
    folder.fails("train forecast.toml --echo-step 2", 2, &["--echo-step"]);
    folder.fails(
        "train forecast.toml --set data.wide=1",
        1,
        &["data", "wide"],
    );
    folder.fails("train echo --set training.batch=1", 2, &["--set"]);
    folder.fails(
        "train forecast.toml --set training.epochs.x=1",
        2,
        &["--set", "training.epochs.x"],
    );
    folder.fails("train forecast.toml --set job=text", 2, &["--set", "job"]);
    let both = "train forecast.toml --set model.bidirectional=true --set training.truncation=4";
    folder.fails(both, 2, &["training.truncation"]);
    folder.fails(
        "train forecast.toml --batch 4000 --shards 2000",
        2,
        &["training.shards", "1024"],
    );
    folder.fails(
        "train forecast.toml --plot p.svg",
        2,
        &["--plot", "--report"],
    );
    folder.fails("train echo --report r.html", 2, &["--report"]);
    // What is read is not written.
    folder.fails("train forecast.toml --save series.csv", 2, &["series.csv"]);
    folder.fails(
        "train forecast.toml --save forecast.toml --force",
        2,
        &["forecast.toml"],
    );
    folder.ok("train echo --epochs 1 --series-length 2000 --save echo.safetensors");
    folder.fails(
        "evaluate --model echo.safetensors",
        1,
        &["echo.safetensors", "recipe"],
    );
    folder.fails(
        "sample --model echo.safetensors",
        1,
        &["echo.safetensors", "recipe"],
    );
}

#[test]
fn bad_series_are_refused_in_one_line() {
    let folder = series();
    let good = folder.text("series.csv");
    let with = |change: &dyn Fn(&str) -> String| write(&folder, "series.csv", &change(&good));
    folder.fails(
        "train forecast.toml --set data.inputs=[\"wind\"]",
        1,
        &["series.csv", "a column wind", "day, a, b"],
    );
    folder.fails(
        "train forecast.toml --set data.inputs=[]",
        1,
        &["series.csv: line 2, column day", "d0"],
    );
    with(&|text| text.replace("d7,", "d7,x"));
    folder.fails(
        "train forecast.toml",
        1,
        &["series.csv: line 9, column a: expected a number, got x"],
    );
    with(&|text| text.replace("d7,", "d7,NaN,0\nd8,"));
    folder.fails(
        "train forecast.toml",
        1,
        &["series.csv: line 9, column a", "NaN"],
    );
    with(&|text| text.replace("d7,", "d7,1,"));
    folder.fails(
        "train forecast.toml",
        1,
        &["series.csv: line 9: expected 3 columns", "got 4"],
    );
    with(&|text| {
        text.lines()
            .take(9)
            .map(|line| format!("{line}\n"))
            .collect()
    });
    folder.fails(
        "train forecast.toml",
        1,
        &["series.csv: expected at least 10 rows to train on"],
    );
    with(&|_| "day,a,b\n".into());
    folder.fails("train forecast.toml", 1, &["series.csv", "got 0"]);
    with(&|_| String::new());
    folder.fails("train forecast.toml", 1, &["series.csv", "empty"]);
    with(&|text| {
        text.lines()
            .take(30)
            .map(|line| format!("{line}\n"))
            .collect()
    });
    folder.fails(
        "train forecast.toml --set data.test=0.01",
        1,
        &["series.csv", "test part"],
    );
}

#[test]
fn bad_recordings_are_refused_in_one_line() {
    let folder = recordings();
    let labels = folder.text("recordings/labels.csv");
    let with = |text: &str| write(&folder, "recordings/labels.csv", text);
    folder.fails(
        "train classify.toml --set data.window=9",
        1,
        &["recordings: 0.csv", "9 steps", "got 6"],
    );
    folder.fails(
        "train classify.toml --set data.label-column=name",
        1,
        &["0.csv", "column name"],
    );
    folder.fails(
        "train classify.toml --set data.group-column=team",
        1,
        &["labels.csv", "column team"],
    );
    folder.fails(
        "train classify.toml --set data.test-groups=[\"p9\"]",
        2,
        &["data.test-groups", "p9"],
    );
    folder.fails(
        "train classify.toml --set data.validation=0.001",
        1,
        &["validation part", "got none"],
    );
    let both = "--set data.test-groups=[\"p1\"] --set data.validation-groups=[\"p1\"]";
    folder.fails(
        &format!("train classify.toml {both}"),
        2,
        &["data.test-groups", "p1"],
    );
    folder.fails(
        "train classify.toml --set data.validation-groups=[\"p9\"]",
        2,
        &["data.validation-groups", "p9"],
    );
    folder.fails(
        "train classify.toml --set training.warm-up=2",
        2,
        &["training.warm-up"],
    );
    folder.ok("train classify.toml --epochs 1 --save m.safetensors");
    common::write_tensors(
        &folder.path("none.safetensors"),
        &[("x", &[2, 0, 1], &[])],
        &[("labels", &[2], &[0, 1])],
    );
    folder.fails(
        "evaluate --model m.safetensors --data none.safetensors",
        1,
        &["none.safetensors", "[2, 0, 1]"],
    );
    // One answer for a sequence is not one for each step.
    let forecast = series();
    std::fs::copy(folder.path("m.safetensors"), forecast.path("m.safetensors")).unwrap();
    forecast.fails(
        "train forecast.toml --set data.inputs=[\"a\"] --init m.safetensors",
        1,
        &["m.safetensors", "1 inputs and 1 outputs"],
    );
    with(&labels.replace("down", "up").replace("still", "up"));
    folder.fails(
        "train classify.toml",
        1,
        &["recordings: column label", "two classes", "only up"],
    );
    with("file,label,person\n99.csv,up,p1\n");
    folder.fails("train classify.toml", 1, &["99.csv: cannot read"]);
    with(&labels);
    write(&folder, "recordings/4.csv", "x\n1\n2\nthree\n");
    folder.fails(
        "train classify.toml",
        1,
        &["4.csv: line 4, column x: expected a number, got three"],
    );
    write(&folder, "recordings/4.csv", "y\n1\n");
    folder.fails(
        "train classify.toml",
        1,
        &["4.csv: expected the columns x", "got y"],
    );
    write(&folder, "recordings/4.csv", "x\n");
    folder.fails(
        "train classify.toml",
        1,
        &["4.csv: expected at least one row"],
    );
}

#[test]
fn bad_sounds_and_texts_are_refused_in_one_line() {
    let folder = sounds();
    folder.fails(
        "train audio.toml --set data.processed=[\"short.wav\"]",
        1,
        &["short.wav", "4000 samples", "got 3999"],
    );
    folder.fails(
        "train audio.toml --set data.processed=[\"slow.wav\"]",
        1,
        &["slow.wav", "sample rate of 48000", "got 44100"],
    );
    folder.fails(
        "train audio.toml --set data.processed=[]",
        2,
        &["data.processed"],
    );
    folder.fails(
        "train audio.toml --set training.warm-up=500",
        2,
        &["training.warm-up"],
    );
    folder.fails("train audio.toml --set data.test=0.01", 1, &["test part"]);
    folder.fails(
        "train audio.toml --set data.dry=[\"none.wav\"]",
        1,
        &["none.wav: cannot read"],
    );
    let folder = text();
    std::fs::write(folder.path("text.txt"), b"one\ntwo \xff\n").unwrap();
    folder.fails("train text.toml", 1, &["text.txt: line 2", "UTF-8", "0xff"]);
    write(&folder, "text.txt", "");
    folder.fails("train text.toml", 1, &["text.txt", "got 0"]);
    write(&folder, "text.txt", &"a".repeat(500));
    folder.fails("train text.toml", 1, &["text.txt", "two different units"]);
    write(&folder, "text.txt", &"abcd".repeat(200));
    folder.fails(
        "train text.toml --set model.bidirectional=true",
        2,
        &["model.bidirectional"],
    );
    folder.fails(
        "train text.toml --set training.warm-up=900",
        2,
        &["training.warm-up"],
    );
    write(&folder, "text.txt", "abcab");
    folder.fails("train text.toml", 1, &["text.txt"]);
}
