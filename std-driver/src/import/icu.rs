//! ICU4X's word segmenters: a table of code points or grapheme clusters, a layer in both directions,
//! and the probabilities of B, I, E and S.
//!
//! `mat1` is the table `[V, E]`; `mat2` to `mat4` are the kernel `[E, 4H]`, the recurrent kernel
//! `[H, 4H]` and the bias of the forward direction, `mat5` to `mat7` those of the other; `mat8` and
//! `mat9` the dense layer. The gates are Keras's.

use super::gates::{Gates, IFJO, Layout};
use super::json::{self, At};
use super::{Format, Found, Kind, Layer, Lstm, Options, Source};
use crate::Error;
use fused_lstm::{Activation, Direction, LayerShape};

pub(crate) fn is(document: &serde_json::Value) -> bool {
    document.get("dic").is_some() && document.get("mat1").is_some()
}

/// A matrix and its shape.
fn matrix(root: &At, index: usize) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let at = root.need(&format!("mat{index}"))?;
    let dim = at.need("dim")?;
    let shape = dim
        .list()?
        .iter()
        .map(At::size)
        .collect::<Result<Vec<_>, _>>()?;
    let data = at.need("data")?;
    let len = shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n));
    match len {
        Some(len) => Ok((shape, data.tensor(&[len])?)),
        None => Err(dim.problem("expected a shape that fits the data")),
    }
}

pub(crate) fn read(source: &Source, _options: &Options) -> Result<Found, Error> {
    let document = json::object(source)?;
    let root = At::root(source, &document);
    let expect = |index: usize, expected: &[usize]| -> Result<Vec<f32>, Error> {
        let (shape, values) = matrix(&root, index)?;
        if shape == expected {
            return Ok(values);
        }
        let at = root.need(&format!("mat{index}"))?;
        Err(at.problem(format!("expected shape {expected:?}, got {shape:?}")))
    };
    let (table_shape, table) = matrix(&root, 1)?;
    let (recurrent_shape, _) = matrix(&root, 3)?;
    let (dense_shape, kernel) = matrix(&root, 8)?;
    let ([rows, width], [hidden, _], [_, classes]) =
        (&table_shape[..], &recurrent_shape[..], &dense_shape[..])
    else {
        return Err(root.problem("expected matrices in mat1, mat3 and mat8"));
    };
    let (rows, width, hidden, classes) = (*rows, *width, *hidden, *classes);
    if dense_shape[0] != 2 * hidden {
        let at = root.need("mat8")?;
        let expected = 2 * hidden;
        return Err(at.problem(format!("expected {expected} rows, got {}", dense_shape[0])));
    }
    let mut params = Vec::new();
    for first in [2, 5] {
        let gates = Gates {
            order: IFJO,
            layout: Layout::Columns,
            inputs: width,
            hidden,
            outputs: hidden,
            input: &expect(first, &[width, 4 * hidden])?,
            recurrent: &expect(first + 1, &[hidden, 4 * hidden])?,
            biases: &[&expect(first + 2, &[4 * hidden])?],
            forget_bias: 0.0,
        };
        params.push(gates.to_core().map_err(|problem| root.problem(problem))?);
    }
    let lstm = Lstm {
        direction: Direction::Both,
        params,
        ..Lstm::new(LayerShape::new(width, hidden), Vec::new())
    };
    let bias = expect(9, &[classes])?;
    let layer = |name: &str, kind| Layer {
        name: name.into(),
        kind,
    };
    Ok(Found {
        format: Format::Icu,
        part: None,
        layers: vec![
            layer("mat1", Kind::Embedding { rows, width, table }),
            layer("mat2-mat7", Kind::Lstm(Box::new(lstm))),
            layer(
                "mat8-mat9",
                Kind::Dense {
                    inputs: 2 * hidden,
                    outputs: classes,
                    kernel,
                    bias,
                },
            ),
            layer("softmax", Kind::Activation(Activation::Softmax)),
        ],
        notes: vec!["The dictionary of the file is not part of a model: what comes in are its numbers, and the last row of the table stands for what it does not have".into()],
        sample_rate: None,
    })
}
