//! The commands about networks of other systems: import, inspect, verify.

use crate::args::{Import, Inspect, Quantize, Reading, ReturnsName, StorageName, Verify};
use crate::complain;
use crate::end::End;
use clap::ValueEnum;
use fused_lstm::{Extent, Returns, Storage};
use fused_lstm_driver::chain::{ChainModel, Network, Runner, sample_rate};
use fused_lstm_driver::describe::{self, Costs, Row};
use fused_lstm_driver::files::{Uses, Written};
use fused_lstm_driver::import::{self, Format, Options};
use fused_lstm_driver::infer;
use fused_lstm_driver::quantize::{self, Calibration, Difference};
use fused_lstm_driver::tensors::TensorFile;
use fused_lstm_driver::verify::{self, Output};
use fused_lstm_driver::{Error, one_line};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

fn options(reading: &Reading) -> Result<Options, Error> {
    let numbers = [
        ("hard-sigmoid", reading.hard_sigmoid),
        ("forget-bias", reading.forget_bias),
    ];
    for (flag, number) in numbers {
        if let Some(got) = number.filter(|number| !number.is_finite()) {
            let expected = "a finite number".into();
            let got = got.to_string();
            return Err(Error::Setting {
                flag,
                expected,
                got,
            });
        }
    }
    Ok(Options {
        part: reading.part.clone(),
        forget_bias: reading.forget_bias,
        returns: reading.returns.map(|returns| match returns {
            ReturnsName::Sequence => Returns::Sequence,
            ReturnsName::Last => Returns::Last,
            ReturnsName::Mean => Returns::Mean,
        }),
        hard_sigmoid: reading.hard_sigmoid,
        then: reading.then.clone(),
    })
}

fn format(reading: &Reading) -> Option<Format> {
    reading.format.and_then(|format| format.0)
}

fn name(format: Format) -> String {
    let value = format.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

/// Prints to standard output. A reader that has closed the pipe has seen enough.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Io {
            path: "standard output".into(),
            action: "write",
            source: error,
        }),
        _ => Ok(()),
    }
}

pub fn import(import: &Import) -> Result<(), Error> {
    if import.file.is_dir() {
        return Err(Error::Setting {
            flag: "FILE",
            expected: "a file".into(),
            got: format!("{}, a folder", import.file.display()),
        });
    }
    let output = import.output.clone().unwrap_or_else(|| {
        let stem = import.file.file_stem().unwrap_or_default();
        PathBuf::from(stem).with_extension("safetensors")
    });
    let uses = Uses {
        read: &[("FILE", &import.file)],
        written: &[Written {
            flag: "output",
            path: &output,
            contents: None,
        }],
        force: import.force,
    };
    uses.check()?;
    let options = options(&import.reading)?;
    let mut found = import::look(&import.file, format(&import.reading), &options)?;
    let mut model = import::assemble(&import.file, &mut found, &options)?;
    if let Some(steps) = import.prewarm {
        prewarm(&mut model, steps)?;
    }
    let costs = costs_text(&describe::costs(&model));
    model.write_plainly(&output)?;
    let mut text = format!(
        "{}: {}\n\n",
        one_line(import.file.display()),
        name(found.format)
    );
    text += &describe::table(&describe::stages(&model));
    text.push('\n');
    for note in &found.notes {
        text += &format!("- {}.\n", one_line(note.trim_end_matches('.')));
    }
    if let Some(rate) = model.sample_rate {
        text += &format!("- {rate} samples a second.\n");
    }
    if let Some(steps) = import.prewarm {
        text += &format!("- It starts from the state after {steps} zero inputs.\n");
    }
    text += &format!("\n{}Written to {}.\n", costs, one_line(output.display()));
    print(&text)
}

/// The state after so many zero inputs becomes the one to start from.
fn prewarm(model: &mut ChainModel, steps: usize) -> Result<(), Error> {
    /// Ten minutes of audio, far beyond any state's memory.
    const MOST: usize = 1 << 25;
    if steps > MOST {
        let expected = format!("at most {MOST} steps");
        return Err(Error::Setting {
            flag: "prewarm",
            expected,
            got: steps.to_string(),
        });
    }
    let mut runner = Runner::new(model)?;
    if !runner.is_causal() {
        return Err(Error::Setting {
            flag: "prewarm",
            expected: "a network that takes its steps one after the other".into(),
            got: "one that looks ahead".into(),
        });
    }
    let mut state = runner.start(1)?;
    // Few enough numbers, however wide the input is.
    let most = ((1 << 16) / model.inputs).clamp(1, 1 << 12);
    let zeros = vec![0.0; most * model.inputs];
    let mut left = steps;
    while left > 0 {
        let now = left.min(most);
        let extent = Extent {
            steps: now,
            batch: 1,
        };
        runner.run(extent, &zeros[..now * model.inputs], &mut state)?;
        left -= now;
    }
    model.start = Some(state);
    Ok(())
}

fn costs_text(costs: &Costs) -> String {
    format!(
        "{} parameters, {} bytes; {} multiply-adds a step; {} numbers of state.\n\
         Exported: {} bytes of flash for the weights, {} bytes of RAM for a step.\n",
        costs.parameters,
        costs.bytes,
        costs.multiply_adds,
        costs.state,
        costs.flash_bytes,
        costs.ram_bytes
    )
}

/// What `inspect --json` prints.
#[derive(Serialize)]
struct Inspection {
    format: String,
    layers: Vec<Row>,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    costs: Option<Costs>,
    /// Why it cannot be imported as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub fn inspect(inspect: &Inspect) -> Result<(), Error> {
    let found = match own(&inspect.file)? {
        Some((model, rate)) => Inspection {
            format: "fused-lstm".into(),
            layers: describe::stages(&model),
            notes: match &model.start {
                Some(_) => vec!["It has a state to start from".into()],
                None => Vec::new(),
            },
            sample_rate: rate,
            costs: Some(describe::costs(&model)),
            problem: None,
        },
        None => {
            let options = options(&inspect.reading)?;
            let mut found = import::look(&inspect.file, format(&inspect.reading), &options)?;
            let layers = describe::layers(&found.layers);
            let model = import::assemble(&inspect.file, &mut found, &options);
            let (costs, problem) = match model {
                Ok(model) => (Some(describe::costs(&model)), None),
                Err(error) => (None, Some(error.to_string())),
            };
            Inspection {
                format: name(found.format),
                layers,
                notes: found.notes,
                sample_rate: found.sample_rate,
                costs,
                problem,
            }
        }
    };
    if inspect.json {
        return print_json(&found);
    }
    let mut text = format!("{}: {}\n\n", one_line(inspect.file.display()), found.format);
    text += &describe::table(&found.layers);
    text.push('\n');
    for note in &found.notes {
        text += &format!("- {}.\n", one_line(note.trim_end_matches('.')));
    }
    if let Some(rate) = found.sample_rate {
        text += &format!("- {rate} samples a second.\n");
    }
    if let Some(costs) = &found.costs {
        text += &format!("\n{}", costs_text(costs));
    }
    if let Some(problem) = &found.problem {
        text += &format!("\nNot to be imported as it is: {problem}\n");
    }
    print(&text)
}

/// A file of this project's, if it is one, and its samples a second.
fn own(path: &Path) -> Result<Option<(ChainModel, Option<f64>)>, Error> {
    let Ok(file) = TensorFile::open(path) else {
        return Ok(None);
    };
    if ChainModel::is(&file) || file.has("lstm.0.kernel") {
        let rate = sample_rate(&file);
        return Ok(Some((Network::read(&file)?.into_chain(), rate)));
    }
    Ok(None)
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => Err(Error::Io {
            path: "standard output".into(),
            action: "write",
            source: error.into(),
        }),
    }
}

/// What `verify --json` prints.
#[derive(Serialize)]
struct Verified<'a> {
    good: bool,
    tolerance: f32,
    outputs: Vec<VerifiedOutput<'a>>,
    passed_over: &'a [String],
    mistakes: Vec<VerifiedMistake<'a>>,
}

#[derive(Serialize)]
struct VerifiedOutput<'a> {
    key: &'a str,
    largest: f32,
    place: &'a [usize],
    got: f32,
    expected: f32,
}

#[derive(Serialize)]
struct VerifiedMistake<'a> {
    name: &'a str,
    largest: f32,
}

pub fn verify(verify: &Verify) -> Result<End, Error> {
    if verify.tolerance.is_nan() || verify.tolerance < 0.0 {
        return Err(Error::Setting {
            flag: "tolerance",
            expected: "a number of 0 or more".into(),
            got: verify.tolerance.to_string(),
        });
    }
    let model = import::open_model(&verify.model)?.into_chain();
    let reference = TensorFile::open(&verify.reference)?;
    let options = verify::Options {
        tolerance: verify.tolerance,
    };
    let report = verify::verify(&model, &reference, &options)?;
    let good = report.is_good(&options);
    if verify.json {
        print_json(&Verified {
            good,
            tolerance: verify.tolerance,
            outputs: report.outputs.iter().map(verified).collect(),
            passed_over: &report.passed_over,
            mistakes: report
                .mistakes
                .iter()
                .map(|mistake| VerifiedMistake {
                    name: &mistake.name,
                    largest: mistake.largest,
                })
                .collect(),
        })?;
    } else {
        print(&text(&report, &options))?;
    }
    if good {
        return Ok(End::Done);
    }
    let worst = report
        .outputs
        .iter()
        .max_by(|a, b| order(a).total_cmp(&order(b)));
    if let Some(worst) = worst {
        complain(&format!(
            "error: {}: key {}: expected {} at {:?}, got {}, {:e} apart",
            one_line(verify.reference.display()),
            one_line(&worst.key),
            worst.expected,
            worst.place,
            worst.got,
            worst.largest
        ));
    }
    Ok(End::Failed)
}

/// NaN is the worst.
fn order(output: &Output) -> f32 {
    if output.largest.is_nan() {
        f32::INFINITY
    } else {
        output.largest
    }
}

fn verified(output: &Output) -> VerifiedOutput<'_> {
    VerifiedOutput {
        key: &output.key,
        largest: output.largest,
        place: &output.place,
        got: output.got,
        expected: output.expected,
    }
}

fn text(report: &verify::Report, options: &verify::Options) -> String {
    let mut text = String::new();
    let widths = report
        .outputs
        .iter()
        .map(|output| one_line(&output.key).chars().count());
    let width = widths.max().unwrap_or(0).max(6);
    text += &format!("{:<width$}  largest difference  at\n", "output");
    for output in &report.outputs {
        let largest = format!("{:.2e}", output.largest);
        let key = one_line(&output.key);
        text += &format!("{key:<width$}  {largest:<18}  {:?}\n", output.place);
    }
    if !report.passed_over.is_empty() {
        let keys = one_line(report.passed_over.join(", "));
        text += &format!("Not compared: {keys}.\n");
    }
    if report.is_good(options) {
        text += &format!("All within {:e}.\n", options.tolerance);
        return text;
    }
    text += &format!("Not within {:e}.\n", options.tolerance);
    match &report.mistakes[..] {
        [] => text += "None of the usual mistakes explains it.\n",
        mistakes => {
            for mistake in mistakes {
                text += &format!(
                    "Likely: {}: undone, it fits to {:.2e}.\n",
                    mistake.name, mistake.largest
                );
            }
        }
    }
    text
}

pub fn quantize(quantize: &Quantize) -> Result<(), Error> {
    let calibrate = quantize.calibrate.as_deref();
    let mut read: Vec<(&str, &Path)> = vec![("model", &quantize.model)];
    read.extend(calibrate.map(|path| ("calibrate", path)));
    let uses = Uses {
        read: &read,
        written: &[Written {
            flag: "output",
            path: &quantize.output,
            contents: None,
        }],
        force: quantize.force,
    };
    uses.check()?;
    let network = import::open_model(&quantize.model)?;
    if let Network::Plain(weights) = &network
        && let Some(start) = weights.start.as_ref().filter(|start| start.batch > 1)
    {
        return Err(Error::Setting {
            flag: "model",
            expected: "a state of one row to start from, or none".into(),
            got: format!("one of {} rows", start.batch),
        });
    }
    let mut model = network.into_chain();
    model.sample_rate = sample_rate(&TensorFile::open(&quantize.model)?);
    let data = calibrate
        .map(|path| infer::Inputs::read(path, &model, quantize.batch_first))
        .transpose()?;
    let calibration = data.as_ref().map(|data| Calibration {
        extent: data.extent,
        x: &data.x,
        lengths: data.lengths.as_deref(),
        labels: data
            .labels
            .as_ref()
            .map(|(shape, labels)| (&shape[..], &labels[..])),
    });
    let storage = match quantize.to {
        StorageName::F16 => Storage::F16,
        StorageName::Int8 => Storage::Int8,
    };
    let quantized = quantize::quantize(&model, storage, calibration);
    let (narrow, report) = quantized.map_err(|error| match (error, calibrate) {
        (Error::Shape(error), Some(path)) => Error::Setting {
            flag: "calibrate",
            expected: format!("inputs of the model in {}", path.display()),
            got: error.to_string(),
        },
        (error, _) => error,
    })?;
    narrow.write(&quantize.output)?;
    if quantize.json {
        return print_json(&report);
    }
    let mut text = String::new();
    // Of one number there is no range.
    let of_range = |d: &Difference| match d.range {
        0.0 => String::new(),
        range => format!(", {:.2} % of its range", 100.0 * d.largest / range),
    };
    for layer in &report.layers {
        text += &one_line(&layer.name);
        if let Some(range) = layer.range {
            text += &format!(": inputs up to {range:.4}");
        }
        text += &format!(
            "; weights off by up to {:.3} % of the largest",
            100.0 * layer.weights
        );
        if let Some(d) = &layer.outputs {
            let (largest, rms, range) = (d.largest, d.rms, of_range(d));
            text += &format!("; output off by up to {largest:.2e}{range}; {rms:.2e} on average");
        }
        text += ".\n";
    }
    if let Some(d) = &report.output {
        let (largest, rms, range) = (d.largest, d.rms, of_range(d));
        text += &format!("Output: off by up to {largest:.2e}{range}; {rms:.2e} on average.\n");
    }
    if let Some(same) = report.same_decisions {
        text += &format!("The same decision on {:.2} % of the rows.\n", 100.0 * same);
    }
    if let Some([before, after]) = report.accuracy {
        text += &format!(
            "Accuracy: {:.2} % before, {:.2} % after.\n",
            100.0 * before,
            100.0 * after
        );
    }
    let [before, after] = report.bytes;
    text += &format!(
        "{before} bytes before, {after} after. Written to {}.\n",
        one_line(quantize.output.display())
    );
    print(&text)
}
