//! What can go wrong, each as one line.

use std::io;
use std::path::{Path, PathBuf};

/// Why a call failed. The text of each is one line that names the file, key or
/// flag, what was expected and what came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used; misuse, exit code 2.
    #[error("--{flag}: expected {expected}, got {got}")]
    Setting {
        /// The flag without its dashes.
        flag: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{}: {problem}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The key, what was expected and what came.
        problem: String,
    },
    /// The loss is no number any more.
    #[error(
        "the loss of step {step} is {loss}: expected a finite number; try a smaller --learning-rate or --clip-norm"
    )]
    Loss {
        /// The step, counted over all epochs.
        step: u64,
        /// NaN or an infinity.
        loss: f32,
    },
    /// A picture that could not be drawn.
    #[error("{}: cannot draw: {problem}", .path.display())]
    Plot {
        /// The file.
        path: PathBuf,
        /// What the backend said.
        problem: String,
    },
    /// The operating system has no thread to give.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// Why not.
        source: io::Error,
    },
    /// Lengths that do not fit together.
    #[error(transparent)]
    Shape(#[from] fused_lstm::ShapeError),
}

impl Error {
    /// Whether it was the caller's words that were wrong, not the world.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::Setting { .. })
    }

    pub(crate) fn setting(
        flag: &'static str,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Self::Setting {
            flag,
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }
}
