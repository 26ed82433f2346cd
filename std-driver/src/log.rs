//! The log: a CSV row `step,epoch,loss` for every step.

use crate::Error;
use crate::train::Step;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// One row; the step and the epoch are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The step's number over all epochs.
    pub step: u64,
    /// The epoch.
    pub epoch: u64,
    /// The loss.
    pub loss: f32,
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    writer: csv::Writer<BufWriter<File>>,
}

impl Log {
    /// A new log in the place of any old one.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io(path, "write"))?;
        let writer = csv::WriterBuilder::new().from_writer(BufWriter::new(file));
        Ok(Self {
            path: path.to_owned(),
            writer,
        })
    }

    /// Goes on in an existing log: rows from step `next` on are cut, and those before
    /// are given back. A file that is not there yet is made.
    pub fn resume(path: &Path, next: u64) -> Result<(Self, Vec<Row>), Error> {
        if !path.exists() {
            return Ok((Self::create(path)?, Vec::new()));
        }
        let mut reader = csv::Reader::from_path(path).map_err(|e| refuse(path, e))?;
        let mut rows = Vec::new();
        for row in reader.deserialize() {
            match row {
                Ok(row) => rows.push(row),
                // A kill can leave the last row half written; those before it count.
                Err(_)
                    if rows
                        .last()
                        .is_some_and(|row: &Row| row.step.saturating_add(1) >= next) =>
                {
                    break;
                }
                Err(e) => return Err(refuse(path, e)),
            }
        }
        rows.retain(|row: &Row| row.step < next);
        if let Some(last) = rows.last()
            && last.step.saturating_add(1) != next
        {
            let (want, got) = (next - 1, last.step);
            let problem = format!("expected step {want} before the checkpoint's, got step {got}");
            return Err(Error::file(path, problem));
        }
        // Written beside it and renamed: the rows that stay are never at risk.
        let mut text = csv::Writer::from_writer(Vec::new());
        for row in &rows {
            text.serialize(row).map_err(|e| refuse(path, e))?;
        }
        let text = text
            .into_inner()
            .map_err(|e| refuse(path, e.into_error().into()))?;
        crate::tensors::replace(path, &text)?;
        let file = File::options()
            .append(true)
            .open(path)
            .map_err(Error::io(path, "write"))?;
        let writer = csv::WriterBuilder::new()
            .has_headers(rows.is_empty())
            .from_writer(BufWriter::new(file));
        Ok((
            Self {
                path: path.to_owned(),
                writer,
            },
            rows,
        ))
    }

    /// Adds a row.
    pub fn write(&mut self, step: Step) -> Result<(), Error> {
        let Step {
            step, epoch, loss, ..
        } = step;
        self.writer
            .serialize(Row { step, epoch, loss })
            .map_err(|e| refuse(&self.path, e))
    }

    /// Hands all rows to the operating system.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().map_err(Error::io(&self.path, "write"))
    }

    /// Puts all rows on the disk.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        match self.writer.get_ref().get_ref().sync_data() {
            // A pipe or a terminal has no disk.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
            result => result.map_err(Error::io(&self.path, "write")),
        }
    }
}

fn refuse(path: &Path, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io(path, "write the log")(source),
        kind => {
            let problem = format!("expected a log of rows step,epoch,loss, got: {kind:?}");
            Error::file(path, problem.replace('\n', " "))
        }
    }
}
