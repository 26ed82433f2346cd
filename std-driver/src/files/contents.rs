//! What a file holds, recognised by how it begins.

use crate::header::{RUN_OUTPUT, read_header};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What commands write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A run that can be gone on with.
    Checkpoint,
    /// A log of losses.
    Log,
    /// A log that is gone on with: it is checked as it is read.
    ResumedLog,
    /// A picture of a run.
    Picture,
    /// A page about a run.
    Report,
    /// Outputs of `run`.
    Outputs,
}

/// The first line of a log.
pub(crate) const LOG_HEADER: &str = "step,epoch,loss";
/// How that of a run by a recipe begins, before its scores.
pub(crate) const EPOCH_LOG_HEADER: &str = "restart,epoch,updates,rate,training,validation";
/// What pictures have in them so that they are known again.
pub(crate) const PICTURE_MARK: &str = "Drawn by fused-lstm";

impl Contents {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "a checkpoint",
            Self::Log | Self::ResumedLog => "a log",
            Self::Picture => "a picture of a run",
            Self::Report => "a report of a run",
            Self::Outputs => "an output of run",
        }
    }

    /// Whether the file holds that, or nothing at all.
    pub(crate) fn are_in(self, path: &Path) -> io::Result<bool> {
        /// Both kinds of pictures have their mark in these.
        const FIRST: u64 = 512;
        if self == Self::ResumedLog {
            return Ok(true);
        }
        let mut file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(true);
        }
        if let Self::Checkpoint | Self::Outputs = self {
            // What is no safetensors file is neither.
            let Ok(header) = read_header(&mut file) else {
                return Ok(false);
            };
            let run = header.text() == Some(RUN_OUTPUT);
            return Ok(match self {
                Self::Outputs => run,
                _ => {
                    let echo = header.text().is_some() && header.has("step");
                    !run && (echo || header.training().is_some())
                }
            });
        }
        let mut first = Vec::new();
        file.take(FIRST).read_to_end(&mut first)?;
        Ok(match self {
            Self::Log => [LOG_HEADER, EPOCH_LOG_HEADER].iter().any(|header| {
                let rest = first.strip_prefix(header.as_bytes());
                rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'\r' | b'\n' | b',')))
            }),
            _ => first
                .windows(PICTURE_MARK.len())
                .any(|part| part == PICTURE_MARK.as_bytes()),
        })
    }
}
