//! Variables by their names, as checkpoints of TensorFlow 1 have them, to layers.

use super::cells::{self, Cells};
use super::order::{Orders, Spec, family, orders};
use crate::Error;
use crate::import::raw::Raw;
use crate::import::{Format, Found, Kind, Layer, Source};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

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

/// What a name of the part that is wanted chooses.
struct Chosen<'a> {
    name: &'a str,
    /// The bias of the variable that has exactly this name.
    bias: Option<String>,
    /// The name for both directions, if it has one.
    both: Option<String>,
}

/// Whether a name is in a scope, or is the scope.
fn inside(name: &str, scope: &str) -> bool {
    let rest = name.strip_prefix(scope);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl<'a> Chosen<'a> {
    fn new(name: &'a str, all: &[Variable]) -> Self {
        let exact = all.iter().find(|variable| variable.name == name);
        Self {
            name,
            bias: exact
                .and_then(|kernel| bias_of(kernel, all).and_then(|place| all.get(place)))
                .map(|bias| bias.name.clone()),
            both: cells::direction(name).map(|(both, _)| both),
        }
    }

    fn has(&self, variable: &Variable) -> bool {
        let name = &variable.name;
        inside(name, self.name)
            || self.bias.as_ref() == Some(name)
            || self.both.as_ref().is_some_and(|both| {
                cells::direction(name).is_some_and(|(name, _)| inside(&name, both))
            })
    }
}

/// The names of the part that is wanted, in the order in which they run.
fn chosen<'a>(
    source: &Source,
    all: &[Variable],
    part: Option<&'a str>,
) -> Result<Vec<Chosen<'a>>, Error> {
    let names = part.unwrap_or("").split(',').map(str::trim);
    let names = names.map(|name| name.trim_end_matches('/'));
    let mut chosen = Vec::new();
    for name in names.filter(|name| !name.is_empty()).take(MOST) {
        let one = Chosen::new(name, all);
        if !all.iter().any(|variable| one.has(variable)) {
            let mut scopes: Vec<&str> = all
                .iter()
                .filter_map(|variable| variable.name.split_once('/'))
                .map(|(scope, _)| scope)
                .collect();
            scopes.dedup();
            scopes.truncate(20);
            let scopes = scopes.join(", ");
            return Err(source.problem(format!(
                "part {name}: expected what names begin with, such as {scopes}"
            )));
        }
        chosen.push(one);
    }
    Ok(chosen)
}

/// Without what is of the training only: slots of an optimizer, which have the name of a variable
/// and a word behind it, counters and single numbers.
fn of_the_model(mut all: Vec<Variable>, notes: &mut Vec<String>) -> Vec<Variable> {
    all.sort_by(|a, b| natural(&a.name, &b.name));
    let names: HashSet<&str> = all.iter().map(|v| &v.name[..]).collect();
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
    let chosen = chosen(source, &all, wanted)?;
    let is_chosen =
        |variable: &Variable| chosen.is_empty() || chosen.iter().any(|c| c.has(variable));
    let (all, left): (Vec<_>, Vec<_>) = all.into_iter().partition(is_chosen);
    if let [first, ..] = &left[..] {
        let (count, first) = (left.len(), &first.name);
        notes.push(format!(
            "Left out: {count} variables, {first} and the like."
        ));
    }
    let rest = of_the_model(all, &mut notes);
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
    let names: Vec<&str> = rest.iter().map(|variable| &variable.name[..]).collect();
    let names = names[..names.len().min(12)].join(", ");
    let mut groups: Vec<Vec<Variable>> = vec![Vec::new(); chosen.len().max(1)];
    for variable in rest {
        let group = chosen.iter().position(|one| one.has(&variable));
        if let Some(group) = groups.get_mut(group.unwrap_or(0)) {
            group.push(variable);
        }
    }
    let mut layers = Vec::new();
    let mut width = None;
    for group in groups {
        row(&mut reader, group, forget_bias, &mut layers, &mut width)?;
    }
    let is_cell = |layer: &Layer| matches!(layer.kind, Kind::Lstm(_));
    if !layers.iter().any(is_cell) {
        return Err(source.problem(format!(
            "expected variables of an LSTM cell (…lstm_cell/kernel and bias), got {names}"
        )));
    }
    let mut notes = reader.notes;
    notes.push(match chosen.len() {
        0 | 1 => "A checkpoint has no layers but variables: their order is that of their names \
                  and widths, and activations behind dense layers, such as a softmax, are not in \
                  it."
        .into(),
        _ => "A checkpoint has no layers but variables: their order is that of the part's names, \
              and activations behind dense layers, such as a softmax, are not in it."
            .into(),
    });
    notes.push(
        "The activation of a cell and its clipping are not in a checkpoint: tanh and none were \
         assumed."
            .into(),
    );
    Ok(Found {
        format: Format::Tf1,
        part: wanted.map(|_| Vec::new()),
        layers,
        notes,
        sample_rate: None,
    })
}

/// What says in which order layers run, as a checkpoint does not.
fn ambiguous(source: &Source, names: &[String]) -> Error {
    let names = names[..names.len().min(20)].join(",");
    source.problem(format!(
        "expected one order of layers that fits by names and widths, got several: choose one by \
         --part, with names in the order in which they run, of {names}"
    ))
}

/// Adds the layers of some variables, behind so many columns if that is known.
fn row(
    reader: &mut Reader,
    mut rest: Vec<Variable>,
    forget_bias: &mut dyn FnMut(&mut Vec<String>) -> Result<f32, Error>,
    layers: &mut Vec<Layer>,
    width: &mut Option<usize>,
) -> Result<(), Error> {
    let cells = cells::take(reader, &mut rest)?;
    let mut dense = take_dense(&mut rest);
    let specs: Vec<Spec> = cells.iter().map(Cells::spec).collect();
    let between: HashSet<(usize, usize)> = dense
        .iter()
        .filter_map(|(kernel, _)| Some((*kernel.shape.first()?, *kernel.shape.get(1)?)))
        .collect();
    let is_table = |v: &&Variable| v.shape.len() == 2 && v.name.to_lowercase().contains("emb");
    let names: Vec<String> = rest
        .iter()
        .filter(is_table)
        .map(|table| table.name.clone())
        .chain(specs.iter().map(|spec| spec.name.clone()))
        .chain(dense.iter().map(|(kernel, _)| kernel.name.clone()))
        .collect();
    // What stands before the cells.
    let columns = |v: &Variable| v.shape.get(1).copied();
    let begins = |v: &Variable| orders(&specs, columns(v), &between) != Orders::None;
    let mut widths: HashMap<Option<usize>, bool> = HashMap::new();
    let table = rest.iter().position(|v| {
        layers.is_empty() && is_table(&v) && *widths.entry(columns(v)).or_insert_with(|| begins(v))
    });
    if let Some(place) = table {
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
        *width = Some(columns);
    }
    let order = match orders(&specs, *width, &between) {
        Orders::One(order) => order,
        // What does not fit is said below.
        Orders::None => (0..cells.len()).collect(),
        Orders::Several => return Err(ambiguous(reader.source, &names)),
    };
    // Columns where a dense layer that leaves them as many could stand too.
    let mut free: HashSet<usize> = HashSet::new();
    let mut before = "";
    for cells in order.iter().filter_map(|&k| cells.get(k)) {
        let inputs = cells.inputs();
        if let Some(before) = width.filter(|&width| width != inputs) {
            // A dense layer between the two.
            let fits = |(kernel, _): &&(Variable, _)| kernel.shape == [before, inputs];
            let alike: Vec<String> = dense
                .iter()
                .filter(fits)
                .map(|(kernel, _)| family(&kernel.name))
                .collect();
            if alike.windows(2).any(|pair| pair[0] != pair[1]) {
                return Err(ambiguous(reader.source, &names));
            }
            match dense.iter().position(|one| fits(&one)) {
                Some(place) => {
                    let (kernel, bias) = dense.remove(place);
                    layers.push(Layer {
                        kind: reader.dense(&kernel, bias.as_ref())?,
                        name: kernel.name,
                    });
                }
                None => {
                    return Err(reader.problem(
                        cells.name(),
                        format_args!(
                            "expected a layer that takes the {before} outputs of {}, got one of \
                             {inputs} inputs; --part chooses some by what their names begin with, \
                             in the order in which they run",
                            layers.last().map_or("", |layer: &Layer| &layer.name)
                        ),
                    ));
                }
            }
        }
        // The cells of one multi_rnn_cell follow one another.
        if before.is_empty() || stack(before) != stack(cells.name()) {
            free.insert(inputs);
        }
        before = cells.name();
        let layer = cells.layer(reader, forget_bias)?;
        *width = Some(cells.outputs());
        layers.push(layer);
    }
    loop {
        // The first of a part may be a dense layer.
        let fits = |kernel: &Variable| width.is_none() || kernel.shape.first().copied() == *width;
        let mut next = dense.iter().filter(|(kernel, _)| fits(kernel));
        let Some((first, _)) = next.next() else { break };
        let own = family(&first.name);
        let square = first.shape.first() == first.shape.get(1);
        let elsewhere = square && first.shape.first().is_some_and(|side| free.contains(side));
        if elsewhere || next.any(|(kernel, _)| family(&kernel.name) != own) {
            return Err(ambiguous(reader.source, &names));
        }
        let place = dense.iter().position(|(kernel, _)| fits(kernel));
        let (kernel, bias) = dense.remove(place.unwrap_or(0));
        *width = kernel.shape.get(1).copied();
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
    Ok(())
}

/// The scope of a stack of cells that a cell is in, or the cell's own name.
fn stack(name: &str) -> &str {
    let lower = name.to_ascii_lowercase();
    let place = ["multi_rnn_cell/", "multirnncell/"];
    let place = place
        .iter()
        .find_map(|word| Some(lower.find(word)? + word.len()));
    place.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// Where the bias of a matrix is.
fn bias_of(kernel: &Variable, all: &[Variable]) -> Option<usize> {
    let (scope, last) = kernel.split();
    let [_, outputs] = kernel.shape[..] else {
        return None;
    };
    let names = bias_names(last);
    let beside = |v: &Variable| v.split().0 == scope && v.shape == [outputs];
    let named = all
        .iter()
        .position(|v| beside(v) && names.iter().any(|name| v.split().1 == name));
    named.or_else(|| {
        // The only pair of a scope needs no such names.
        let others = all.iter().filter(|v| v.split().0 == scope);
        let pair = others.count() == 2;
        all.iter().position(|v| pair && beside(v))
    })
}

/// Takes the matrices out that have a bias.
fn take_dense(rest: &mut Vec<Variable>) -> Vec<(Variable, Option<Variable>)> {
    let mut dense = Vec::new();
    for kernel in rest.clone() {
        if kernel.shape.len() != 2 {
            continue;
        }
        let (_, last) = kernel.split();
        let names = bias_names(last);
        let bias = bias_of(&kernel, rest);
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
             decoder/lstm_cell, got one of 3 inputs; --part chooses some by what their names begin \
             with, in the order in which they run"
        );
        let found = of(&names, &part(Some("encoder"))).unwrap();
        assert_eq!(kinds(&found), ["L 3 2"]);
        assert_eq!(
            of(&names, &part(Some("other"))).unwrap_err(),
            "f: part other: expected what names begin with, such as encoder, decoder"
        );
    }

    #[test]
    fn several_orders() {
        let part = |part: &str| Options {
            part: Some(part.to_owned()),
            ..Options::default()
        };
        let none = Options::default();
        let asks = |variables: &[(&str, &[usize])], names: &str| {
            let expected = format!(
                "f: expected one order of layers that fits by names and widths, got several: \
                 choose one by --part, with names in the order in which they run, of {names}"
            );
            assert_eq!(of(variables, &none).unwrap_err(), expected);
        };
        let found = |variables: &[(&str, &[usize])], names: &str| {
            let found = of(variables, &part(names)).unwrap();
            let names = found.layers.into_iter().map(|layer| layer.name);
            names.collect::<Vec<_>>()
        };
        let two = [
            ("encoder/lstm_cell/kernel", &[4, 8][..]),
            ("encoder/lstm_cell/bias", &[8]),
            ("decoder/lstm_cell/kernel", &[4, 8]),
            ("decoder/lstm_cell/bias", &[8]),
        ];
        asks(&two, "decoder/lstm_cell,encoder/lstm_cell");
        let names = ["encoder/lstm_cell", "decoder/lstm_cell"];
        assert_eq!(found(&two, "encoder,decoder"), names);
        assert_eq!(found(&two, &names.join(",")), names);
        let cell = ("rnn/lstm_cell/kernel", &[5, 8][..]);
        let bias = ("rnn/lstm_cell/bias", &[8][..]);
        let heads = [
            cell,
            bias,
            ("hidden/kernel", &[2, 2]),
            ("hidden/bias", &[2]),
            ("classify/kernel", &[2, 2]),
            ("classify/bias", &[2]),
        ];
        asks(&heads, "rnn/lstm_cell,classify/kernel,hidden/kernel");
        let chosen = of(&heads, &part("rnn,hidden/kernel,classify")).unwrap();
        assert_eq!(kinds(&chosen), ["L 3 2", "D 2 2", "D 2 2"]);
        assert!(!chosen.notes.iter().any(|note| note.contains("no bias")));
        let last = chosen.layers.last().map(|layer| &layer.name[..]);
        assert_eq!(last, Some("classify/kernel"));
        // The second could be a head beside the first.
        let heads = [
            cell,
            bias,
            ("a/w", &[2, 2]),
            ("a/b", &[2]),
            ("c/w", &[2, 9]),
            ("c/b", &[9]),
        ];
        asks(&heads, "rnn/lstm_cell,a/w,c/w");
        let numbered = [
            cell,
            bias,
            ("dense/kernel", &[2, 2]),
            ("dense_1/kernel", &[2, 9]),
        ];
        assert_eq!(
            kinds(&of(&numbered, &none).unwrap()),
            ["L 3 2", "D 2 2", "D 2 9"]
        );
        // Before the cell, or behind it.
        let square = [
            ("rnn/lstm_cell/kernel", &[4, 8][..]),
            bias,
            ("w", &[2, 2]),
            ("b", &[2]),
        ];
        asks(&square, "rnn/lstm_cell,w");
        assert_eq!(found(&square, "w,rnn"), ["w", "rnn/lstm_cell"]);
        let both = [
            ("a/fw/lstm_cell/kernel", &[5, 8][..]),
            ("a/bw/lstm_cell/kernel", &[5, 8]),
            ("w", &[4, 2]),
            ("b", &[2]),
        ];
        let both = of(&both, &part("a/fw/lstm_cell,w")).unwrap();
        assert_eq!(kinds(&both), ["B 3 2", "D 4 2"]);
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
