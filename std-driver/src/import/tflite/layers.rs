//! The operators on the way from the input to the output, as layers.

use super::model::{Model, Operator};
use super::path::Part;
use super::unrolled::{Unrolled, without_effect};
use super::{fused, ops};
use crate::Error;
use crate::import::{Format, Found, Kind, Layer, Lstm, gates};
use fused_lstm::{Activation, Direction, Returns};

/// What is known on the way.
struct Reader<'a, 'b> {
    model: &'a mut Model<'b>,
    layers: Vec<Layer>,
    notes: Vec<String>,
    /// The dimension of the time steps, behind the first LSTM.
    time: Option<usize>,
}

/// All layers of a way.
pub(super) fn found(model: &mut Model, unrolled: &Unrolled, path: &[Part]) -> Result<Found, Error> {
    let mut reader = Reader {
        model,
        layers: Vec::new(),
        notes: Vec::new(),
        time: None,
    };
    for part in path {
        match part {
            Part::Operator {
                operator,
                before,
                after,
            } => {
                let Some(found) = reader.model.operators.get(*operator).cloned() else {
                    continue;
                };
                reader.operator(&found, *before, *after)?;
            }
            Part::Both {
                operators,
                after,
                last,
            } => reader.both(*operators, *after, *last)?,
            Part::Chain { chain, last } => reader.chain(unrolled, chain, *last)?,
        }
    }
    let Reader {
        model,
        layers,
        mut notes,
        ..
    } = reader;
    for name in fused::were_integers(&model.converted) {
        notes.push(format!(
            "{name} weights were dequantised: the integer rounding of the original is not \
             reproduced."
        ));
    }
    for name in ["float16", "float64"] {
        if model.converted.contains(&name) {
            notes.push(format!("Weights were converted from {name}."));
        }
    }
    let integers = |tensors: &[usize]| {
        let mut tensors = tensors
            .iter()
            .filter_map(|&tensor| model.tensors.get(tensor));
        tensors.any(|tensor| tensor.is_integer())
    };
    if integers(&model.inputs) || integers(&model.outputs) {
        notes.push(
            "Inputs or outputs of the original are integers: those of this model are the numbers \
             that they stand for."
                .into(),
        );
    }
    Ok(Found {
        format: Format::Tflite,
        part: None,
        layers,
        notes,
        sample_rate: None,
    })
}

/// The dimension of which a slice takes the last place, and nothing else.
pub(super) fn last_of(model: &Model, operator: usize) -> Option<usize> {
    let slice = model.operators.get(operator)?;
    let of = slice.input(0)?;
    let sizes = model.shape(of);
    let options = slice.options?;
    let mask = |field| options.i32(field).ok();
    let (from, to, dropped) = (mask(0)?, mask(1)?, mask(4)?);
    if mask(2)? != 0 || mask(3)? != 0 || sizes.len() > 8 {
        return None;
    }
    let numbers = [1, 2, 3].map(|number| model.integers(slice.input(number)?));
    let [Some(begin), Some(end), Some(stride)] = numbers else {
        return None;
    };
    let mut last = None;
    for (k, &size) in sizes.iter().enumerate() {
        let size = i64::try_from(size).ok()?;
        if *stride.get(k)? != 1 {
            return None;
        }
        let set = |mask: i32| mask & (1 << k) != 0;
        let place = |place: i64| {
            if place < 0 {
                place.saturating_add(size)
            } else {
                place
            }
        };
        let begin = if set(from) { 0 } else { place(*begin.get(k)?) };
        let end = if set(to) { size } else { place(*end.get(k)?) };
        if set(dropped) {
            if begin != size - 1 || last.is_some() {
                return None;
            }
            last = Some(k);
        } else if begin != 0 || end < size {
            return None;
        }
    }
    last
}

impl Reader<'_, '_> {
    fn push(&mut self, after: usize, kind: Kind) {
        self.push_named(after, "", kind);
    }

    /// Adds a layer by the name of what it gives: that before the first `;`, behind which those of
    /// what was fused into it follow, and which a shell takes for an end.
    fn push_named(&mut self, after: usize, behind: &str, kind: Kind) {
        let name = self.model.name(after);
        let name = name.split(';').next().unwrap_or(name);
        let name = match name.char_indices().nth(200) {
            Some((end, _)) => name.get(..end).unwrap_or(""),
            None => name,
        };
        self.layers.push(Layer {
            name: format!("{name}{behind}"),
            kind,
        });
    }

    fn other(&mut self, operator: &Operator, before: usize, after: usize) {
        let what = ops::name(operator.code);
        let (from, to) = (self.model.shape(before), self.model.shape(after));
        let text = format!("{what} {from:?} to {to:?}");
        self.push(after, Kind::Other(text));
    }

    /// The function that an operator applies to what it gives.
    fn function(&mut self, function: u8, after: usize) {
        let kind = match function {
            0 => return,
            1 => Kind::Activation(Activation::Relu),
            2 => Kind::Other("RELU_N1_TO_1".into()),
            3 => Kind::Other("RELU6".into()),
            4 => Kind::Activation(Activation::Tanh),
            other => Kind::Other(format!("activation number {other}")),
        };
        // One that is not run is no part of what the layer's name chooses.
        let behind = match kind {
            Kind::Other(_) => ":activation",
            _ => ".activation",
        };
        self.push_named(after, behind, kind);
    }

    fn lstm(&mut self, lstm: Lstm, time_major: bool, after: usize) -> Result<(), Error> {
        let time = usize::from(!time_major);
        if self.time.is_some_and(|known| known != time) {
            return Err(self
                .model
                .problem(after, "expected the time steps in one dimension"));
        }
        self.time = Some(time);
        self.push(after, Kind::Lstm(Box::new(lstm)));
        Ok(())
    }

    fn both(&mut self, operators: [usize; 2], after: usize, last: bool) -> Result<(), Error> {
        let mut both: Option<Lstm> = None;
        for operator in operators {
            let Some(operator) = self.model.operators.get(operator).cloned() else {
                continue;
            };
            if self.time_major(&operator, 3, after)? {
                return Err(self.model.problem(after, "expected rows of a batch first"));
            }
            let lstm = fused::lstm(self.model, &operator, fused::ONE)?;
            match &mut both {
                None => both = Some(lstm),
                Some(first) if first.stage() == lstm.stage() => first.params.extend(lstm.params),
                Some(_) => {
                    let text = "expected two directions of the same shape";
                    return Err(self.model.problem(after, text));
                }
            }
        }
        let Some(mut lstm) = both else { return Ok(()) };
        lstm.direction = Direction::Both;
        if last {
            lstm.returns = Returns::Last;
        }
        self.lstm(lstm, false, after)
    }

    fn chain(
        &mut self,
        unrolled: &Unrolled,
        chain: &super::unrolled::Chain,
        last: bool,
    ) -> Result<(), Error> {
        let step = chain
            .steps
            .last()
            .and_then(|&last| unrolled.steps.get(last));
        let after = step.and_then(|step| unrolled.tensor(self.model, step.output));
        let after = after.unwrap_or(usize::MAX);
        unrolled
            .starts_from_zeros(self.model, chain)
            .map_err(|problem| self.model.problem(after, problem))?;
        let mut lstm = fused::chain(self.model, unrolled, chain, after)?;
        let name = self.model.name(after);
        let steps = chain.steps.len();
        if last {
            lstm.returns = Returns::Last;
        }
        self.notes.push(match steps {
            1 => format!(
                "{name}: an LSTM of small operators, one step a call; the state that goes in is \
                 taken to be the one that came out."
            ),
            _ => format!("{name}: an LSTM of small operators, unrolled for {steps} steps."),
        });
        self.push(after, Kind::Lstm(Box::new(lstm)));
        Ok(())
    }

    fn time_major(&self, operator: &Operator, field: usize, after: usize) -> Result<bool, Error> {
        let broken = |e| self.model.problem(after, e);
        let options = operator.options;
        let read = options.map_or(Ok(0), |options| options.u8(field));
        Ok(read.map_err(broken)? != 0)
    }

    fn operator(&mut self, operator: &Operator, before: usize, after: usize) -> Result<(), Error> {
        let option = |field| operator.options.map_or(Ok(0), |options| options.u8(field));
        let broken = |e: super::buffer::Broken| e.to_string();
        match operator.code {
            ops::UNIDIRECTIONAL_SEQUENCE_LSTM => {
                if (20..24).any(|number| operator.input(number).is_some()) {
                    let text = "UNIDIRECTIONAL_SEQUENCE_LSTM with layer normalisation";
                    self.push(after, Kind::Other(text.into()));
                    return Ok(());
                }
                let time_major = self.time_major(operator, 3, after)?;
                let lstm = fused::lstm(self.model, operator, fused::ONE)?;
                self.lstm(lstm, time_major, after)?;
            }
            ops::BIDIRECTIONAL_SEQUENCE_LSTM => {
                let time_major = self.time_major(operator, 4, after)?;
                let merged = self.time_major(operator, 3, after)?;
                if !merged || (39..48).any(|number| operator.input(number).is_some()) {
                    self.other(operator, before, after);
                    return Ok(());
                }
                let [forward, backward] = fused::TWO;
                let mut lstm = fused::lstm(self.model, operator, forward)?;
                let other = fused::lstm(self.model, operator, backward)?;
                if other.stage() != lstm.stage() {
                    let text = "expected two directions of the same shape";
                    return Err(self.model.problem(after, text));
                }
                lstm.params.extend(other.params);
                lstm.direction = Direction::Both;
                self.lstm(lstm, time_major, after)?;
            }
            ops::FULLY_CONNECTED => self.dense(operator, before, after)?,
            ops::LOGISTIC => self.push(after, Kind::Activation(Activation::Sigmoid)),
            ops::TANH => self.push(after, Kind::Activation(Activation::Tanh)),
            ops::RELU => self.push(after, Kind::Activation(Activation::Relu)),
            ops::SOFTMAX => {
                let beta = operator.options.map_or(Ok(1.0), |options| options.f32(0));
                match beta.map_err(|e| self.model.problem(after, broken(e)))? {
                    1.0 => self.push(after, Kind::Activation(Activation::Softmax)),
                    beta => self.push(after, Kind::Other(format!("SOFTMAX of {beta}·x"))),
                }
            }
            ops::QUANTIZE | ops::DEQUANTIZE | ops::CAST => {
                self.push(after, Kind::Nothing(ops::name(operator.code).into()));
            }
            ops::RESHAPE | ops::SQUEEZE | ops::EXPAND_DIMS => {
                if let Some(steps) = self.flattened(before, after) {
                    self.push(after, Kind::Flatten { steps });
                    self.time = None;
                } else if !self.only_rows(before, after) {
                    self.other(operator, before, after);
                }
            }
            ops::PACK | ops::UNPACK => {
                let count = operator.inputs().count().max(operator.outputs.len());
                if count != 1 || !without_effect(self.model, Some(before), Some(after)) {
                    self.other(operator, before, after);
                }
            }
            ops::TRANSPOSE => {
                let order = operator
                    .input(1)
                    .and_then(|order| self.model.integers(order));
                if order.as_deref() == Some(&[1, 0, 2]) {
                    // The numbers are the same, rows of the batch or steps first.
                    self.time = self.time.map(|time| 1 - time.min(1));
                } else {
                    self.other(operator, before, after);
                }
            }
            ops::STRIDED_SLICE => {
                let maker = self.model.makers.get(after).copied().flatten();
                let axis = maker.and_then(|(slice, _)| last_of(self.model, slice));
                if !self.returns(axis, Returns::Last) {
                    self.other(operator, before, after);
                }
            }
            ops::MEAN => {
                let axes = operator.input(1).and_then(|axes| self.model.integers(axes));
                let axis = match axes.as_deref() {
                    Some(&[axis]) => usize::try_from(axis).ok(),
                    _ => None,
                };
                if !self.returns(axis, Returns::Mean) {
                    self.other(operator, before, after);
                }
            }
            ops::REVERSE_V2 => {
                let axes = operator.input(1).and_then(|axes| self.model.integers(axes));
                // Before the first LSTM, the rows of a batch are first.
                let time = self.time.unwrap_or(1) as i64;
                if axes.as_deref() == Some(&[time]) && self.model.shape(before).len() == 3 {
                    self.push(after, Kind::Reverse);
                } else {
                    self.other(operator, before, after);
                }
            }
            ops::GATHER | ops::EMBEDDING_LOOKUP => self.embedding(operator, before, after)?,
            ops::MUL | ops::ADD | ops::SUB => {
                let function = option(0);
                let function = function.map_err(|e| self.model.problem(after, broken(e)))?;
                self.affine(operator, before, after)?;
                self.function(function, after);
            }
            _ => self.other(operator, before, after),
        }
        Ok(())
    }

    /// Whether two tensors have the same rows: dimensions before the last may be one.
    fn only_rows(&self, before: usize, after: usize) -> bool {
        let (from, to) = (self.model.shape(before), self.model.shape(after));
        let same = from.last() == to.last() && to.len() == 2 && from.len() > 2;
        let count = |sizes: &[usize]| {
            let mut sizes = sizes.iter().copied();
            sizes.try_fold(1, usize::checked_mul)
        };
        same && count(from) == count(to) || without_effect(self.model, Some(before), Some(after))
    }

    /// The steps, if they come to lie side by side.
    fn flattened(&self, before: usize, after: usize) -> Option<usize> {
        let (from, to) = (self.model.shape(before), self.model.shape(after));
        let ([rows, steps, width], [rows_after, all]) = (from, to) else {
            return None;
        };
        let flat = self.time == Some(1) && rows == rows_after && *steps > 1;
        (flat && steps.checked_mul(*width) == Some(*all)).then_some(*steps)
    }

    /// Makes the layer before it give less, if it is an LSTM whose time steps that is about.
    fn returns(&mut self, axis: Option<usize>, returns: Returns) -> bool {
        let time = self.time;
        match self.layers.last_mut() {
            Some(Layer {
                kind: Kind::Lstm(lstm),
                ..
            }) if axis.is_some()
                && axis == time
                && lstm.returns == Returns::Sequence
                && (returns == Returns::Mean || lstm.direction == Direction::Forward) =>
            {
                lstm.returns = returns;
                true
            }
            _ => false,
        }
    }

    fn dense(&mut self, operator: &Operator, before: usize, after: usize) -> Result<(), Error> {
        let weights = operator.input(1).unwrap_or(usize::MAX);
        let [outputs, inputs] = *self.model.shape(weights) else {
            let text = "expected weights of two dimensions";
            return Err(self.model.problem(after, text));
        };
        let format = operator.options.map_or(Ok(0), |options| options.u8(1));
        let function = operator.options.map_or(Ok(0), |options| options.u8(0));
        let (Ok(format), Ok(function)) = (format, function) else {
            return Err(self
                .model
                .problem(after, "expected options, got broken ones"));
        };
        if format != 0 || operator.input(0) != Some(before) {
            self.other(operator, before, after);
            return Ok(());
        }
        if self.model.shape(before).last() != Some(&inputs) {
            let from = self.model.shape(before);
            let text = format!("RESHAPE {from:?} to rows of {inputs}");
            self.push(after, Kind::Other(text));
        }
        let rows = self.model.numbers(weights, &[outputs, inputs])?;
        if rows.is_empty() {
            return Err(self.model.problem(weights, "expected weights, got none"));
        }
        let bias = match operator.input(2) {
            Some(bias) => self.model.numbers(bias, &[outputs])?,
            None => crate::memory::zeros(outputs)?,
        };
        let kind = Kind::Dense {
            inputs,
            outputs,
            kernel: gates::transposed(&rows, outputs, inputs),
            bias,
        };
        self.push(after, kind);
        self.function(function, after);
        Ok(())
    }

    fn embedding(&mut self, operator: &Operator, before: usize, after: usize) -> Result<(), Error> {
        let table = match operator.code {
            ops::GATHER => operator.input(0),
            _ => operator.input(1),
        };
        let table = table.unwrap_or(usize::MAX);
        let options = operator.options.filter(|_| operator.code == ops::GATHER);
        let plain = options.is_none_or(|o| o.i32(0) == Ok(0) && o.i32(1) == Ok(0));
        match *self.model.shape(table) {
            [rows, width] if plain && table != before && rows > 0 && width > 0 => {
                let table = self.model.numbers(table, &[rows, width])?;
                self.push(after, Kind::Embedding { rows, width, table });
            }
            _ => self.other(operator, before, after),
        }
        Ok(())
    }

    /// A product or a sum with a constant, of one number or of one for each column.
    fn affine(&mut self, operator: &Operator, before: usize, after: usize) -> Result<(), Error> {
        let first = operator.input(0) == Some(before);
        let constant = operator.input(usize::from(first)).unwrap_or(usize::MAX);
        let shape = self.model.shape(constant).to_vec();
        let width = self.model.shape(before).last().copied().unwrap_or(0);
        let fits = shape.iter().all(|&size| size == 1)
            || shape.last() == Some(&width) && shape.iter().rev().skip(1).all(|&size| size == 1);
        if !fits || self.model.shape(before) != self.model.shape(after) {
            self.other(operator, before, after);
            return Ok(());
        }
        let values = self.model.numbers(constant, &shape)?;
        if width > self.model.source.bytes().len() {
            self.other(operator, before, after);
            return Ok(());
        }
        let values = match values[..] {
            [value] => vec![value; width],
            _ => values,
        };
        let [zeros, ones] = [0.0, 1.0].map(|value| vec![value; width]);
        let negative = || values.iter().map(|v| -v).collect();
        let (scale, shift) = match (operator.code, first) {
            (ops::MUL, _) => (values, zeros),
            (ops::ADD, _) => (ones, values),
            (_, true) => (ones, negative()),
            (_, false) => (vec![-1.0; width], values),
        };
        self.push(after, Kind::Affine { scale, shift });
        Ok(())
    }
}
