//! What can go wrong, each as one line.

use std::fmt::Display;
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
    /// A key of a recipe that cannot be used; misuse, exit code 2.
    #[error("{key}: expected {expected}, got {got}")]
    Recipe {
        /// The key with its section.
        key: String,
        /// What it must be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", one_line(.path.display()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{}: {problem}", one_line(.path.display()))]
    File {
        /// The file.
        path: PathBuf,
        /// The key, what was expected and what came.
        problem: String,
    },
    /// A training step that had no numbers to go on with. Weights, slots and state are those
    /// before it.
    #[error("step {step}: {problem}; {advice}")]
    Diverged {
        /// The step, counted over all epochs.
        step: u64,
        /// What is not finite.
        problem: String,
        /// What may help.
        advice: &'static str,
    },
    /// A picture that could not be drawn.
    #[error("{}: cannot draw: {problem}", one_line(.path.display()))]
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
    /// The operating system has no memory to give.
    #[error("not enough memory: cannot have another {bytes} bytes")]
    Memory {
        /// What could not be had.
        bytes: usize,
    },
    /// Lengths that do not fit together.
    #[error(transparent)]
    Shape(#[from] fused_lstm::ArgumentError),
}

impl Error {
    /// Whether it was the caller's words that were wrong, not the world.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::Setting { .. } | Self::Recipe { .. })
    }

    pub(crate) fn setting(
        flag: &'static str,
        expected: impl Into<String>,
        got: impl Display,
    ) -> Self {
        Self::Setting {
            flag,
            expected: expected.into(),
            got: one_line(got),
        }
    }

    pub(crate) fn recipe(key: &str, expected: impl Into<String>, got: impl Display) -> Self {
        Self::Recipe {
            key: key.to_owned(),
            expected: expected.into(),
            got: one_line(got),
        }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: one_line(problem.into()),
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

/// A text without line breaks and escape codes, which a path or a key may have in it.
///
/// ```
/// assert_eq!(fused_lstm_driver::one_line("a\nb"), "a\\nb");
/// ```
pub fn one_line(text: impl Display) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut line = String::new();
    for c in text.to_string().chars() {
        if breaks(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
