//! The usual mistakes of those who bring weights from another system, each undone in turn, to see
//! whether the model fits the reference then.

use super::reference::compare;
use super::{Mistake, Options};
use crate::Error;
use crate::chain::ChainModel;
use crate::import::gates::{CORE, Gate, IFJO, IOFJ, Layout};
use crate::tensors::TensorFile;
use fused_lstm::{Activation, LayerShape, LstmStage, Stage};
use std::time::{Duration, Instant};

/// What a model is once a mistake is undone, and whether c and h of the reference are exchanged too.
struct Undone {
    name: String,
    model: ChainModel,
    swapped: bool,
}

/// How long mistakes are looked for.
const MOST_TIME: Duration = Duration::from_secs(10);

/// A kind of mistakes, undone.
type Undo = fn(&ChainModel) -> Vec<Undone>;

/// Those that bring every output within the tolerance; else the best one, if it is ten times nearer.
pub(super) fn find(
    model: &ChainModel,
    reference: &TensorFile,
    options: &Options,
) -> Result<Vec<Mistake>, Error> {
    let largest = |model: &ChainModel, swapped: bool| -> Result<f32, Error> {
        let outputs = compare(model, reference, swapped)?.outputs;
        let each = outputs.iter().map(|output| output.largest);
        // NaN is farther than any number.
        Ok(each.fold(
            0.0,
            |a, b| if b.is_nan() { f32::INFINITY } else { a.max(b) },
        ))
    };
    let before = largest(model, false)?;
    let mut found: Vec<Mistake> = Vec::new();
    let mut take = |undone: Undone| -> Result<(), Error> {
        let largest = largest(&undone.model, undone.swapped)?;
        found.push(Mistake {
            name: undone.name,
            largest,
        });
        Ok(())
    };
    let single = singles(model);
    let explains = |found: &[Mistake]| found.iter().any(|m| m.largest <= options.tolerance);
    // A long sequence through a wide network takes its time, and there are many mistakes.
    let begin = Instant::now();
    let in_time = || begin.elapsed() < MOST_TIME;
    for undone in single.into_iter().take_while(|_| in_time()) {
        take(undone)?;
    }
    if !explains(&found) {
        // Two at once: gates and a forget bias, of which either was wrong first.
        for (first, second) in [
            (gates as Undo, forget_biases as Undo),
            (forget_biases, gates),
        ] {
            for undone in first(model) {
                for more in second(&undone.model).into_iter().take_while(|_| in_time()) {
                    let name = format!("{}; and {}", undone.name, more.name);
                    let largest = largest(&more.model, false)?;
                    found.push(Mistake { name, largest });
                }
            }
        }
    }
    found.retain(|mistake| mistake.largest.is_finite());
    found.sort_by(|a, b| a.largest.total_cmp(&b.largest));
    if explains(&found) {
        found.retain(|mistake| mistake.largest <= options.tolerance);
    } else {
        found.truncate(1);
        found.retain(|mistake| mistake.largest * 10.0 < before);
    }
    Ok(found)
}

fn singles(model: &ChainModel) -> Vec<Undone> {
    // The most usual ones first.
    let mut all = forget_biases(model);
    all.extend(states(model));
    all.extend(functions(model));
    all.extend(gates(model));
    all
}

/// The model with every LSTM layer changed; the change sees a direction's parameters.
fn with_layers(
    model: &ChainModel,
    name: String,
    change: impl Fn(&LstmStage, &mut [f32]),
) -> Undone {
    let mut model = model.clone();
    let mut rest = &mut model.params[..];
    for stage in &model.stages {
        let (own, after) = std::mem::take(&mut rest).split_at_mut(stage.stage.params_len());
        rest = after;
        if let Stage::Lstm(lstm) = &stage.stage {
            for params in own.chunks_mut(lstm.direction_params_len()) {
                change(lstm, params);
            }
        }
    }
    Undone {
        name,
        model,
        swapped: false,
    }
}

/// The names of gates in an order.
fn names(order: [Gate; 4]) -> String {
    let name = |gate| match gate {
        Gate::I => "i",
        Gate::J => "j",
        Gate::F => "f",
        Gate::O => "o",
    };
    order.map(name).join(", ")
}

/// All orders of four gates.
fn orders() -> Vec<[Gate; 4]> {
    let mut all = Vec::new();
    for a in CORE {
        for b in CORE {
            for c in CORE {
                for d in CORE {
                    let order = [a, b, c, d];
                    if CORE.iter().all(|gate| order.contains(gate)) {
                        all.push(order);
                    }
                }
            }
        }
    }
    all
}

/// Gates in another order, matrices that were not transposed, and both.
fn gates(model: &ChainModel) -> Vec<Undone> {
    let mut all = Vec::new();
    let systems = [
        (CORE, Layout::Columns, "TensorFlow 1's gates i, j, f, o"),
        (IFJO, Layout::Columns, "Keras's gates i, f, j, o"),
        (IFJO, Layout::Rows, "PyTorch's gates i, f, j, o in rows"),
        (IOFJ, Layout::Rows, "ONNX's gates i, o, f, j in rows"),
        (CORE, Layout::Rows, "gates i, j, f, o in rows"),
    ];
    for order in orders() {
        if order != CORE {
            let name = format!(
                "the gates are in the order {}, not i, j, f, o",
                names(order)
            );
            all.push(with_layers(model, name, |lstm, params| {
                reorder_all(lstm, params, order);
            }));
        }
    }
    for (order, layout, name) in systems {
        if layout == Layout::Rows {
            let name = format!("the kernels were not transposed: they hold {name}");
            all.push(with_layers(model, name, |lstm, params| {
                retake(lstm, params, order);
            }));
        }
    }
    let name = "the block of each gate in the kernels is transposed".to_owned();
    all.push(with_layers(model, name, |lstm, params| {
        transpose_blocks(lstm, params, true);
    }));
    let name = "the block of each gate in the recurrent kernel is transposed".to_owned();
    all.push(with_layers(model, name, |lstm, params| {
        transpose_blocks(lstm, params, false);
    }));
    all
}

/// Columns that stand in `order`, in the core's.
fn reorder(values: &mut [f32], hidden: usize, order: [Gate; 4]) {
    for row in values.chunks_exact_mut(4 * hidden) {
        let before = row.to_vec();
        for (to, gate) in row.chunks_exact_mut(hidden).zip(CORE) {
            let from = order.iter().position(|&g| g == gate).unwrap_or(0);
            to.copy_from_slice(&before[from * hidden..][..hidden]);
        }
    }
}

/// The two matrices and the bias of a direction.
fn matrices<'a>(lstm: &LstmStage, params: &'a mut [f32]) -> [&'a mut [f32]; 3] {
    let LayerShape { inputs, hidden, .. } = lstm.layer;
    let (input, rest) = params.split_at_mut(inputs * 4 * hidden);
    let (recurrent, rest) = rest.split_at_mut(lstm.outputs() * 4 * hidden);
    [input, recurrent, &mut rest[..4 * hidden]]
}

fn reorder_all(lstm: &LstmStage, params: &mut [f32], order: [Gate; 4]) {
    for values in matrices(lstm, params) {
        reorder(values, lstm.layer.hidden, order);
    }
}

/// Matrices whose rows were taken for columns, as they are: their numbers in a row are those of
/// `[4H, n]`. Kernels of both parts may also have been taken side by side, `[4H, I+P]`.
fn retake(lstm: &LstmStage, params: &mut [f32], order: [Gate; 4]) {
    let hidden = lstm.layer.hidden;
    for values in matrices(lstm, params) {
        let rows = values.len() / (4 * hidden);
        let taken = crate::import::gates::transposed(values, 4 * hidden, rows);
        values.copy_from_slice(&taken);
        reorder(values, hidden, order);
    }
}

/// Transposes `[n, H]` of each gate, taken as `[H, n]`.
fn transpose_blocks(lstm: &LstmStage, params: &mut [f32], all: bool) {
    let hidden = lstm.layer.hidden;
    let [input, recurrent, _] = matrices(lstm, params);
    let both = [input, recurrent];
    for values in both.into_iter().skip(usize::from(!all)) {
        let rows = values.len() / (4 * hidden);
        for gate in 0..4 {
            let at = |row: usize, unit: usize| row * 4 * hidden + gate * hidden + unit;
            let places = (0..rows).flat_map(|row| (0..hidden).map(move |unit| (row, unit)));
            let block: Vec<f32> = places.map(|(row, unit)| values[at(row, unit)]).collect();
            let turned = crate::import::gates::transposed(&block, hidden, rows);
            for (k, value) in turned.into_iter().enumerate() {
                values[at(k / hidden, k % hidden)] = value;
            }
        }
    }
}

/// One more or one less on the forget gate.
fn forget_biases(model: &ChainModel) -> Vec<Undone> {
    let add = |what: &str, by: f32| {
        with_layers(model, what.into(), |lstm, params| {
            let hidden = lstm.layer.hidden;
            let [_, _, bias] = matrices(lstm, params);
            bias[2 * hidden..3 * hidden]
                .iter_mut()
                .for_each(|bias| *bias += by);
        })
    };
    vec![
        add(
            "the forget bias of 1, which the cell adds elsewhere, is missing",
            1.0,
        ),
        add(
            "a forget bias of 1 was added that is in the weights already",
            -1.0,
        ),
    ]
}

/// (h, c) for (c, h), in the model's own state and in that of the reference.
fn states(model: &ChainModel) -> Vec<Undone> {
    let name = "c and h are exchanged in the states";
    let mut all = vec![Undone {
        name: format!("{name} of the reference"),
        model: model.clone(),
        swapped: true,
    }];
    if let Some(start) = &model.start {
        let mut turned = Vec::new();
        let mut rest = &start[..];
        for stage in &model.stages {
            let (own, after) = rest.split_at(stage.stage.state_len(1));
            rest = after;
            if let Stage::Lstm(lstm) = stage.stage {
                for state in own.chunks(lstm.direction_state_len(1)) {
                    let (c, h) = state.split_at(lstm.layer.hidden);
                    turned.extend([h, c].concat());
                }
            }
        }
        let model = ChainModel {
            start: Some(turned),
            ..model.clone()
        };
        let swapped = |swapped, of: &str| Undone {
            name: format!("{name} {of}"),
            model: model.clone(),
            swapped,
        };
        all.push(swapped(false, "that the model starts from"));
        all.push(swapped(true, "of the model and of the reference"));
    }
    all
}

/// Other functions of the gates.
fn functions(model: &ChainModel) -> Vec<Undone> {
    let functions = [
        (Activation::Sigmoid, "sigmoid"),
        (
            Activation::HardSigmoid { slope: 0.2 },
            "the hard sigmoid of slope 0.2",
        ),
        (
            Activation::HardSigmoid { slope: 1.0 / 6.0 },
            "the hard sigmoid of slope 1/6",
        ),
    ];
    let name = |function: Activation| {
        let known = functions.iter().find(|(own, _)| *own == function);
        known.map_or("another function", |(_, name)| name)
    };
    let lstms = model.stages.iter().filter_map(|stage| match stage.stage {
        Stage::Lstm(lstm) => Some(lstm.cell.gates),
        _ => None,
    });
    let Some(own) = lstms.into_iter().next() else {
        return Vec::new();
    };
    let others = functions.iter().filter(|(function, _)| *function != own);
    let each = others.map(|(function, its)| {
        let mut model = model.clone();
        for stage in &mut model.stages {
            if let Stage::Lstm(lstm) = &mut stage.stage {
                lstm.cell.gates = *function;
            }
        }
        Undone {
            name: format!("the gates' function is {its}, not {}", name(own)),
            model,
            swapped: false,
        }
    });
    each.collect()
}
