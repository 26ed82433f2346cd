//! What a `load` line asks for, and the numbers of its file.

use std::{env, fs, process::Command};

use crate::{Error, Result};

#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Stream,
    Infer,
    Train,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Head {
    None,
    Adagrad,
    Adam,
}

/// A matrix of so many rows and columns.
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

/// A layer's parameters, [inputs, 4H], [H, 4H] and [4H], the gates in the order
/// i, j, f, o.
pub struct Layer {
    pub w: Matrix,
    pub r: Matrix,
    pub bias: Vec<f32>,
}

pub struct Task {
    pub mode: Mode,
    pub head: Head,
    pub i: usize,
    pub h: usize,
    pub l: usize,
    pub b: usize,
    pub t: usize,
    pub layers: Vec<Layer>,
    /// Kernel [H, 2] and bias [2] of the head.
    pub dense: Option<(Matrix, Vec<f32>)>,
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
    pub labels: Vec<u32>,
    words: Vec<String>,
}

impl Task {
    /// From `MODE HEAD I H L B T NUMBERS`.
    pub fn new(words: &[&str]) -> Result<Self> {
        let &[mode, head, i, h, l, b, t, numbers] = words else {
            return Err("eight words and a file are wanted".into());
        };
        let mode = match mode {
            "stream" => Mode::Stream,
            "infer" => Mode::Infer,
            "train" => Mode::Train,
            _ => return Err("an unknown mode".into()),
        };
        let head = match head {
            "none" => Head::None,
            "adagrad" => Head::Adagrad,
            "adam" => Head::Adam,
            _ => return Err("an unknown head".into()),
        };
        let (i, h, l, b, t): (usize, usize, usize, usize, usize) =
            (i.parse()?, h.parse()?, l.parse()?, b.parse()?, t.parse()?);
        let bytes = fs::read(numbers)?;
        let mut numbers = bytes.as_chunks::<4>().0.iter();
        let mut take = |rows: usize, columns: usize| -> Result<Matrix> {
            let values: Vec<f32> = numbers
                .by_ref()
                .take(rows * columns)
                .map(|&n| f32::from_le_bytes(n))
                .collect();
            if values.len() < rows * columns {
                return Err("the file is too short".into());
            }
            Ok(Matrix {
                rows,
                columns,
                values,
            })
        };
        let layers = (0..l)
            .map(|n| {
                Ok(Layer {
                    w: take(if n == 0 { i } else { h }, 4 * h)?,
                    r: take(h, 4 * h)?,
                    bias: take(1, 4 * h)?.values,
                })
            })
            .collect::<Result<_>>()?;
        let dense = match head {
            Head::None => None,
            _ => Some((take(h, 2)?, take(1, 2)?.values)),
        };
        let x = take(t * b, i)?.values;
        let dy = take(t * b, h)?.values;
        let labels = take(t, b)?.values.iter().map(|n| n.to_bits()).collect();
        let words = words.iter().map(|&w| w.into()).collect();
        Ok(Self {
            mode,
            head,
            i,
            h,
            l,
            b,
            t,
            layers,
            dense,
            x,
            dy,
            labels,
            words,
        })
    }

    pub fn is_stream(&self) -> bool {
        self.mode == Mode::Stream
    }

    /// The network as an ONNX model, which peers.py writes.
    pub fn onnx(&self) -> Result<Vec<u8>> {
        if self.mode == Mode::Train {
            return Err("the library does not train".into());
        }
        let python =
            env::var("PEERS_PYTHON").map_err(|_| Error::from("PEERS_PYTHON is not set"))?;
        let model = env::temp_dir().join(format!("peers-{}.onnx", std::process::id()));
        let status = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../peers.py"))
            .arg("onnx")
            .arg(&model)
            .args(&self.words)
            .status()?;
        if !status.success() {
            return Err("peers.py wrote no ONNX model".into());
        }
        let bytes = fs::read(&model)?;
        fs::remove_file(&model)?;
        Ok(bytes)
    }
}

/// Exchanges the second gate with the third in rows of four gates: i, j, f, o as
/// i, f, j, o, or back.
pub fn regate(mut values: Vec<f32>, h: usize) -> Vec<f32> {
    for row in values.chunks_exact_mut(4 * h) {
        row[h..3 * h].rotate_left(h);
    }
    values
}
