//! Series of bits and their echoes, and the batches that are cut from them.

use crate::Error;
use crate::memory::reserve;
use crate::tensors::TensorFile;
use fused_lstm::Extent;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::path::Path;

/// One epoch's data: numbers, and the label of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The input.
    pub x: Vec<f32>,
    /// Class labels.
    pub labels: Vec<u32>,
}

/// Uniform bits; the label of a bit is the bit `echo_step` places before it, and 0
/// for the first ones.
///
/// ```
/// use fused_lstm_driver::data::echo_series;
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
///
/// let series = echo_series(&mut ChaCha8Rng::seed_from_u64(1), 100, 3);
/// assert_eq!(series.labels[..3], [0, 0, 0]);
/// assert_eq!(series.labels[3], series.x[0] as u32);
/// ```
pub fn echo_series(random: &mut ChaCha8Rng, length: usize, echo_step: usize) -> Series {
    let bits: Vec<u32> = (0..length).map(|_| random.next_u32() >> 31).collect();
    let labels = (0..length)
        .map(|k| k.checked_sub(echo_step).map_or(0, |k| bits[k]))
        .collect();
    Series {
        x: bits.into_iter().map(|bit| bit as f32).collect(),
        labels,
    }
}

impl Series {
    /// Batch `index` of the series as rows `[B, length / B]`: columns from
    /// `index`·T, time-major. `x` and `labels` `[T, B]` are overwritten.
    ///
    /// ```
    /// use fused_lstm::Extent;
    /// use fused_lstm_driver::data::Series;
    ///
    /// let series = Series { x: (0..8u8).map(f32::from).collect(), labels: vec![0; 8] };
    /// let (mut x, mut labels) = ([0.0; 4], [0; 4]);
    /// series.batch(Extent { steps: 2, batch: 2 }, 1, &mut x, &mut labels);
    /// assert_eq!(x, [2.0, 6.0, 3.0, 7.0]);
    /// ```
    pub fn batch(&self, extent: Extent, index: usize, x: &mut [f32], labels: &mut [u32]) {
        let Extent { steps, batch } = extent;
        let row = self.x.len() / batch;
        let times = x
            .chunks_exact_mut(batch)
            .zip(labels.chunks_exact_mut(batch));
        for (t, (x, labels)) in times.take(steps).enumerate() {
            for (b, (x, label)) in x.iter_mut().zip(labels).enumerate() {
                let place = b * row + index * steps + t;
                (*x, *label) = (self.x[place], self.labels[place]);
            }
        }
    }
}

/// Given data: one series for each epoch.
#[derive(Clone, Debug)]
pub struct GivenData {
    epochs: Vec<Series>,
    /// Of all of them.
    digest: [u64; 2],
}

impl GivenData {
    /// Reads `x` and `y`, both int32 `[epochs or more, length]`; the labels `y` are 0
    /// or 1.
    pub fn open(path: &Path, epochs: u64) -> Result<Self, Error> {
        Self::read(&TensorFile::open(path)?, epochs)
    }

    /// The same of a file that was read.
    pub fn read(file: &TensorFile, epochs: u64) -> Result<Self, Error> {
        let path = file.path();
        file.only_keys(|key| key == "x" || key == "y", "x and y")?;
        let (x_shape, x) = file.i32_values("x")?;
        let (y_shape, y) = file.i32_values("y")?;
        let &[rows, length] = x_shape else {
            let problem = format!("key x: expected shape [epochs, length], got {x_shape:?}");
            return Err(Error::file(path, problem));
        };
        if y_shape != x_shape {
            let problem = format!("key y: expected the shape of x, {x_shape:?}, got {y_shape:?}");
            return Err(Error::file(path, problem));
        }
        if length == 0 || (rows as u64) < epochs {
            let problem = format!(
                "key x: expected at least {epochs} rows (--epochs) of at least 1 number, got {x_shape:?}"
            );
            return Err(Error::file(path, problem));
        }
        if let Some((k, got)) = y.iter().enumerate().find(|(_, y)| !(0..2).contains(y)) {
            let (row, column) = (k / length, k % length);
            let problem = format!("key y: expected labels 0 or 1, got {got} at [{row}, {column}]");
            return Err(Error::file(path, problem));
        }
        let epochs = usize::try_from(epochs).unwrap_or(usize::MAX);
        let mut all = reserve(epochs.min(rows))?;
        for start in (0..x.len()).step_by(length).take(epochs) {
            let mut series = Series {
                x: reserve(length)?,
                labels: reserve(length)?,
            };
            let x = x.part(start, length).iter();
            series.x.extend(x.map(|x| x as f32));
            let labels = y.part(start, length).iter();
            series.labels.extend(labels.map(|label| label as u32));
            all.push(series);
        }
        Ok(Self {
            digest: digest(&all),
            epochs: all,
        })
    }

    /// A digest of the first `epochs` series, to know them again by.
    pub(crate) fn digest(&self, epochs: u64) -> [u64; 2] {
        match usize::try_from(epochs) {
            Ok(epochs) if epochs < self.epochs.len() => digest(&self.epochs[..epochs]),
            _ => self.digest,
        }
    }

    /// Numbers in an epoch.
    pub fn series_length(&self) -> usize {
        self.epochs.first().map_or(0, |series| series.x.len())
    }

    /// The series of an epoch.
    pub(crate) fn epoch(&self, epoch: u64) -> Option<&Series> {
        self.epochs.get(usize::try_from(epoch).ok()?)
    }
}

fn digest(epochs: &[Series]) -> [u64; 2] {
    let mut hasher = SipHasher13::new();
    for series in epochs {
        series.x.iter().for_each(|x| hasher.write(&x.to_le_bytes()));
        let labels = series.labels.iter();
        labels.for_each(|label| hasher.write(&label.to_le_bytes()));
    }
    hasher.finish128().as_u64().into()
}
