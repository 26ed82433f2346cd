//! The std side of `fused-lstm`: data, the training loop, pictures and files, as
//! functions; the command `fused-lstm` is a thin layer over them.
//!
//! ```
//! use fused_lstm_driver::settings::{Preset, Settings};
//! use fused_lstm_driver::train::Trainer;
//!
//! // The echo tutorial, cut short.
//! let settings = Settings { epochs: 1, series_length: 3_000, ..Settings::preset(Preset::Echo) };
//! let mut trainer = Trainer::new(settings)?;
//! let mut losses = Vec::new();
//! while let Some(step) = trainer.step()? {
//!     losses.push(step.loss);
//! }
//! assert_eq!(losses.len(), 40); // 3,000 bits / 5 rows / 15 steps
//! assert!(losses[39] < losses[0]);
//! # Ok::<(), fused_lstm_driver::Error>(())
//! ```

pub mod chain;
pub mod checkpoint;
pub mod curve;
pub mod data;
pub mod dataset;
pub mod describe;
pub mod export;
pub mod files;
pub mod import;
pub mod infer;
pub mod jobs;
pub mod log;
pub mod parallel;
pub mod plot;
pub mod quantize;
pub mod recipe;
pub mod report;
pub mod settings;
pub mod signals;
pub mod tensors;
pub mod threads;
pub mod train;
pub mod trainer;
pub mod units;
pub mod verify;
pub mod weights;

mod error;
mod exchange;
mod header;
mod memory;
mod npy;
mod wav;

pub use error::{Error, one_line};
