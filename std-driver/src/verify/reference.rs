//! The comparison with the tensors of a reference, by their keys.
//!
//! | key | what it is |
//! |---|---|
//! | `x`, `y`, `state.N` | the LSTM layers alone: input, output, final state of layer N |
//! | `lstm.N.x`, `.y` | layer N alone; `.X`, `.Y` `[T, D, B, H]`, `.Y_h`, `.Y_c` `[D, B, H]` in ONNX's form |
//! | `model.x` or `ids`, `model.y` | the whole model; `.x`, `.y` of another word likewise |
//! | `logits` | the whole model without a softmax at its end |
//! | `h_n`, `c_n` | the final states of all layers, `[L·D, B, H]` |
//! | `initial_state.N` | the state that the model starts from |
//! | `model.y_prewarmed` | after as many zeros as `prewarm_zero_samples` of the metadata says |

use super::Output;
use crate::Error;
use crate::chain::{ChainModel, Runner, directions};
use crate::tensors::TensorFile;
use fused_lstm::{Activation, Extent, LstmStage, Returns, Stage};

/// What could be compared.
pub(super) struct Comparison {
    pub(super) outputs: Vec<Output>,
    pub(super) passed_over: Vec<String>,
}

/// A tensor of the reference.
struct Tensor {
    key: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Compares everything that can be; with `swapped`, as if c and h had changed places.
pub(super) fn compare(
    model: &ChainModel,
    reference: &TensorFile,
    swapped: bool,
) -> Result<Comparison, Error> {
    let mut all = Vec::new();
    let mut passed_over = Vec::new();
    for key in reference.keys() {
        match reference.numbers(&key) {
            Ok((shape, values)) => all.push(Tensor { key, shape, values }),
            // Other types than numbers say nothing; a number that is none is an error.
            Err(error) if reference.f32_shape(&key).is_ok() => return Err(error),
            Err(_) => passed_over.push(key),
        }
    }
    let mut comparison = Comparing {
        model,
        reference,
        tensors: &all,
        swapped,
        outputs: Vec::new(),
        used: Vec::new(),
    };
    comparison.stack()?;
    comparison.layers()?;
    comparison.whole()?;
    comparison.starts()?;
    let Comparing { outputs, used, .. } = comparison;
    let unused = all.iter().filter(|tensor| !used.contains(&tensor.key));
    passed_over.extend(unused.map(|tensor| tensor.key.clone()));
    Ok(Comparison {
        outputs,
        passed_over,
    })
}

struct Comparing<'a> {
    model: &'a ChainModel,
    reference: &'a TensorFile,
    tensors: &'a [Tensor],
    swapped: bool,
    outputs: Vec<Output>,
    used: Vec<String>,
}

/// What a run gives.
struct Ran {
    extent: Extent,
    y: Vec<f32>,
    state: Vec<f32>,
}

impl<'a> Comparing<'a> {
    fn get(&self, key: &str) -> Option<&'a Tensor> {
        self.tensors.iter().find(|tensor| tensor.key == key)
    }

    fn is_used(&self, key: &str) -> bool {
        self.used.iter().any(|used| used == key)
    }

    /// Adds the comparison with a tensor, if it has as many numbers.
    fn add(&mut self, tensor: &Tensor, got: &[f32]) {
        if got.len() == tensor.values.len() {
            self.used.push(tensor.key.clone());
            self.outputs.push(output(tensor, got));
        }
    }

    /// The stages from `first` to `last`, and the start of these.
    fn part(&self, first: usize, last: usize) -> ChainModel {
        let lens = |stages: &[crate::chain::NamedStage]| {
            let each = stages.iter().map(|stage| stage.stage);
            let params: usize = each.clone().map(|stage| stage.params_len()).sum();
            let state: usize = each.map(|stage| stage.state_len(1)).sum();
            (params, state)
        };
        let stages = &self.model.stages;
        let (params_at, state_at) = lens(&stages[..first]);
        let (params, state) = lens(&stages[first..=last]);
        let before = stages[..first].iter();
        let width = before.fold(self.model.inputs, |width, stage| stage.stage.width(width));
        let start = self.model.start.as_ref();
        ChainModel {
            inputs: width,
            stages: stages[first..=last].to_vec(),
            params: self.model.params[params_at..params_at + params].to_vec(),
            start: start.map(|start| start[state_at..state_at + state].to_vec()),
            sample_rate: None,
        }
    }

    /// The places of the LSTM layers.
    fn lstms(&self) -> Vec<usize> {
        let stages = self.model.stages.iter().enumerate();
        let lstm = stages.filter(|(_, stage)| matches!(stage.stage, Stage::Lstm(_)));
        lstm.map(|(index, _)| index).collect()
    }

    /// `x`, `y`, `state.N`, and the outputs of layers in the stack.
    fn stack(&mut self) -> Result<(), Error> {
        let lstms = self.lstms();
        let (Some(&first), Some(&last)) = (lstms.first(), lstms.last()) else {
            return Ok(());
        };
        let first = self.with_reverse(first);
        let Some(x) = self.get("x") else {
            return Ok(());
        };
        for (index, &end) in lstms.iter().enumerate() {
            // Only the last one may have been asked for less than its whole sequence.
            let key = format!("lstm.{index}.y");
            let alone = self.get(&format!("lstm.{index}.x")).is_some();
            if end == last || alone {
                continue;
            }
            if let Some(y) = self.get(&key) {
                let part = self.part(first, end);
                if let Some(ran) = run_rows(&part, x, Order::Time)? {
                    self.add(y, &ran.y);
                }
            }
        }
        let own = self.part(first, last);
        let mut part = own.clone();
        if let Some(Stage::Lstm(lstm)) = part.stages.last_mut().map(|stage| &mut stage.stage) {
            lstm.returns = Returns::Sequence;
        }
        let Some(ran) = self.in_order(&part, x)? else {
            return Ok(());
        };
        self.used.push("x".into());
        for key in ["y", "numpy.y", &format!("lstm.{}.y", lstms.len() - 1)] {
            let alone = self.get(&format!("lstm.{}.x", lstms.len() - 1)).is_some();
            if let Some(y) = self.get(key).filter(|_| key == "y" || !alone) {
                self.add(y, &ran.y);
            }
        }
        let width = ran.y.len() / ran.extent.rows().max(1);
        if let Some(h) = self.get("h_last") {
            let at = ran.y.len() - ran.extent.batch * width;
            self.add(h, &ran.y[at..]);
        }
        // Some references have what the layer hands on in place of its whole sequence.
        if let Some(y) = self.get("y").filter(|_| !self.is_used("y"))
            && let Some(ran) = run_rows(&own, x, Order::Time)?
        {
            self.add(y, &ran.y);
            if !self.is_used("y") {
                return Err(self.does_not_fit(y, ran.y.len()));
            }
        }
        self.states(&part, &ran, 0);
        self.final_states(&part, &ran);
        Ok(())
    }

    /// A run in the order of time and batch in which `y` is nearer, or with the steps first.
    fn in_order(&self, part: &ChainModel, x: &Tensor) -> Result<Option<Ran>, Error> {
        let Some(steps_first) = run_rows(part, x, Order::Time)? else {
            return Ok(None);
        };
        let far = |ran: &Ran| match self.get("y") {
            Some(y) if y.values.len() == ran.y.len() => Some(output(y, &ran.y).largest),
            _ => None,
        };
        // Nobody asks for the other order where this one fits.
        let Some(distance) = far(&steps_first).filter(|&distance| distance > 1e-3) else {
            return Ok(Some(steps_first));
        };
        let other = run_rows(part, x, Order::Batch)?;
        let nearer = other.filter(|other| far(other).is_some_and(|other| other < distance));
        Ok(Some(nearer.unwrap_or(steps_first)))
    }

    fn does_not_fit(&self, tensor: &Tensor, got: usize) -> Error {
        self.reference.problem(format!(
            "key {}: the model gives {got} numbers, got shape {:?}; if it gives every step, import it with --returns last or mean",
            tensor.key, tensor.shape
        ))
    }

    /// The place of a layer, or of what turns the steps round before it, as a layer of Keras that goes
    /// backwards does itself.
    fn with_reverse(&self, lstm: usize) -> usize {
        match lstm.checked_sub(1) {
            Some(before) if self.model.stages[before].stage == Stage::Reverse => before,
            _ => lstm,
        }
    }

    /// `state.N` of the layers of a part, of which the first has this number.
    fn states(&mut self, part: &ChainModel, ran: &Ran, first: usize) {
        let tensors = crate::chain::state_tensors_of(&part.stages, ran.extent.batch);
        let mut rest = &ran.state[..];
        for (key, shape) in tensors {
            let (own, after) = rest.split_at(shape.iter().product());
            rest = after;
            let mut words = key.splitn(3, '.');
            let index = words.nth(1).and_then(|index| index.parse::<usize>().ok());
            let more = words
                .next()
                .map_or(String::new(), |more| format!(".{more}"));
            let key = format!("state.{}{more}", first + index.unwrap_or(0));
            if let Some(state) = self.get(&key).filter(|_| !self.is_used(&key)) {
                self.add(state, &self.turned(own));
            }
        }
    }

    /// c and h, exchanged if that is what is tried.
    fn turned(&self, state: &[f32]) -> Vec<f32> {
        let (c, h) = state.split_at(state.len() / 2);
        if self.swapped {
            [h, c].concat()
        } else {
            state.to_vec()
        }
    }

    /// The final states of all layers and directions, h and c apart.
    fn final_states(&mut self, part: &ChainModel, ran: &Ran) {
        let batch = ran.extent.batch;
        let (mut c, mut h) = (Vec::new(), Vec::new());
        let mut rest = &ran.state[..];
        for stage in &part.stages {
            let Stage::Lstm(lstm) = stage.stage else {
                continue;
            };
            for _ in directions(&lstm) {
                let (own, after) = rest.split_at(lstm.direction_state_len(batch));
                rest = after;
                let (own_c, own_h) = own.split_at(batch * lstm.layer.hidden);
                c.extend_from_slice(own_c);
                h.extend_from_slice(own_h);
            }
        }
        if self.swapped {
            std::mem::swap(&mut c, &mut h);
        }
        for (names, values) in [
            (["h_n", "hn", "model.y.h_n"], &h),
            (["c_n", "cn", "model.y.c_n"], &c),
        ] {
            for name in names {
                if let Some(tensor) = self.get(name).filter(|_| !self.is_used(name)) {
                    self.add(tensor, values);
                }
            }
        }
    }

    /// Each layer on an input of its own.
    fn layers(&mut self) -> Result<(), Error> {
        for (index, at) in self.lstms().into_iter().enumerate() {
            let key = |what: &str| format!("lstm.{index}.{what}");
            let Some(x) = self.get(&key("x")).or_else(|| self.get(&key("X"))) else {
                continue;
            };
            let mut part = self.part(self.with_reverse(at), at);
            let Some(Stage::Lstm(lstm)) = part.stages.last_mut().map(|stage| &mut stage.stage)
            else {
                continue;
            };
            lstm.returns = Returns::Sequence;
            let lstm = *lstm;
            let Some(ran) = run_rows(&part, x, Order::Time)? else {
                continue;
            };
            self.used.push(x.key.clone());
            if let Some(y) = self.get(&key("y")) {
                self.add(y, &ran.y);
            }
            if let Some(y) = self.get(&key("Y")) {
                self.add(y, &by_direction(&lstm, &ran));
            }
            let (mut c, mut h) = (Vec::new(), Vec::new());
            for state in ran.state.chunks(lstm.direction_state_len(ran.extent.batch)) {
                let (own_c, own_h) = state.split_at(ran.extent.batch * lstm.layer.hidden);
                c.extend_from_slice(own_c);
                h.extend_from_slice(own_h);
            }
            if self.swapped {
                std::mem::swap(&mut c, &mut h);
            }
            self.states(&part, &ran, index);
            for (what, values) in [("Y_h", h), ("Y_c", c)] {
                if let Some(tensor) = self.get(&key(what)) {
                    self.add(tensor, &values);
                }
            }
        }
        Ok(())
    }

    /// The whole model, on every input that there is for it.
    fn whole(&mut self) -> Result<(), Error> {
        let own = |tensor: &&Tensor| {
            ["model.x", "ids"].contains(&tensor.key.as_str())
                || tensor.key.starts_with("model.x.")
                || tensor.key == "model.x0"
        };
        let x = self.tensors.iter().find(own).or_else(|| self.get("x"));
        if let Some(x) = x {
            let is_output = |key: &str| {
                ["model.y", "published.y", "head.y"].contains(&key)
                    || key.starts_with("model.y.") && !key.ends_with("_n")
            };
            let ys: Vec<_> = self.tensors.iter().filter(|t| is_output(&t.key)).collect();
            let model = self.model.clone();
            for y in ys {
                self.nearest(&model, x, y, 0)?;
            }
            if let Some(y) = self.get("logits") {
                let mut model = self.model.clone();
                let last = model.stages.last().map(|stage| stage.stage);
                if last == Some(Stage::Activation(Activation::Softmax)) {
                    model.stages.pop();
                }
                self.nearest(&model, x, y, 0)?;
            }
            let zeros = self.reference.metadata_of("prewarm_zero_samples");
            let zeros = zeros.and_then(|zeros| zeros.parse::<usize>().ok());
            if let (Some(y), Some(zeros)) = (self.get("model.y_prewarmed"), zeros)
                && zeros <= 1 << 20
            {
                self.nearest(&model, x, y, zeros)?;
            }
        }
        let others = self
            .tensors
            .iter()
            .filter_map(|x| Some((x, x.key.strip_suffix(".x")?)));
        let others: Vec<_> = others
            .filter(|(_, name)| *name != "model" && !name.starts_with("lstm."))
            .collect();
        for (x, name) in others {
            if let Some(y) = self.get(&format!("{name}.y"))
                && !self.used.contains(&y.key)
            {
                let model = self.model.clone();
                self.nearest(&model, x, y, 0)?;
            }
        }
        Ok(())
    }

    /// A run in whichever order of time and batch is nearer.
    fn nearest(
        &mut self,
        model: &ChainModel,
        x: &Tensor,
        y: &Tensor,
        zeros: usize,
    ) -> Result<(), Error> {
        let mut best: Option<(Output, Ran)> = None;
        let mut given = None;
        for order in [Order::Time, Order::Batch] {
            let Some(ran) = run_after_zeros(model, x, order, zeros)? else {
                continue;
            };
            if ran.y.len() != y.values.len() {
                given = Some(ran.y.len());
                continue;
            }
            let output = output(y, &ran.y);
            let is_nearer =
                |(best, _): &(Output, Ran)| output.largest < best.largest || best.largest.is_nan();
            if best.as_ref().is_none_or(is_nearer) {
                best = Some((output, ran));
            }
        }
        if let Some((output, ran)) = best {
            self.used.extend([x.key.clone(), y.key.clone()]);
            self.outputs.push(output);
            if zeros == 0 {
                self.states(model, &ran, 0);
                self.final_states(model, &ran);
            }
        } else if let Some(given) = given.filter(|_| y.key == "model.y") {
            return Err(self.does_not_fit(y, given));
        }
        Ok(())
    }

    /// The state that the model starts from.
    fn starts(&mut self) -> Result<(), Error> {
        let tensors = crate::chain::state_tensors_of(&self.model.stages, 1);
        let start = Runner::new(self.model)?.start(1)?;
        let mut rest = &start[..];
        for (key, shape) in tensors {
            let (own, after) = rest.split_at(shape.iter().product());
            rest = after;
            if let Some(tensor) = self.get(&format!("initial_{key}")) {
                self.add(tensor, own);
            }
        }
        Ok(())
    }
}

/// The order of the first two dimensions of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Time,
    Batch,
}

fn run_rows(model: &ChainModel, x: &Tensor, order: Order) -> Result<Option<Ran>, Error> {
    run_after_zeros(model, x, order, 0)
}

/// Runs a tensor `[T, B, I]` or `[B, T, I]`; none if that is not its shape.
fn run_after_zeros(
    model: &ChainModel,
    x: &Tensor,
    order: Order,
    zeros: usize,
) -> Result<Option<Ran>, Error> {
    let (first, second) = match x.shape[..] {
        [first, second, width] if width == model.inputs => (first, second),
        // Numbers of a table's rows, or one input.
        [first, second] if model.inputs == 1 => (first, second),
        [first] if model.inputs == 1 => (first, 1),
        // Calls one after the other: rows of their own, or one step each.
        [calls, 1, steps, width] if width == model.inputs => match (order, steps) {
            (Order::Batch, steps) => (calls, steps),
            (Order::Time, 1) => (calls, 1),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let extent = match order {
        Order::Time => Extent {
            steps: first,
            batch: second,
        },
        Order::Batch => Extent {
            steps: second,
            batch: first,
        },
    };
    if extent.rows() == 0 {
        return Ok(None);
    }
    let values = match order {
        Order::Time => x.values.clone(),
        Order::Batch => transposed_rows(&x.values, first, second, model.inputs),
    };
    let mut runner = Runner::new(model)?;
    let mut state = runner.start(extent.batch)?;
    if zeros > 0 {
        let before = Extent {
            steps: zeros,
            ..extent
        };
        let silence = crate::memory::zeros(before.rows().saturating_mul(model.inputs))?;
        runner.run(before, &silence, &mut state)?;
    }
    let mut y = match runner.run(extent, &values, &mut state) {
        Ok(y) => y,
        // Numbers that are no rows of the table.
        Err(Error::Shape(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let width = runner.outputs();
    if order == Order::Batch && y.len() == extent.rows() * width {
        y = transposed_rows(&y, extent.steps, extent.batch, width);
    }
    Ok(Some(Ran { extent, y, state }))
}

/// Rows `[second, first, width]` of `[first, second, width]`.
fn transposed_rows(values: &[f32], first: usize, second: usize, width: usize) -> Vec<f32> {
    let row = |a: usize, b: usize| &values[(a * second + b) * width..][..width];
    let each = (0..second).flat_map(|b| (0..first).flat_map(move |a| row(a, b)));
    each.copied().collect()
}

/// `[T, D, B, H]` of rows in which the directions stand side by side.
fn by_direction(lstm: &LstmStage, ran: &Ran) -> Vec<f32> {
    let (outputs, directions) = (lstm.outputs(), lstm.direction.count());
    let Extent { steps, batch, .. } = ran.extent;
    let mut y = Vec::new();
    for step in 0..steps {
        for direction in 0..directions {
            for row in 0..batch {
                let at = ((step * batch + row) * directions + direction) * outputs;
                y.extend_from_slice(&ran.y[at..at + outputs]);
            }
        }
    }
    y
}

/// Where two tensors differ most.
fn output(tensor: &Tensor, got: &[f32]) -> Output {
    let mut at = 0;
    let mut largest = 0.0f32;
    for (index, (got, expected)) in got.iter().zip(&tensor.values).enumerate() {
        // Of large numbers it is the relative one: they have no more digits.
        let difference = (got - expected).abs() / expected.abs().max(1.0);
        if difference > largest || difference.is_nan() {
            (at, largest) = (index, difference);
            if difference.is_nan() {
                break;
            }
        }
    }
    let mut place = Vec::new();
    let mut rest = at;
    for &n in tensor.shape.iter().rev() {
        place.push(rest % n.max(1));
        rest /= n.max(1);
    }
    place.reverse();
    Output {
        key: tensor.key.clone(),
        largest,
        place,
        got: got.get(at).copied().unwrap_or_default(),
        expected: tensor.values.get(at).copied().unwrap_or_default(),
    }
}
