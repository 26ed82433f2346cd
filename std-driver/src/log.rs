//! The log: a CSV row `step,epoch,loss` for every step.

use crate::Error;
use crate::files::{LOG_HEADER, Place, finish_writing, replace};
use crate::train::Step;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
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

impl From<Step> for Row {
    fn from(step: Step) -> Self {
        let Step {
            step, epoch, loss, ..
        } = step;
        Self { step, epoch, loss }
    }
}

/// A log that is being written. Rows reach the file whole, many at a time.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Rows that the file does not have yet.
    waiting: Vec<Row>,
    /// Whether the header comes before them.
    header: bool,
}

/// Rows that are written together.
const TOGETHER: usize = 256;

impl Log {
    /// A new log in the place of any old one.
    pub fn create(path: &Path) -> Result<Self, Error> {
        if let Place::New(path) | Place::File(path) = Place::of(path)? {
            File::create(&path).map_err(Error::io(&path, "write"))?;
        }
        Self::append(path, true)
    }

    fn append(path: &Path, header: bool) -> Result<Self, Error> {
        let file = File::options().append(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(Error::io(path, "write"))?,
            waiting: Vec::new(),
            header,
        })
    }

    /// Goes on in an existing log of a run of `per_epoch` steps an epoch: rows from step `next` on
    /// are cut, and those before are given back. A file that is not there yet is made. Refuses,
    /// and leaves alone, what is no log, has gaps, or ends before step `next`.
    pub fn resume(path: &Path, next: u64, per_epoch: u64) -> Result<(Self, Vec<Row>), Error> {
        let text = match Place::of(path)? {
            Place::File(file) => fs::read(file).map_err(Error::io(path, "read"))?,
            _ => Vec::new(),
        };
        if text.is_empty() {
            return Ok((Self::create(path)?, Vec::new()));
        }
        let mut rows = read(path, &text, per_epoch)?;
        let first = rows.first().map_or(next, |row| row.step);
        rows.retain(|row| row.step < next);
        let end = rows.last().map_or(first, |row| row.step + 1);
        if end != next {
            let problem = match end.checked_sub(1) {
                Some(got) if end < next => {
                    let want = next - 1;
                    format!("expected step {want} before the checkpoint's, got step {got}")
                }
                _ => format!("expected the checkpoint's step {next}, got step {end}"),
            };
            return Err(Error::file(path, problem));
        }
        // Written beside it and renamed: the rows that stay are never at risk.
        let header = !rows.is_empty();
        replace(path, &text_of(path, &rows, header)?)?;
        Ok((Self::append(path, !header)?, rows))
    }

    /// Adds a row.
    pub fn write(&mut self, row: Row) -> Result<(), Error> {
        self.waiting.push(row);
        if self.waiting.len() < TOGETHER {
            return Ok(());
        }
        self.flush()
    }

    /// Hands all rows to the operating system. If that fails, none of them is left half
    /// written, and they are not tried again.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let text = text_of(&self.path, &self.waiting, self.header)?;
        self.waiting.clear();
        self.header = false;
        let before = self.file.metadata().ok().filter(fs::Metadata::is_file);
        let _writing = before.as_ref().map(|_| finish_writing());
        self.file.write_all(&text).map_err(|e| {
            if let Some(before) = before {
                let _ = self.file.set_len(before.len());
            }
            Error::io(&self.path, "write")(e)
        })
    }

    /// Puts all rows on the disk.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        match self.file.sync_data() {
            // A pipe or a terminal has no disk.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
            result => result.map_err(Error::io(&self.path, "write")),
        }
    }
}

/// Rows as they stand in a log, after the header if there is to be one.
fn text_of(path: &Path, rows: &[Row], header: bool) -> Result<Vec<u8>, Error> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(header)
        .from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|e| refuse(path, e))?;
    }
    let text = writer.into_inner();
    text.map_err(|e| refuse(path, e.into_error().into()))
}

/// The rows of a log, which must be those of steps one after the other.
fn read(path: &Path, text: &[u8], per_epoch: u64) -> Result<Vec<Row>, Error> {
    let no_log = |got: &str| {
        let problem = format!("expected a log of rows {LOG_HEADER}, got {got}");
        Err(Error::file(path, problem))
    };
    // A kill can leave the last row half written.
    let Some(end) = text.iter().rposition(|&byte| byte == b'\n') else {
        return if LOG_HEADER.as_bytes().starts_with(text) {
            Ok(Vec::new())
        } else {
            no_log("no such header")
        };
    };
    let mut reader = csv::Reader::from_reader(&text[..=end]);
    let header = reader.headers().map_err(|e| refuse(path, e))?;
    if !header.iter().eq(LOG_HEADER.split(',')) {
        return no_log("no such header");
    }
    let mut rows: Vec<Row> = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.map_err(|e| refuse(path, e))?;
        let (line, step) = (rows.len() + 2, row.step);
        let expected = rows.last().map_or(step, |last| last.step.wrapping_add(1));
        if step != expected || step == u64::MAX {
            return no_log(&format!("step {step} instead of {expected} in line {line}"));
        }
        if row.epoch != step / per_epoch {
            let (got, expected) = (row.epoch, step / per_epoch);
            return no_log(&format!("epoch {got} instead of {expected} in line {line}"));
        }
        if !row.loss.is_finite() {
            return no_log(&format!("loss {} in line {line}", row.loss));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn refuse(path: &Path, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io(path, "write the log")(source),
        kind => Error::file(
            path,
            format!("expected a log of rows {LOG_HEADER}, got: {kind:?}"),
        ),
    }
}
