//! LSTM cells among the variables of a checkpoint.

use super::order::Spec;
use super::variables::{Reader, Variable, natural};
use crate::Error;
use crate::import::gates::{CORE, Gates, IFJO, Layout};
use crate::import::{Kind, Layer, Lstm};
use fused_lstm::{Cell, Direction, LayerShape};

/// The variables of one cell.
#[derive(Clone, Debug)]
struct One {
    scope: String,
    kernel: Variable,
    bias: Option<Variable>,
    /// Keras has a matrix of its own for h.
    recurrent: Option<Variable>,
    /// Of i, f and o.
    peepholes: Option<[Variable; 3]>,
    projection: Option<Variable>,
}

/// Those of a layer: one, or one for each direction.
#[derive(Clone, Debug)]
pub(super) struct Cells(Vec<One>);

impl One {
    fn hidden(&self) -> usize {
        self.kernel.shape.get(1).map_or(0, |columns| columns / 4)
    }

    fn outputs(&self) -> usize {
        let projected = self.projection.as_ref();
        let outputs = projected.and_then(|projection| projection.shape.get(1));
        outputs.copied().unwrap_or_else(|| self.hidden())
    }

    /// I, or 0 where the shapes do not fit.
    fn inputs(&self) -> usize {
        let rows = self.kernel.shape.first().copied().unwrap_or(0);
        match self.recurrent {
            Some(_) => rows,
            None => rows.saturating_sub(self.outputs()),
        }
    }

    fn params(
        &self,
        reader: &mut Reader,
        forget_bias: &mut dyn FnMut(&mut Vec<String>) -> Result<f32, Error>,
    ) -> Result<Vec<f32>, Error> {
        let (inputs, hidden, outputs) = (self.inputs(), self.hidden(), self.outputs());
        let columns = hidden.saturating_mul(4);
        let mut input = reader.read_shape(
            &self.kernel,
            &[
                match self.recurrent {
                    Some(_) => inputs,
                    None => inputs.saturating_add(outputs),
                },
                columns,
            ],
        )?;
        let (recurrent, order, forget_bias) = match &self.recurrent {
            Some(recurrent) => (reader.read_shape(recurrent, &[hidden, columns])?, IFJO, 0.0),
            None => {
                let at = inputs.saturating_mul(columns).min(input.len());
                (input.split_off(at), CORE, forget_bias(&mut reader.notes)?)
            }
        };
        let bias = match &self.bias {
            Some(bias) => reader.read_shape(bias, &[columns])?,
            None => {
                let scope = &self.scope;
                reader.notes.push(format!("{scope} has no bias: zeros."));
                crate::memory::zeros(columns)?
            }
        };
        let gates = Gates {
            order,
            layout: Layout::Columns,
            inputs,
            hidden,
            outputs,
            input: &input,
            recurrent: &recurrent,
            biases: &[&bias],
            forget_bias,
        };
        let mut params = gates
            .to_core()
            .map_err(|problem| reader.problem(&self.scope, problem))?;
        for peephole in self.peepholes.iter().flatten() {
            params.extend(reader.read_shape(peephole, &[hidden])?);
        }
        if let Some(projection) = &self.projection {
            params.extend(reader.read_shape(projection, &[hidden, outputs])?);
        }
        Ok(params)
    }
}

impl Cells {
    pub(super) fn name(&self) -> &str {
        self.0.first().map_or("", |one| &one.scope)
    }

    /// I.
    pub(super) fn inputs(&self) -> usize {
        self.0.first().map_or(0, One::inputs)
    }

    /// Columns that the layer gives.
    pub(super) fn outputs(&self) -> usize {
        let outputs = self.0.first().map_or(0, One::outputs);
        outputs.saturating_mul(self.0.len())
    }

    pub(super) fn spec(&self) -> Spec {
        Spec {
            name: self.name().to_owned(),
            inputs: self.inputs(),
            outputs: self.outputs(),
        }
    }

    /// The layer, with its numbers.
    pub(super) fn layer(
        &self,
        reader: &mut Reader,
        forget_bias: &mut dyn FnMut(&mut Vec<String>) -> Result<f32, Error>,
    ) -> Result<Layer, Error> {
        let Some(first) = self.0.first() else {
            return Err(reader.source.problem("expected a cell, got none"));
        };
        let shape = LayerShape::new(first.inputs(), first.hidden());
        let mut params = Vec::new();
        for one in &self.0 {
            let same = one.inputs() == first.inputs()
                && one.kernel.shape == first.kernel.shape
                && one.outputs() == first.outputs()
                && one.peepholes.is_some() == first.peepholes.is_some();
            if !same {
                let (name, of) = (&one.kernel.name, &first.kernel.name);
                return Err(reader.problem(name, format_args!("expected the shapes of {of}")));
            }
            params.push(one.params(reader, forget_bias)?);
        }
        let mut lstm = Lstm::new(shape, Vec::new());
        lstm.cell = Cell {
            peepholes: first.peepholes.is_some(),
            projection: first.projection.as_ref().map(|_| first.outputs()),
            ..Cell::PLAIN
        };
        if params.len() == 2 {
            lstm.direction = Direction::Both;
        }
        lstm.params = params;
        Ok(Layer {
            name: first.scope.clone(),
            kind: Kind::Lstm(Box::new(lstm)),
        })
    }
}

fn take_named(rest: &mut Vec<Variable>, names: &[String]) -> Option<Variable> {
    let place = rest.iter().position(|v| names.contains(&v.name))?;
    Some(rest.remove(place))
}

/// Whether a scope is that of an LSTM cell: its last part says so, or the one before it where the
/// last one is the cell's own linear layer.
fn is_cell(scope: &str) -> bool {
    let mut parts = scope.rsplit('/').map(str::to_ascii_lowercase);
    let last = parts.next().unwrap_or_default();
    let of_its_own = matches!(&last[..], "linear" | "cell");
    let named = |part: String| part.contains("lstm");
    named(last) || of_its_own && parts.next().is_some_and(named)
}

/// Takes all cells out, sorted by their names, with the two directions of a layer together.
pub(super) fn take(reader: &mut Reader, rest: &mut Vec<Variable>) -> Result<Vec<Cells>, Error> {
    let kernels: Vec<Variable> = rest
        .iter()
        .filter(|variable| {
            let (scope, last) = variable.split();
            matches!(last, "kernel" | "weights" | "Matrix" | "W") && is_cell(scope)
        })
        .cloned()
        .collect();
    let mut cells = Vec::new();
    for kernel in kernels {
        let name = kernel.name.clone();
        let (scope, last) = kernel.split();
        let scope = scope.to_owned();
        let [_, columns] = kernel.shape[..] else {
            return Err(reader.problem(&name, "expected two dimensions"));
        };
        if columns == 0 || !columns.is_multiple_of(4) {
            return Err(reader.problem(
                &name,
                format_args!("expected columns for four gates, got {columns}"),
            ));
        }
        let linear = scope.strip_suffix("/Linear");
        let outer = linear.unwrap_or(&scope).to_owned();
        let bias = match last {
            "kernel" => "bias",
            "weights" => "biases",
            "Matrix" => "Bias",
            _ => "B",
        };
        let inside = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("{outer}/{name}")).collect()
        };
        rest.retain(|variable| variable.name != name);
        let bias = take_named(rest, &[format!("{scope}/{bias}")]);
        let recurrent = take_named(rest, &inside(&["recurrent_kernel"]));
        let projection = take_named(rest, &inside(&["projection/kernel", "projection/weights"]));
        let diagonal = [
            inside(&["w_i_diag", "W_I_diag"]),
            inside(&["w_f_diag", "W_F_diag"]),
            inside(&["w_o_diag", "W_O_diag"]),
        ]
        .map(|names| take_named(rest, &names));
        let peepholes = match diagonal {
            [Some(i), Some(f), Some(o)] => Some([i, f, o]),
            [None, None, None] => None,
            _ => {
                return Err(reader.problem(
                    &outer,
                    "expected peepholes of i, f and o, got only some of them",
                ));
            }
        };
        // A normalisation, a projection's bias or the like would change what the cell computes.
        let within = format!("{outer}/");
        if let Some(more) = rest.iter().find(|v| v.name.starts_with(&within)) {
            return Err(reader.problem(
                &more.name,
                "expected nothing but kernel, bias, peepholes and projection in an LSTM cell",
            ));
        }
        let one = One {
            scope: outer,
            kernel,
            bias,
            recurrent,
            peepholes,
            projection,
        };
        let (inputs, outputs, hidden) = (one.inputs(), one.outputs(), one.hidden());
        if inputs == 0 || outputs == 0 {
            let shape = &one.kernel.shape;
            return Err(reader.problem(
                &name,
                format_args!(
                    "expected rows for inputs and {outputs} outputs of {hidden} units, got shape \
                     {shape:?}"
                ),
            ));
        }
        cells.push(one);
    }
    Ok(paired(cells))
}

/// The name of a layer without its direction, and whether it is the backward one.
pub(super) fn direction(scope: &str) -> Option<(String, bool)> {
    let parts: Vec<&str> = scope.split('/').collect();
    let is = |part: &str, word: &str, long: &str| {
        let lower = part.to_ascii_lowercase();
        lower == word || lower.starts_with(long)
    };
    let fw = parts.iter().position(|part| is(part, "fw", "forward"));
    let bw = parts.iter().position(|part| is(part, "bw", "backward"));
    let (place, backward) = match (fw, bw) {
        (Some(place), None) => (place, false),
        (None, Some(place)) => (place, true),
        _ => return None,
    };
    let part = parts.get(place)?;
    let rest = part
        .trim_start_matches("forward")
        .trim_start_matches("backward");
    let rest = if rest == *part { "*" } else { rest };
    let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    *parts.get_mut(place)? = format!("*{rest}");
    Some((parts.join("/"), backward))
}

fn paired(cells: Vec<One>) -> Vec<Cells> {
    let mut layers: Vec<(String, Cells)> = Vec::new();
    let mut open: Vec<(String, One)> = Vec::new();
    for one in cells {
        match direction(&one.scope) {
            Some((key, backward)) => match open.iter().position(|(other, _)| *other == key) {
                Some(place) => {
                    let (_, other) = open.remove(place);
                    let both = if backward { [other, one] } else { [one, other] };
                    layers.push((key, Cells(both.into())));
                }
                None => open.push((key, one)),
            },
            None => layers.push((one.scope.clone(), Cells(vec![one]))),
        }
    }
    layers.extend(open.into_iter().map(|(key, one)| (key, Cells(vec![one]))));
    layers.sort_by(|(a, _), (b, _)| natural(a, b));
    layers.into_iter().map(|(_, cells)| cells).collect()
}
