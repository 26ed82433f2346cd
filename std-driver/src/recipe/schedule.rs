//! Schedules: the learning rate of every update.

use crate::Error;
use serde::{Deserialize, Serialize};

/// How the learning rate changes.
///
/// ```
/// use fused_lstm_driver::recipe::Schedule;
///
/// let halves = Schedule::Step { every: 10, factor: 0.5 };
/// assert_eq!(halves.rate(1.0, 0, 100, 25, 0), 0.25);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant {},
    /// Times `factor` after every so many epochs: torch's `StepLR`.
    Step {
        /// Epochs.
        every: u64,
        /// What it is multiplied by.
        factor: f32,
    },
    /// From 0 up in a line over the first updates, and then down along half a cosine wave to the part
    /// `least` of it: torch's `LinearLR` from 0 and then `CosineAnnealingLR`.
    #[serde(rename_all = "kebab-case")]
    Cosine {
        /// Updates until it is reached.
        warm_up: u64,
        /// The part of it that it ends at.
        least: f32,
    },
    /// Times `factor` when more than `patience` epochs in a row had no lower validation loss, and then
    /// counted anew: torch's `ReduceLROnPlateau` with a threshold of 0.
    Plateau {
        /// Epochs.
        patience: u64,
        /// What it is multiplied by.
        factor: f32,
    },
}

impl Schedule {
    /// The rate of update `update` of `updates` in epoch `epoch`, both from 0, after `drops` plateaus.
    pub fn rate(self, base: f32, update: u64, updates: u64, epoch: u64, drops: u32) -> f32 {
        match self {
            Self::Constant {} => base,
            Self::Step { every, factor } => {
                let times = (epoch / every.max(1)).min(1 << 20);
                base * factor.powi(times as i32)
            }
            Self::Cosine { warm_up, .. } if update < warm_up => {
                (f64::from(base) * (update + 1) as f64 / (warm_up + 1) as f64) as f32
            }
            Self::Cosine { warm_up, least } => {
                let whole = updates.saturating_sub(warm_up).max(1) as f64;
                let at = ((update - warm_up) as f64 / whole).min(1.0);
                let (base, least) = (f64::from(base), f64::from(least));
                let wave = 0.5 * (1.0 + (std::f64::consts::PI * at).cos());
                (base * (least + (1.0 - least) * wave)) as f32
            }
            Self::Plateau { factor, .. } => base * factor.powi(drops as i32),
        }
    }

    pub(super) fn check(self) -> Result<(), Error> {
        let key = "training.schedule";
        let part = |what: &str, value: f32, least: f32| {
            if value >= least && value <= 1.0 {
                return Ok(());
            }
            Err(Error::recipe(
                key,
                format!("{what} from {least} to 1"),
                value,
            ))
        };
        match self {
            Self::Constant {} => Ok(()),
            Self::Step { every: 0, .. } => Err(Error::recipe(key, "every at least 1 epoch", 0)),
            Self::Step { factor, .. } | Self::Plateau { factor, .. } => {
                part("factor", factor, f32::MIN_POSITIVE)
            }
            Self::Cosine { least, .. } => part("least", least, 0.0),
        }
    }
}
