//! Variables by their names, as checkpoints of TensorFlow 1 have them, to layers.

use super::cells::{self, Cells};
use crate::Error;
use crate::import::raw::Raw;
use crate::import::{Format, Found, Kind, Layer, Source};
use std::cmp::Ordering;

/// More parts than the scope has in which an optimizer was made.
const DEEPEST: usize = 16;
/// More variables than any network of this kind has.
const MOST: usize = 4096;

/// A variable without its numbers.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Whether it is of a float type.
    pub(super) float: bool,
    /// Its place in the list of the file.
    pub(super) at: usize,
}

impl Variable {
    /// Numbers that a shape has room for.
    pub(super) fn len(&self) -> Option<usize> {
        let sizes = self.shape.iter();
        sizes.copied().try_fold(1, usize::checked_mul)
    }

    /// The name up to the last part, and the last part.
    pub(super) fn split(&self) -> (&str, &str) {
        self.name.rsplit_once('/').unwrap_or(("", &self.name))
    }
}

/// The file that has the numbers.
pub(super) trait Values {
    /// Those of a variable, as many as its shape says, and of which type they are in the file.
    fn values(&mut self, variable: &Variable) -> Result<(Vec<f32>, Raw), Error>;
}

/// Reads variables, and keeps what is to be said of them.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) values: &'a mut dyn Values,
    /// How many numbers may be read yet: none is read for many layers.
    pub(super) room: usize,
    pub(super) notes: Vec<String>,
}

/// As many numbers as all variables have.
pub(super) fn room(variables: &[Variable]) -> usize {
    let each = variables.iter().map(|variable| variable.len().unwrap_or(0));
    each.fold(0, usize::saturating_add)
}

impl Reader<'_> {
    pub(super) fn problem(&self, name: &str, text: impl std::fmt::Display) -> Error {
        self.source.problem(format!("key {name}: {text}"))
    }

    pub(super) fn read(&mut self, variable: &Variable) -> Result<Vec<f32>, Error> {
        let name = &variable.name;
        self.room = variable
            .len()
            .and_then(|len| self.room.checked_sub(len))
            .ok_or_else(|| self.problem(name, "expected a variable for one layer only"))?;
        let (values, raw) = self.values.values(variable)?;
        if let Some((k, got)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(self.problem(
                name,
                format_args!("expected finite numbers, got {got} at {k}"),
            ));
        }
        if raw != Raw::F32 {
            let raw = raw.name();
            self.notes.push(format!("{name} was converted from {raw}."));
        }
        Ok(values)
    }

    pub(super) fn read_shape(
        &mut self,
        variable: &Variable,
        shape: &[usize],
    ) -> Result<Vec<f32>, Error> {
        if variable.shape != shape {
            return Err(self.problem(
                &variable.name,
                format_args!("expected shape {shape:?}, got {:?}", variable.shape),
            ));
        }
        self.read(variable)
    }

    /// A bias that is not there is one of zeros.
    pub(super) fn dense(
        &mut self,
        kernel: &Variable,
        bias: Option<&Variable>,
    ) -> Result<Kind, Error> {
        let [inputs, outputs] = kernel.shape[..] else {
            return Err(self.problem(&kernel.name, "expected two dimensions"));
        };
        let numbers = self.read(kernel)?;
        if numbers.is_empty() {
            return Err(self.problem(&kernel.name, "expected numbers, got none"));
        }
        let bias = match bias {
            Some(bias) => self.read_shape(bias, &[outputs])?,
            None => {
                let name = &kernel.name;
                self.notes.push(format!("{name} has no bias: zeros."));
                crate::memory::zeros(outputs)?
            }
        };
        Ok(Kind::Dense {
            inputs,
            outputs,
            kernel: numbers,
            bias,
        })
    }
}

/// Names in the order of the numbers in them.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let parts = |name: &str| -> Vec<(String, usize)> {
        let mut parts = Vec::new();
        let mut rest = name;
        while !rest.is_empty() {
            let text = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (text, after) = rest.split_at(text);
            let digits = after.find(|c: char| !c.is_ascii_digit());
            let (digits, after) = after.split_at(digits.unwrap_or(after.len()));
            parts.push((text.to_owned(), digits.parse().unwrap_or(0)));
            rest = after;
        }
        parts
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// Those of the part that is wanted.
fn part(source: &Source, all: Vec<Variable>, part: Option<&str>) -> Result<Vec<Variable>, Error> {
    let Some(part) = part else { return Ok(all) };
    let part = part.trim_end_matches('/');
    let inside = |name: &str| {
        let rest = name.strip_prefix(part);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if all.iter().any(|variable| inside(&variable.name)) {
        let wanted = all.into_iter().filter(|variable| inside(&variable.name));
        return Ok(wanted.collect());
    }
    let mut scopes: Vec<&str> = all
        .iter()
        .filter_map(|variable| variable.name.split_once('/'))
        .map(|(scope, _)| scope)
        .collect();
    scopes.dedup();
    scopes.truncate(20);
    let scopes = scopes.join(", ");
    Err(source.problem(format!(
        "part {part}: expected what names begin with, such as {scopes}"
    )))
}

/// Without what is of the training only: slots of an optimizer, which have the name of a variable
/// and a word behind it, counters and single numbers.
fn of_the_model(mut all: Vec<Variable>, notes: &mut Vec<String>) -> Vec<Variable> {
    all.sort_by(|a, b| natural(&a.name, &b.name));
    let names: std::collections::HashSet<&str> = all.iter().map(|v| &v.name[..]).collect();
    let slot = |variable: &Variable| {
        // What stands before it may be the scope in which the optimizer was made.
        let (mut of, _) = variable.split();
        for _ in 0..DEEPEST {
            if names.contains(of) {
                return true;
            }
            match of.split_once('/') {
                Some((_, rest)) => of = rest,
                None => break,
            }
        }
        false
    };
    let (mut slots, mut single, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for variable in &all {
        if slot(variable) {
            slots.push(&variable.name[..]);
        } else if variable.shape.is_empty() || !variable.float {
            single.push(&variable.name[..]);
        } else {
            kept.push(variable.clone());
        }
    }
    for (what, names) in [("slots of the optimizer", slots), ("counters", single)] {
        if let [first, ..] = names[..] {
            let count = names.len();
            notes.push(format!(
                "{count} {what} were left out: {first} and the like."
            ));
        }
    }
    kept
}

/// What the last part of a bias's name is, by that of the weights.
fn bias_names(weights: &str) -> Vec<String> {
    let mut names: Vec<String> = [
        ("kernel", "bias"),
        ("weights", "biases"),
        ("weight", "bias"),
        ("Matrix", "Bias"),
        ("W", "b"),
        ("w", "b"),
    ]
    .into_iter()
    .filter(|(from, _)| weights.contains(from))
    .map(|(from, to)| weights.replace(from, to))
    .collect();
    names.retain(|name| name != weights);
    names
}

/// All layers of a checkpoint: tables of embeddings, LSTM layers, dense layers.
pub(super) fn found(
    source: &Source,
    all: Vec<Variable>,
    values: &mut dyn Values,
    forget_bias: &mut dyn FnMut(&mut Vec<String>) -> Result<f32, Error>,
    wanted: Option<&str>,
) -> Result<Found, Error> {
    let mut notes = Vec::new();
    let all = part(source, all, wanted)?;
    let mut rest = of_the_model(all, &mut notes);
    if rest.len() > MOST {
        let got = rest.len();
        return Err(source.problem(format!("expected at most {MOST} variables, got {got}")));
    }
    let mut reader = Reader {
        source,
        values,
        room: room(&rest),
        notes,
    };
    let cells = cells::take(&mut reader, &mut rest)?;
    if cells.is_empty() {
        let mut names: Vec<&str> = rest.iter().map(|variable| &variable.name[..]).collect();
        names.truncate(12);
        let names = names.join(", ");
        return Err(source.problem(format!(
            "expected variables of an LSTM cell (…lstm_cell/kernel and bias), got {names}"
        )));
    }
    let mut dense = take_dense(&mut rest);
    let first = cells.first().map_or(0, Cells::inputs);
    let mut layers = Vec::new();
    // What stands before the cells.
    let is_table = |v: &Variable| {
        let [_, width] = v.shape[..] else {
            return false;
        };
        let named = v.name.to_ascii_lowercase().contains("emb");
        let followed = dense.iter().any(|(kernel, _)| {
            kernel.shape.first() == Some(&width) && kernel.shape.get(1) == Some(&first)
        });
        named && (width == first || followed)
    };
    let mut width = None;
    if let Some(place) = rest.iter().position(is_table) {
        let table = rest.remove(place);
        let [rows, columns] = table.shape[..] else {
            return Err(reader.problem(&table.name, "expected two dimensions"));
        };
        layers.push(Layer {
            kind: Kind::Embedding {
                rows,
                width: columns,
                table: reader.read(&table)?,
            },
            name: table.name,
        });
        width = Some(columns);
    }
    for cells in cells {
        let inputs = cells.inputs();
        if width.is_some_and(|width| width != inputs) {
            // A dense layer between the two.
            let shape = [width.unwrap_or(0), inputs];
            let between = dense.iter().position(|(kernel, _)| kernel.shape == shape);
            match between {
                Some(place) => {
                    let (kernel, bias) = dense.remove(place);
                    layers.push(Layer {
                        kind: reader.dense(&kernel, bias.as_ref())?,
                        name: kernel.name,
                    });
                }
                None => {
                    let [before, _] = shape;
                    return Err(reader.problem(
                        cells.name(),
                        format_args!(
                            "expected a layer that takes the {before} outputs of {}, got one of \
                             {inputs} inputs; a part can be chosen by what its names begin with",
                            layers.last().map_or("", |layer: &Layer| &layer.name)
                        ),
                    ));
                }
            }
        }
        let layer = cells.layer(&mut reader, forget_bias)?;
        if let Kind::Lstm(lstm) = &layer.kind {
            width = Some(lstm.stage().outputs() * lstm.direction.count());
        }
        layers.push(layer);
    }
    while let Some(place) = dense
        .iter()
        .position(|(kernel, _)| kernel.shape.first().copied() == width)
    {
        let (kernel, bias) = dense.remove(place);
        width = kernel.shape.get(1).copied();
        layers.push(Layer {
            kind: reader.dense(&kernel, bias.as_ref())?,
            name: kernel.name,
        });
    }
    let without_place = dense.into_iter().map(|(kernel, _)| kernel).chain(rest);
    layers.extend(without_place.map(|variable| Layer {
        kind: Kind::Other(format!("variable of shape {:?}", variable.shape)),
        name: variable.name,
    }));
    let mut notes = reader.notes;
    notes.push(
        "A checkpoint has no layers but variables: their order is that of their names and widths, \
         and activations behind dense layers, such as a softmax, are not in it."
            .into(),
    );
    Ok(Found {
        format: Format::Tf1,
        part: None,
        layers,
        notes,
        sample_rate: None,
    })
}

/// Takes the matrices out that have a bias.
fn take_dense(rest: &mut Vec<Variable>) -> Vec<(Variable, Option<Variable>)> {
    let mut dense = Vec::new();
    for kernel in rest.clone() {
        let (scope, last) = kernel.split();
        let [_, outputs] = kernel.shape[..] else {
            continue;
        };
        let names = bias_names(last);
        let beside = |v: &Variable| v.split().0 == scope && v.shape == [outputs];
        let mut bias = rest
            .iter()
            .position(|v| beside(v) && names.iter().any(|name| v.split().1 == name));
        if bias.is_none() {
            // The only pair of a scope needs no such names.
            let others = rest.iter().filter(|v| v.split().0 == scope);
            let pair = others.count() == 2;
            bias = rest.iter().position(|v| pair && beside(v));
        }
        let weights = !names.is_empty();
        if bias.is_none() && (!weights || last.to_ascii_lowercase().contains("emb")) {
            continue;
        }
        let bias_variable = bias.and_then(|place| rest.get(place).cloned());
        rest.retain(|v| {
            v.name != kernel.name && bias_variable.as_ref().is_none_or(|b| b.name != v.name)
        });
        dense.push((kernel, bias_variable));
    }
    dense
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Options;
    use fused_lstm::Direction;
    use std::path::Path;

    struct Ones;

    impl Values for Ones {
        fn values(&mut self, variable: &Variable) -> Result<(Vec<f32>, Raw), Error> {
            Ok((vec![1.0; variable.len().unwrap()], Raw::F32))
        }
    }

    fn of(variables: &[(&str, &[usize])], options: &Options) -> Result<Found, String> {
        let source = Source::from_bytes(Path::new("f"), Vec::new());
        let all = variables.iter().enumerate();
        let all = all.map(|(at, (name, shape))| Variable {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            float: true,
            at,
        });
        let mut bias = |_: &mut Vec<String>| Ok(options.forget_bias.unwrap_or(0.0));
        found(
            &source,
            all.collect(),
            &mut Ones,
            &mut bias,
            options.part.as_deref(),
        )
        .map_err(|e| e.to_string())
    }

    fn kinds(found: &Found) -> Vec<String> {
        let layers = found.layers.iter();
        let kinds = layers.map(|layer| match &layer.kind {
            Kind::Embedding { rows, width, .. } => format!("E {rows} {width}"),
            Kind::Dense {
                inputs, outputs, ..
            } => format!("D {inputs} {outputs}"),
            Kind::Lstm(lstm) => {
                let both = lstm.direction == Direction::Both;
                let letter = if both { "B" } else { "L" };
                format!("{letter} {} {}", lstm.layer.inputs, lstm.layer.hidden)
            }
            Kind::Other(what) => what.clone(),
            _ => "?".into(),
        });
        kinds.collect()
    }

    #[test]
    fn names_of_all_times() {
        let none = Options::default();
        let old = [
            (
                "RNN/MultiRNNCell/Cell0/BasicLSTMCell/Linear/Matrix",
                &[5, 8][..],
            ),
            ("RNN/MultiRNNCell/Cell0/BasicLSTMCell/Linear/Bias", &[8]),
            (
                "RNN/MultiRNNCell/Cell1/BasicLSTMCell/Linear/Matrix",
                &[4, 8],
            ),
            ("RNN/MultiRNNCell/Cell1/BasicLSTMCell/Linear/Bias", &[8]),
            ("embedding", &[9, 3]),
            ("W_o", &[2, 7]),
            ("b_o", &[7]),
            ("train/W_o/RMSProp", &[2, 7]),
            ("step", &[]),
        ];
        let found = of(&old, &none).unwrap();
        assert_eq!(kinds(&found), ["E 9 3", "L 3 2", "L 2 2", "D 2 7"]);
        // The tenth cell is behind the second.
        let mut names = Vec::new();
        for k in [10, 2, 0] {
            names.push((format!("m/cell_{k}/lstm_cell/weights"), vec![4, 8]));
            names.push((format!("m/cell_{k}/lstm_cell/biases"), vec![8]));
        }
        let names: Vec<(&str, &[usize])> = names.iter().map(|(n, s)| (&n[..], &s[..])).collect();
        let found = of(&names, &none).unwrap();
        let last = &found.layers.last().unwrap().name;
        assert_eq!(last, "m/cell_10/lstm_cell");
        let keras = [
            ("lstm/kernel", &[3, 8][..]),
            ("lstm/recurrent_kernel", &[2, 8]),
            ("lstm/bias", &[8]),
            ("dense/kernel", &[2, 1]),
            ("dense/bias", &[1]),
        ];
        assert_eq!(kinds(&of(&keras, &none).unwrap()), ["L 3 2", "D 2 1"]);
    }

    #[test]
    fn two_parts() {
        let names = [
            ("encoder/lstm_cell/kernel", &[5, 8][..]),
            ("encoder/lstm_cell/bias", &[8]),
            ("decoder/lstm_cell/kernel", &[6, 8]),
            ("decoder/lstm_cell/bias", &[8]),
        ];
        let part = |part: Option<&str>| Options {
            part: part.map(str::to_owned),
            ..Options::default()
        };
        assert_eq!(
            of(&names, &part(None)).unwrap_err(),
            "f: key encoder/lstm_cell: expected a layer that takes the 2 outputs of \
             decoder/lstm_cell, got one of 3 inputs; a part can be chosen by what its names begin \
             with"
        );
        let found = of(&names, &part(Some("encoder"))).unwrap();
        assert_eq!(kinds(&found), ["L 3 2"]);
        assert_eq!(
            of(&names, &part(Some("other"))).unwrap_err(),
            "f: part other: expected what names begin with, such as encoder, decoder"
        );
    }

    #[test]
    fn refused() {
        let none = Options::default();
        let cell = ("lstm_cell/kernel", &[5, 8][..]);
        let bias = ("lstm_cell/bias", &[8][..]);
        let problem = |variables: &[(&str, &[usize])]| of(variables, &none).unwrap_err();
        assert_eq!(
            problem(&[("gru_cell/gates/kernel", &[5, 8])]),
            "f: expected variables of an LSTM cell (…lstm_cell/kernel and bias), got \
             gru_cell/gates/kernel"
        );
        assert_eq!(
            problem(&[cell, ("lstm_cell/bias", &[7])]),
            "f: key lstm_cell/bias: expected shape [8], got [7]"
        );
        assert_eq!(
            problem(&[cell, bias, ("lstm_cell/w_f_diag", &[2])]),
            "f: key lstm_cell: expected peepholes of i, f and o, got only some of them"
        );
        assert_eq!(
            problem(&[cell, bias, ("lstm_cell/input/gamma", &[2])]),
            "f: key lstm_cell/input/gamma: expected nothing but kernel, bias, peepholes and \
             projection in an LSTM cell"
        );
        assert_eq!(
            problem(&[("lstm_cell/kernel", &[5, 9]), bias]),
            "f: key lstm_cell/kernel: expected columns for four gates, got 9"
        );
        assert_eq!(
            problem(&[("lstm_cell/kernel", &[2, 8]), bias]),
            "f: key lstm_cell/kernel: expected rows for inputs and 2 outputs of 2 units, got shape \
             [2, 8]"
        );
        let found = of(&[cell, bias, ("conv/kernel", &[3, 1, 4])], &none).unwrap();
        assert_eq!(kinds(&found), ["L 3 2", "variable of shape [3, 1, 4]"]);
    }
}
