//! Samples of WAV files.

use crate::{Error, memory};
use hound::{SampleFormat, WavReader, WavSpec};
use std::fmt::Display;
use std::io::Read;
use std::path::Path;

/// The samples of all channels in turn, full scale being 1; `bytes` is how many the file has, and `path`
/// what errors name.
pub(crate) fn read(path: &Path, file: impl Read, bytes: u64) -> Result<(WavSpec, Vec<f32>), Error> {
    let refuse = |e: &dyn Display| Error::file(path, format!("expected a WAV file, got: {e}"));
    let reader = WavReader::new(file).map_err(|e| refuse(&e))?;
    let spec = reader.spec();
    // A header may promise more than the file has.
    if spec.channels == 0 || u64::from(reader.len()) > bytes {
        return Err(refuse(&"a header that does not fit the file"));
    }
    let mut values = memory::reserve(reader.len() as usize)?;
    match spec.sample_format {
        SampleFormat::Float => {
            for sample in reader.into_samples::<f32>() {
                values.push(sample.map_err(|e| refuse(&e))?);
            }
        }
        SampleFormat::Int => {
            let scale = 1.0 / (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            for sample in reader.into_samples::<i32>() {
                values.push(sample.map_err(|e| refuse(&e))? as f32 * scale);
            }
        }
    }
    Ok((spec, values))
}
