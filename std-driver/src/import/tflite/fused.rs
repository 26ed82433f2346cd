//! LSTM layers that are one operator, or many small ones, with their weights.

use super::model::{Model, Operator};
use super::unrolled::{Chain, Unrolled};
use crate::Error;
use crate::import::gates::{Gates, IFJO, Layout, transposed};
use crate::import::{Lstm, raw::Raw};
use fused_lstm::{Activation, Cell, LayerShape};

/// The first inputs of a direction of an operator: for x and h weights of i, f, j and o, peepholes of
/// i, f and o, biases of i, f, j and o, and the projection's weights and bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    first: usize,
}

/// Those of the operator of one direction.
pub(super) const ONE: Operands = Operands { first: 1 };
/// Those of both directions of the other operator.
pub(super) const TWO: [Operands; 2] = [Operands { first: 1 }, Operands { first: 18 }];

/// A direction of an operator for the whole sequence.
pub(super) fn lstm(
    model: &mut Model,
    operator: &Operator,
    operands: Operands,
) -> Result<Lstm, Error> {
    let at = operator.output().unwrap_or(0);
    let operand = |number: usize| operator.input(operands.first + number);
    let wanted = |number: usize, model: &Model| {
        operand(number).ok_or_else(|| {
            let number = operands.first + number;
            model.problem(at, format_args!("expected input {number}, got none"))
        })
    };
    let coupled = operand(0).is_none();
    // The forget gate always has weights, and so tells the sizes.
    let (input, recurrent) = (wanted(1, model)?, wanted(5, model)?);
    let ([hidden, inputs], [_, outputs]) = (model.shape(input), model.shape(recurrent)) else {
        return Err(model.problem(at, "expected weights of two dimensions"));
    };
    let (hidden, inputs, outputs) = (*hidden, *inputs, *outputs);
    if hidden == 0 || inputs == 0 || outputs == 0 {
        return Err(model.problem(at, "expected inputs and units, got none"));
    }
    let mut cell = Cell {
        coupled,
        ..options(model, operator, at)?
    };
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    let shapes: [&[usize]; 3] = [&[hidden, inputs], &[hidden, outputs], &[hidden]];
    for (first, (to, shape)) in [0, 4, 11].into_iter().zip(all.iter_mut().zip(shapes)) {
        // Without an input gate i = 1 − f, in the core f = 1 − i: i = σ(−a) where f = σ(a).
        for number in first + usize::from(coupled)..first + 4 {
            let tensor = wanted(number, model)?;
            let values = model.numbers(tensor, shape)?;
            if coupled && number == first + 1 {
                to.extend(values.iter().map(|value| -value));
            }
            to.extend(values);
        }
    }
    let [input, recurrent, bias] = all;
    let gates = Gates {
        order: IFJO,
        layout: Layout::Rows,
        inputs,
        hidden,
        outputs,
        input: &input,
        recurrent: &recurrent,
        biases: &[&bias],
        forget_bias: 0.0,
    };
    let params = gates.to_core();
    let mut params = params.map_err(|problem| model.problem(at, problem))?;
    let peepholes = [8, 9, 10].map(operand);
    if peepholes.iter().any(Option::is_some) {
        cell.peepholes = true;
        let mut read = Vec::new();
        for (number, tensor) in peepholes.into_iter().enumerate() {
            let values = match tensor {
                Some(tensor) => model.numbers(tensor, &[hidden])?,
                None if coupled && number == 0 => Vec::new(),
                None => return Err(model.problem(at, "expected peepholes of f and o, and of i")),
            };
            read.push(values);
        }
        if coupled && let [i, f, _] = &mut read[..] {
            *i = f.iter().map(|f| -f).collect();
        }
        params.extend(read.into_iter().flatten());
    }
    match operand(15) {
        Some(projection) => {
            cell.projection = Some(outputs);
            let rows = model.numbers(projection, &[outputs, hidden])?;
            params.extend(transposed(&rows, outputs, hidden));
            if let Some(bias) = operand(16)
                && model.numbers(bias, &[outputs])?.iter().any(|&b| b != 0.0)
            {
                return Err(model.problem(bias, "expected a projection without a bias"));
            }
        }
        None if outputs != hidden => {
            return Err(model.problem(
                at,
                format_args!("expected a projection of {hidden} units to {outputs}, got none"),
            ));
        }
        None => cell.projection_clip = f32::INFINITY,
    }
    let mut lstm = Lstm::new(LayerShape::new(inputs, hidden), params);
    lstm.cell = cell;
    Ok(lstm)
}

/// The function of candidate and output, and the limits.
fn options(model: &Model, operator: &Operator, at: usize) -> Result<Cell, Error> {
    let broken = |e: super::buffer::Broken| model.problem(at, e);
    let Some(options) = operator.options else {
        return Err(model.problem(at, "expected options of the LSTM, got none"));
    };
    let function = match options.u8(0).map_err(broken)? {
        0 => Activation::Linear,
        1 => Activation::Relu,
        4 => Activation::Tanh,
        other => {
            return Err(model.problem(
                at,
                format_args!("expected tanh, relu or no activation, got number {other}"),
            ));
        }
    };
    // 0 is no limit.
    let clip = |field| match options.f32(field).map_err(broken)? {
        0.0 => Ok(f32::INFINITY),
        most if most > 0.0 => Ok(most),
        other => Err(model.problem(at, format_args!("expected a limit above 0, got {other}"))),
    };
    Ok(Cell {
        candidate: function,
        output: function,
        cell_clip: clip(1)?,
        projection_clip: clip(2)?,
        ..Cell::PLAIN
    })
}

/// A layer of a cell for each step.
pub(super) fn chain(
    model: &mut Model,
    unrolled: &Unrolled,
    chain: &Chain,
    at: usize,
) -> Result<Lstm, Error> {
    let step = chain
        .steps
        .last()
        .and_then(|&last| unrolled.steps.get(last));
    let (Some(step), Some([input, recurrent])) = (step, chain.weights) else {
        return Err(model.problem(at, "expected steps of an LSTM, got none"));
    };
    let ([columns, inputs], [_, hidden]) = (model.shape(input), model.shape(recurrent)) else {
        return Err(model.problem(at, "expected weights of two dimensions"));
    };
    let (columns, inputs, hidden) = (*columns, *inputs, *hidden);
    if inputs == 0 || hidden == 0 || hidden.checked_mul(4) != Some(columns) {
        return Err(model.problem(
            input,
            format_args!("expected rows for four gates of {hidden} units, got {columns}"),
        ));
    }
    if step.peepholes.is_some() {
        return Err(model.problem(at, "expected an LSTM of small operators without peepholes"));
    }
    let input = model.numbers(input, &[columns, inputs])?;
    let recurrent = model.numbers(recurrent, &[columns, hidden])?;
    let mut biases = Vec::new();
    for bias in &step.biases {
        let bias = unrolled.tensor(model, *bias).unwrap_or(usize::MAX);
        biases.push(model.numbers(bias, &[columns])?);
    }
    if biases.is_empty() {
        biases.push(crate::memory::zeros(columns)?);
    }
    let biases: Vec<&[f32]> = biases.iter().map(|bias| &bias[..]).collect();
    let gates = Gates {
        order: step.order,
        layout: Layout::Rows,
        inputs,
        hidden,
        outputs: hidden,
        input: &input,
        recurrent: &recurrent,
        biases: &biases,
        forget_bias: step.forget_bias,
    };
    let params = gates.to_core();
    let params = params.map_err(|problem| model.problem(at, problem))?;
    let mut lstm = Lstm::new(LayerShape::new(inputs, hidden), params);
    lstm.cell = step.cell;
    Ok(lstm)
}

/// Whether weights were integers.
pub(super) fn were_integers(converted: &[&str]) -> Vec<&'static str> {
    let integers = [Raw::U8, Raw::I8, Raw::I16].map(Raw::name);
    let found = integers.into_iter().filter(|name| converted.contains(name));
    found.collect()
}
