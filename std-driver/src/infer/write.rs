//! The output of a run: safetensors with all that there is, or one sequence as WAV, NPY or CSV.

use crate::header::RUN_OUTPUT;
use crate::tensors::{self, NamedTensor};
use crate::{Error, files, npy};
use std::io::{Cursor, Write};
use std::path::Path;

/// What a file's name asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Tensors,
    Wav,
    Npy,
    Csv,
}

impl Kind {
    pub(super) fn of(path: &Path) -> Self {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("wav") => Self::Wav,
            Some("npy") => Self::Npy,
            Some("csv") => Self::Csv,
            _ => Self::Tensors,
        }
    }
}

/// Writes the outputs; a file of one sequence takes the logits, or the last of those that there are.
pub(super) fn write(path: &Path, results: &[NamedTensor], sample_rate: u32) -> Result<(), Error> {
    let kind = Kind::of(path);
    if kind == Kind::Tensors {
        return tensors::write(path, results, Some(RUN_OUTPUT.into()));
    }
    let logits = results.iter().find(|tensor| tensor.name == "logits");
    let last = || {
        let mut all = results.iter();
        all.rfind(|tensor| !tensor.name.starts_with("state."))
    };
    let sequence = logits.or_else(last).and_then(|tensor| tensor.numbers());
    let Some((shape, values)) = sequence else {
        return Err(Error::setting("outputs", "one sequence to write", "none"));
    };
    let [_, batch, width] = shape[..] else {
        return Err(Error::file(
            path,
            format!("cannot be written: shape {shape:?}"),
        ));
    };
    let bytes = match kind {
        Kind::Npy => npy::bytes(shape, values),
        Kind::Csv => {
            if batch != 1 {
                let got = format!("{batch} rows");
                return Err(Error::setting(
                    "output",
                    "a CSV of one row, or another kind of file",
                    got,
                ));
            }
            let mut text = Vec::new();
            let names: Vec<_> = (0..width).map(|column| format!("y{column}")).collect();
            let _ = writeln!(text, "{}", names.join(","));
            for row in values.chunks_exact(width.max(1)) {
                let row: Vec<_> = row.iter().map(f32::to_string).collect();
                let _ = writeln!(text, "{}", row.join(","));
            }
            text
        }
        _ => wav(path, batch * width, values, sample_rate)?,
    };
    files::replace(path, &bytes)
}

/// Samples of 32 bits, floating-point: nothing is clipped.
fn wav(path: &Path, channels: usize, values: &[f32], sample_rate: u32) -> Result<Vec<u8>, Error> {
    let refuse = |e: hound::Error| Error::file(path, format!("cannot be written: {e}"));
    let channels = u16::try_from(channels)
        .map_err(|_| Error::file(path, format!("cannot be written: {channels} channels")))?;
    let spec = hound::WavSpec {
        channels,
        sample_rate,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).map_err(refuse)?;
    for &value in values {
        writer.write_sample(value).map_err(refuse)?;
    }
    writer.finalize().map_err(refuse)?;
    Ok(bytes.into_inner())
}
