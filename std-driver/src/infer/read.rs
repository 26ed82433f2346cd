//! The input of a run: safetensors as it is, and WAV, NPY and CSV as a tensor `x`.

use crate::import::Source;
use crate::tensors::TensorFile;
use crate::{Error, npy, wav};
use std::path::Path;

/// An input that was read.
pub(super) struct Input {
    pub(super) tensors: TensorFile,
    /// Samples a second, of a WAV.
    pub(super) sample_rate: Option<u32>,
}

/// Reads a file by its content; `inputs` is the model's width.
pub(super) fn read(path: &Path, inputs: usize) -> Result<Input, Error> {
    let mut first = [0; 8];
    let beginning = {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(Error::io(path, "read"))?;
        let regular = file.metadata().map_err(Error::io(path, "read"))?.is_file();
        // What comes through a pipe can be read once: it is safetensors.
        if !regular {
            return plain(TensorFile::open(path)?);
        }
        let mut len = 0;
        while len < first.len() {
            match file
                .read(&mut first[len..])
                .map_err(Error::io(path, "read"))?
            {
                0 => break,
                n => len += n,
            }
        }
        &first[..len]
    };
    if beginning.starts_with(b"RIFF") {
        return sound(path, inputs);
    }
    if beginning.starts_with(b"\x93NUMPY") {
        let (shape, values) = npy::read(path, Source::open(path)?.bytes())?;
        let shape = match shape[..] {
            [steps] => vec![steps, 1, 1],
            // Steps and columns, or indices of several rows.
            [steps, width] if width == inputs => vec![steps, 1, width],
            [steps, batch] if inputs == 1 => vec![steps, batch, 1],
            _ => shape,
        };
        return plain(TensorFile::of_f32(path, "x", &shape, &values)?);
    }
    // The first eight bytes of safetensors are a length, with zeros among them.
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n' | 0x80..);
    if !beginning.is_empty() && beginning.iter().all(is_text) {
        return csv(path, inputs);
    }
    plain(TensorFile::open(path)?)
}

fn plain(tensors: TensorFile) -> Result<Input, Error> {
    Ok(Input {
        tensors,
        sample_rate: None,
    })
}

/// The channels of a WAV: rows of a model with one input, else its inputs.
fn sound(path: &Path, inputs: usize) -> Result<Input, Error> {
    let file = std::fs::File::open(path).map_err(Error::io(path, "read"))?;
    let bytes = file.metadata().map_err(Error::io(path, "read"))?.len();
    let (spec, values) = wav::read(path, std::io::BufReader::new(file), bytes)?;
    let channels = usize::from(spec.channels);
    let steps = values.len() / channels;
    let shape = match inputs {
        1 => [steps, channels, 1],
        inputs if inputs == channels => [steps, 1, channels],
        inputs => {
            let problem = format!("expected {inputs} channels, one for each input, got {channels}");
            return Err(Error::file(path, problem));
        }
    };
    Ok(Input {
        tensors: TensorFile::of_f32(path, "x", &shape, &values)?,
        sample_rate: Some(spec.sample_rate),
    })
}

/// A line for each step, with a column for each input; a first line of names is passed over.
fn csv(path: &Path, inputs: usize) -> Result<Input, Error> {
    let refuse = |e: csv::Error| match e.into_kind() {
        csv::ErrorKind::Io(e) => Error::io(path, "read")(e),
        csv::ErrorKind::Utf8 { .. } => {
            Error::file(path, "expected CSV, got text that is not UTF-8")
        }
        _ => Error::file(path, "expected CSV, got another file"),
    };
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .flexible(true)
        .from_path(path);
    let mut reader = reader.map_err(refuse)?;
    let mut values = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut line = 0;
    while reader.read_record(&mut record).map_err(refuse)? {
        line += 1;
        let numbers = record.iter().map(str::parse::<f32>);
        if line == 1 && numbers.clone().any(|number| number.is_err()) {
            continue;
        }
        if record.len() != inputs {
            let got = record.len();
            return Err(Error::file(
                path,
                format!("line {line}: expected {inputs} columns, got {got}"),
            ));
        }
        for (column, (number, text)) in numbers.zip(&record).enumerate() {
            match number {
                Ok(number) if number.is_finite() => values.push(number),
                _ => {
                    let problem = format!(
                        "line {line}, column {}: expected a finite number, got {text}",
                        column + 1
                    );
                    return Err(Error::file(path, problem));
                }
            }
        }
    }
    let shape = [values.len() / inputs.max(1), 1, inputs];
    plain(TensorFile::of_f32(path, "x", &shape, &values)?)
}
