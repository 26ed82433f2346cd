//! The one place that brings the gates of other systems into the core's order and layout.
//!
//! | system | order | layout |
//! |---|---|---|
//! | this project, TensorFlow 1 | i, j, f, o | columns |
//! | Keras, RTNeural, ICU4X, TensorFlow.js | i, f, j, o | columns |
//! | PyTorch, NAM, GuitarML | i, f, j, o | rows |
//! | ONNX | i, o, f, j | rows |
//! | TensorFlow Lite | i, f, j, o | rows |

/// A gate, or the candidate `J` (also called g or c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The input gate.
    I,
    /// The candidate.
    J,
    /// The forget gate.
    F,
    /// The output gate.
    O,
}

use Gate::{F, I, J, O};

/// This project's and TensorFlow 1's.
pub const CORE: [Gate; 4] = [I, J, F, O];
/// PyTorch's, Keras's and many others'.
pub const IFJO: [Gate; 4] = [I, F, J, O];
/// ONNX's.
pub const IOFJ: [Gate; 4] = [I, O, F, J];

/// How a matrix of a layer lies in memory, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[4H, n]`: a row for each unit of each gate.
    Rows,
    /// `[n, 4H]`: a column for each.
    Columns,
}

/// The weights of one direction of a layer as a file has them.
#[derive(Clone, Copy, Debug)]
pub struct Gates<'a> {
    /// The order of the gates.
    pub order: [Gate; 4],
    /// That of both matrices.
    pub layout: Layout,
    /// I.
    pub inputs: usize,
    /// H.
    pub hidden: usize,
    /// P, which is H without a projection.
    pub outputs: usize,
    /// x's matrix, of 4H × I numbers.
    pub input: &'a [f32],
    /// h's matrix, of 4H × P numbers.
    pub recurrent: &'a [f32],
    /// Each of 4H numbers; they are added.
    pub biases: &'a [&'a [f32]],
    /// Added to the bias of the forget gate.
    pub forget_bias: f32,
}

impl Gates<'_> {
    /// The kernel `[I+P, 4, H]` and the bias `[4, H]` in the core's order, or what is wrong with the
    /// lengths.
    pub fn to_core(self) -> Result<Vec<f32>, String> {
        let Self {
            inputs,
            hidden,
            outputs,
            ..
        } = self;
        let columns = 4usize.saturating_mul(hidden);
        let matrices = [("x", self.input, inputs), ("h", self.recurrent, outputs)];
        for (what, values, rows) in matrices {
            let expected = columns.saturating_mul(rows);
            if values.len() != expected {
                let got = values.len();
                return Err(format!(
                    "the weights of {what}: expected 4·{hidden}·{rows} = {expected} numbers, got {got}"
                ));
            }
        }
        for bias in self.biases {
            if bias.len() != columns {
                let got = bias.len();
                return Err(format!(
                    "a bias: expected 4·{hidden} = {columns} numbers, got {got}"
                ));
            }
        }
        let mut params = Vec::with_capacity(columns * (inputs + outputs + 1));
        let from = CORE.map(|gate| {
            let place = self.order.iter().position(|&g| g == gate);
            place.unwrap_or(0) * hidden
        });
        for (_, values, rows) in matrices {
            for row in 0..rows {
                for start in from {
                    let column = start..start + hidden;
                    match self.layout {
                        Layout::Columns => {
                            let at = row * columns;
                            params.extend(&values[at + column.start..at + column.end]);
                        }
                        Layout::Rows => params.extend(column.map(|c| values[c * rows + row])),
                    }
                }
            }
        }
        for (gate, start) in CORE.into_iter().zip(from) {
            let extra = if gate == F { self.forget_bias } else { 0.0 };
            params.extend((start..start + hidden).map(|c| {
                let sum = self.biases.iter().map(|bias| bias[c]).sum::<f32>();
                sum + extra
            }));
        }
        Ok(params)
    }
}

/// Rows and columns exchanged: `[columns, rows]` of `[rows, columns]`.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every system's way to write the same layer gives the same parameters.
    #[test]
    fn orders_and_layouts() {
        let (inputs, hidden) = (3, 2);
        // The number says gate, unit and row.
        let value = |gate: Gate, unit: usize, row: usize| {
            (100 * (gate as usize + 1) + 10 * unit + row) as f32
        };
        let expected: Vec<f32> = (0..inputs + hidden + 1)
            .flat_map(|row| {
                CORE.into_iter()
                    .flat_map(move |gate| (0..hidden).map(move |unit| value(gate, unit, row)))
            })
            .collect();
        for order in [CORE, IFJO, IOFJ] {
            let part = |rows: std::ops::Range<usize>| -> Vec<f32> {
                rows.flat_map(|row| {
                    order
                        .into_iter()
                        .flat_map(move |gate| (0..hidden).map(move |unit| value(gate, unit, row)))
                })
                .collect()
            };
            let (input, recurrent) = (part(0..inputs), part(inputs..inputs + hidden));
            let bias = part(inputs + hidden..inputs + hidden + 1);
            let gates = Gates {
                order,
                layout: Layout::Columns,
                inputs,
                hidden,
                outputs: hidden,
                input: &input,
                recurrent: &recurrent,
                biases: &[&bias],
                forget_bias: 0.0,
            };
            assert_eq!(gates.to_core().unwrap(), expected);
            let input = transposed(&input, inputs, 4 * hidden);
            let recurrent = transposed(&recurrent, hidden, 4 * hidden);
            let zeros = [0.0; 8];
            let gates = Gates {
                layout: Layout::Rows,
                input: &input,
                recurrent: &recurrent,
                biases: &[&bias, &zeros],
                ..gates
            };
            assert_eq!(gates.to_core().unwrap(), expected);
            let gates = Gates {
                forget_bias: 1.0,
                ..gates
            };
            let f = expected.len() - 2 * hidden;
            assert_eq!(gates.to_core().unwrap()[f], expected[f] + 1.0);
            let gates = Gates { hidden: 3, ..gates };
            let problem = "the weights of x: expected 4·3·3 = 36 numbers, got 24";
            assert_eq!(gates.to_core().unwrap_err(), problem);
        }
    }
}
