//! Tables: columns of numbers with names, from CSV, NPY, safetensors and WAV files.

use crate::import::Source;
use crate::tensors::TensorFile;
use crate::{Error, memory, npy, one_line, wav};
use std::path::{Path, PathBuf};

/// Columns of a file, of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// `[N, columns]`.
    pub values: Vec<f32>,
    /// Samples a second, of a sound.
    pub sample_rate: Option<u32>,
}

impl Table {
    /// Reads the columns of these names, or all of them if there are no names but `but`. A file is known
    /// by its content. The columns of an array without names are 0, 1, and so on.
    ///
    /// ```
    /// use fused_lstm_driver::dataset::Table;
    ///
    /// let path = std::env::temp_dir().join(format!("table-{}.csv", std::process::id()));
    /// std::fs::write(&path, "day,a,b\nMon,1,2\nTue,3,4\n").unwrap();
    /// let table = Table::open(&path, &["b".into()], &[])?;
    /// assert_eq!(table.values, [2.0, 4.0]);
    /// let error = Table::open(&path, &[], &[]).unwrap_err().to_string();
    /// assert!(error.ends_with("line 2, column day: expected a number, got Mon"));
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok::<(), fused_lstm_driver::Error>(())
    /// ```
    pub fn open(path: &Path, names: &[String], but: &[String]) -> Result<Self, Error> {
        let source = Source::open(path)?;
        let bytes = source.bytes();
        if bytes.starts_with(b"RIFF") {
            return sound(path, names, bytes);
        }
        if bytes.starts_with(b"\x93NUMPY") {
            let (shape, values) = npy::read(path, bytes)?;
            let width = match shape[..] {
                [_] => 1,
                [_, width] if width > 0 => width,
                _ => {
                    let problem = format!("expected an array [rows, columns], got {shape:?}");
                    return Err(Error::file(path, problem));
                }
            };
            let columns = (0..width).map(|c| c.to_string()).collect();
            return chosen(path, columns, &values, names, but);
        }
        let first = &bytes[..bytes.len().min(8)];
        let is_text = |b: &u8| matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n' | 0x80..);
        if first.iter().all(is_text) {
            return csv(path, bytes, names, but);
        }
        safetensors(
            path,
            &TensorFile::from_bytes(path, bytes.to_vec())?,
            names,
            but,
        )
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.len().max(1)
    }

    /// One column.
    pub fn column(&self, index: usize) -> impl Iterator<Item = f32> {
        self.values
            .iter()
            .skip(index)
            .step_by(self.columns.len().max(1))
            .copied()
    }
}

/// Where each wanted column stands among those that there are.
fn places(
    path: &Path,
    columns: &[String],
    names: &[String],
    but: &[String],
) -> Result<Vec<usize>, Error> {
    if names.is_empty() {
        let all = (0..columns.len()).filter(|&c| !but.contains(&columns[c]));
        return Ok(all.collect());
    }
    let place = |name: &String| {
        columns
            .iter()
            .position(|column| column == name)
            .ok_or_else(|| {
                let got = columns.join(", ");
                Error::file(path, format!("expected a column {name}, got {got}"))
            })
    };
    names.iter().map(place).collect()
}

/// The wanted columns of an array.
fn chosen(
    path: &Path,
    columns: Vec<String>,
    values: &[f32],
    names: &[String],
    but: &[String],
) -> Result<Table, Error> {
    let places = places(path, &columns, names, but)?;
    let mut all = memory::reserve(values.len() / columns.len().max(1) * places.len())?;
    for row in values.chunks_exact(columns.len().max(1)) {
        all.extend(places.iter().map(|&c| row[c]));
    }
    Ok(Table {
        path: path.to_owned(),
        columns: places.iter().map(|&c| columns[c].clone()).collect(),
        values: all,
        sample_rate: None,
    })
}

fn csv(path: &Path, bytes: &[u8], names: &[String], but: &[String]) -> Result<Table, Error> {
    let refuse = |e: csv::Error| {
        let line = e.position().map_or(1, |at| at.line());
        let problem = match e.into_kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => {
                format!("expected {expected_len} columns, as in line 1, got {len}")
            }
            csv::ErrorKind::Utf8 { .. } => "expected UTF-8, got other bytes".into(),
            kind => format!("expected a CSV table, got {kind:?}"),
        };
        Error::file(path, format!("line {line}: {problem}"))
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .has_headers(false)
        .from_reader(bytes);
    let mut records = reader.records().peekable();
    let first = match records.peek() {
        Some(Ok(first)) => first.clone(),
        Some(Err(_)) => csv::StringRecord::new(),
        None => {
            return Err(Error::file(
                path,
                "expected a table with a header, got an empty file",
            ));
        }
    };
    // A table without a header has numbers in its first line.
    let is_number = |cell: &str| cell.parse::<f64>().is_ok();
    let headless = !first.is_empty() && first.iter().all(is_number);
    let columns: Vec<String> = match headless {
        true => (0..first.len()).map(|c| c.to_string()).collect(),
        false => first.iter().map(one_line).collect(),
    };
    if let Some(at) = columns.iter().position(String::is_empty) {
        let at = at + 1;
        return Err(Error::file(
            path,
            format!("line 1: expected a name of column {at}, got nothing"),
        ));
    }
    let places = places(path, &columns, names, but)?;
    let mut values = Vec::new();
    for (index, record) in records.enumerate() {
        let record = record.map_err(refuse)?;
        if index == 0 && !headless {
            continue;
        }
        for &c in &places {
            let cell = record.get(c).unwrap_or_default();
            let value = cell.parse::<f32>().ok().filter(|value| value.is_finite());
            values.push(value.ok_or_else(|| {
                let line = record.position().map_or(0, |at| at.line());
                let (column, got) = (&columns[c], one_line(cell));
                let got = if got.is_empty() {
                    "nothing".into()
                } else {
                    got
                };
                let problem = format!("line {line}, column {column}: expected a number, got {got}");
                Error::file(path, problem)
            })?);
        }
    }
    Ok(Table {
        path: path.to_owned(),
        columns: places.iter().map(|&c| columns[c].clone()).collect(),
        values,
        sample_rate: None,
    })
}

/// Every key is a column, or as many as the second size of its tensor says.
fn safetensors(
    path: &Path,
    file: &TensorFile,
    names: &[String],
    but: &[String],
) -> Result<Table, Error> {
    let (mut columns, mut all) = (Vec::new(), Vec::<Vec<f32>>::new());
    for key in file.keys() {
        let (shape, values) = file.numbers(&key)?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let got = values[at];
            let problem = format!("key {key}: expected finite numbers, got {got} at {at}");
            return Err(file.problem(problem));
        }
        let width = match shape[..] {
            [_] => 1,
            [_, width] if width > 0 => width,
            _ => {
                let problem = format!("key {key}: expected shape [rows, columns], got {shape:?}");
                return Err(file.problem(problem));
            }
        };
        for c in 0..width {
            columns.push(if width == 1 {
                key.clone()
            } else {
                format!("{key}.{c}")
            });
            all.push(values.iter().skip(c).step_by(width).copied().collect());
        }
        if let (Some(first), Some(last)) = (all.first(), all.last())
            && first.len() != last.len()
        {
            let (expected, got) = (first.len(), last.len());
            let problem = format!("key {key}: expected {expected} rows, as the others, got {got}");
            return Err(file.problem(problem));
        }
    }
    let rows = all.first().map_or(0, Vec::len);
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| all.iter().map(move |c| c[row]))
        .collect();
    chosen(path, columns, &values, names, but)
}

fn sound(path: &Path, names: &[String], bytes: &[u8]) -> Result<Table, Error> {
    let (spec, values) = wav::read(path, bytes, bytes.len() as u64)?;
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let problem = format!("expected finite samples, got {} at {at}", values[at]);
        return Err(Error::file(path, problem));
    }
    let columns = (0..spec.channels).map(|c| c.to_string()).collect();
    let mut table = chosen(path, columns, &values, names, &[])?;
    table.sample_rate = Some(spec.sample_rate);
    Ok(table)
}

/// The header of a CSV table, and its rows as they are.
pub(crate) fn texts(path: &Path) -> Result<(Vec<String>, Vec<Vec<String>>), Error> {
    let refuse = |e: csv::Error| {
        let line = e.position().map_or(1, |at| at.line());
        Error::file(
            path,
            format!(
                "line {line}: expected a row of the table, got {}",
                one_line(e)
            ),
        )
    };
    let source = Source::open(path)?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(source.bytes());
    let columns = reader
        .headers()
        .map_err(refuse)?
        .iter()
        .map(one_line)
        .collect();
    let row = |record: csv::StringRecord| record.iter().map(one_line).collect();
    let rows = reader
        .records()
        .map(|record| record.map(row).map_err(refuse));
    Ok((columns, rows.collect::<Result<_, _>>()?))
}
