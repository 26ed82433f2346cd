//! What an LSTM node is given beside its sequence: weights, lengths, and states to start from.

use super::axes;
use super::graph::{Data, Graph, Made, Value};
use super::proto::Node;
use super::store::{Store, name_of};
use super::tensor::{Tensor, count};
use crate::Error;

/// What the states before the first step are.
pub(super) enum Start {
    Zero,
    /// A row of each direction, `[D, H]`.
    Rows(Vec<f32>),
    /// An input of the graph.
    Carried,
    /// Something of this graph.
    Computed,
}

impl<'a> Graph<'a> {
    /// A constant weight, or an input of the graph whose values are in the folder of a test beside
    /// the file: the standard's own tests come like that.
    pub(super) fn weight(
        &mut self,
        node: &Node<'a>,
        name: &str,
        what: &str,
        index: usize,
        value: &Value<'a>,
    ) -> Result<Tensor, Error> {
        let input = node.input(index).unwrap_or("");
        if let Some(tensor) = self.constant(input)? {
            self.take_numbers(tensor.len())?;
            return self.finite(name, input, tensor);
        }
        let got = match value {
            Value::Data(data) => match self.steps[data.at].made {
                Made::Input(number) => return self.beside(node, name, number, input),
                _ => format!("what node {} makes of an input", self.steps[data.at].name),
            },
            Value::Unknown(op) => format!("the result of {op}"),
            _ => "a shape that is not known".into(),
        };
        Err(self.problem(format!(
            "node {name}: expected constant weights {what}, got {got}"
        )))
    }

    pub(super) fn beside(
        &mut self,
        node: &Node<'a>,
        name: &str,
        number: usize,
        input: &str,
    ) -> Result<Tensor, Error> {
        let file = format!("test_data_set_0/input_{number}.pb");
        let Ok(other) = self.source.sibling(&file) else {
            let is_input = |input: &&str| match self.value(input, name) {
                Ok(Value::Data(data)) => matches!(self.steps[data.at].made, Made::Input(_)),
                _ => false,
            };
            let weights = [1, 2, 3, 7].into_iter().filter_map(|k| node.input(k));
            let weights: Vec<&str> = weights.filter(is_input).collect();
            return Err(self.problem(format!(
                "node {name}: expected constant weights {}, got inputs of the graph without values",
                weights.join(", ")
            )));
        };
        let theirs = name_of(other.bytes()).map_err(|e| other.problem(e.to_string()))?;
        if !theirs.is_empty() && theirs != input {
            let text = format!("expected the values of input {input}, got those of {theirs}");
            return Err(other.problem(text));
        }
        let mut store = Store::new(&other);
        let tensor = store.read(other.bytes())?;
        let Some(tensor) = tensor.filter(|tensor| tensor.as_floats().is_some()) else {
            return Err(other.problem("expected a tensor of floats, got another"));
        };
        self.note("weights that are inputs of the graph are those of test_data_set_0");
        self.finite(name, input, tensor)
    }

    /// Refuses NaN and infinities.
    pub(super) fn finite(&self, node: &str, name: &str, tensor: Tensor) -> Result<Tensor, Error> {
        let values = tensor.as_floats();
        let Some(values) = values else {
            return Err(self.problem(format!(
                "node {node}: expected floats in tensor {name}, got integers"
            )));
        };
        match values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            Some((k, got)) => Err(self.problem(format!(
                "tensor {name}: expected finite numbers, got {got} at {k}"
            ))),
            None => Ok(tensor),
        }
    }

    /// Lengths of the rows: all of them whole, or the caller's.
    pub(super) fn lengths(
        &mut self,
        name: &str,
        x: &Data,
        batch_first: bool,
        value: Option<&Option<Value<'a>>>,
        input: Option<&'a str>,
    ) -> Result<(), Error> {
        let (Some(Some(value)), Some(input)) = (value, input) else {
            return Ok(());
        };
        if !matches!(value, Value::Raw(_) | Value::Tensor(_)) {
            self.note(format!(
                "node {name}: the lengths of the rows are an input; all steps are taken here"
            ));
            return Ok(());
        }
        let lens = self.constant(input)?.and_then(|tensor| tensor.known());
        let axes = x.axes.as_ref();
        let steps = axes.and_then(|axes| axes::width(axes.get(usize::from(batch_first))?));
        let whole = |lens: &Vec<i64>| {
            let same = |steps: usize| lens.iter().all(|&len| usize::try_from(len) == Ok(steps));
            match (steps, lens.first()) {
                (Some(steps), _) => same(steps),
                (None, Some(&first)) => usize::try_from(first).is_ok_and(same),
                (None, None) => true,
            }
        };
        match lens {
            Some(lens) if whole(&lens) => {
                if steps.is_none() {
                    self.note(format!(
                        "node {name}: the lengths of the rows are fixed and equal; all steps are \
                         taken here"
                    ));
                }
                Ok(())
            }
            Some(lens) => {
                let few = &lens[..lens.len().min(4)];
                Err(self.problem(format!(
                    "node {name}: sequence_lens: expected all steps of every row, got {few:?}"
                )))
            }
            None => Err(self.problem(format!(
                "node {name}: sequence_lens: expected integers, got others"
            ))),
        }
    }

    pub(super) fn start(
        &mut self,
        node: &Node<'a>,
        name: &str,
        what: &str,
        index: usize,
        value: Option<&Value<'a>>,
        (x, [directions, hidden], batch_first): (&Data, [usize; 2], bool),
    ) -> Result<Start, Error> {
        let tensor = match value {
            None => return Ok(Start::Zero),
            Some(Value::Filled(value)) => Tensor::floats(vec![1, 1, 1], vec![*value]),
            Some(Value::Data(data)) => {
                return Ok(match data.roots & x.roots {
                    0 => Start::Carried,
                    _ => Start::Computed,
                });
            }
            Some(Value::Raw(_) | Value::Tensor(_)) => {
                let input = node.input(index).unwrap_or("");
                let tensor = self.constant(input)?;
                let Some(tensor) = tensor else {
                    let text = format!("node {name}: {what}: expected floats, got others");
                    return Err(self.problem(text));
                };
                self.finite(name, input, tensor)?
            }
            Some(Value::Stack(_) | Value::Unknown(_)) => return Ok(Start::Computed),
        };
        let expected = match batch_first {
            false => "[D, B, H]",
            true => "[B, D, H]",
        };
        let refuse = |got: &str| {
            let text = format!("node {name}: {what}: expected {expected}, got {got}");
            self.problem(text)
        };
        let filled = matches!(value, Some(Value::Filled(_)));
        let (values, batch) = match (tensor.as_floats(), &tensor.dims[..]) {
            (Some(&[value]), _) if filled => (vec![value; directions * hidden], 1),
            (Some(values), &[d, b, h]) if !batch_first && (d, h) == (directions, hidden) => {
                (values.to_vec(), b)
            }
            (Some(values), &[b, d, h]) if batch_first && (d, h) == (directions, hidden) => {
                (values.to_vec(), b)
            }
            (_, dims) => return Err(refuse(&format!("{dims:?}"))),
        };
        if count(&[directions, batch, hidden]) != Some(values.len()) || batch == 0 {
            return Err(refuse("no rows"));
        }
        let row = |d: usize, b: usize| {
            let place = match batch_first {
                false => d * batch + b,
                true => b * directions + d,
            };
            &values[place * hidden..(place + 1) * hidden]
        };
        let same = (0..directions).all(|d| (1..batch).all(|b| row(d, b) == row(d, 0)));
        if !same {
            return Err(refuse("another state for each row of the batch"));
        }
        if values.iter().all(|&v| v == 0.0) {
            return Ok(Start::Zero);
        }
        let rows = (0..directions).flat_map(|d| row(d, 0).to_vec());
        Ok(Start::Rows(rows.collect()))
    }
}
