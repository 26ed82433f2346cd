//! `quantize`: a network with the weights of its LSTM layers in half precision or int8, and what that
//! changes on the inputs of one's own.

use crate::Error;
use crate::chain::{ChainModel, Runner};
use fused_lstm::{
    Activation, Extent, LstmStage, NarrowLayer, QuantizeError, Returns, Stage, Storage,
};
use serde::Serialize;

/// Inputs that the ranges are taken from, and that both networks are run on.
#[derive(Clone, Copy, Debug)]
pub struct Calibration<'a> {
    /// Steps and rows.
    pub extent: Extent,
    /// `[T, B, I]`
    pub x: &'a [f32],
    /// The steps of each row, if they are not all.
    pub lengths: Option<&'a [usize]>,
    /// The right class of every row of the output, `[T, B]` or `[B]`, if it is known: the shape, and
    /// the classes. Negative ones are left out.
    pub labels: Option<(&'a [usize], &'a [i32])>,
}

impl Calibration<'_> {
    /// Of values of every step and row, those within the rows' lengths; others as they are.
    fn within<T: Copy>(&self, values: Vec<T>, width: usize) -> Vec<T> {
        let Extent { steps, batch } = self.extent;
        let Some(lengths) = self
            .lengths
            .filter(|_| values.len() == steps * batch * width)
        else {
            return values;
        };
        let rows = values.chunks(width.max(1)).enumerate();
        let active = rows.filter(|(row, _)| row / batch < lengths[row % batch]);
        active.flat_map(|(_, row)| row.iter().copied()).collect()
    }
}

/// A layer that was stored anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// The largest magnitude of its inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<f32>,
    /// The largest error of a weight, as a part of the largest weight.
    pub weights: f32,
    /// How far its outputs are from those before, on the calibration data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Difference>,
}

/// How far some numbers are from others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The largest difference.
    pub largest: f32,
    /// The root of the mean square of all.
    pub rms: f32,
    /// From the least to the largest of the exact numbers.
    pub range: f32,
}

/// What quantisation did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The LSTM layers.
    pub layers: Vec<Layer>,
    /// The network's output on the calibration data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Difference>,
    /// The share of the output's rows that have the same largest class, or are on the same side of one
    /// half if the output is one probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_decisions: Option<f64>,
    /// The share of rows with the right class: before, and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<[f64; 2]>,
    /// Bytes of all parameters: before, and after.
    pub bytes: [usize; 2],
}

/// The network with its LSTM layers stored as `storage`, and what that changed.
///
/// Refuses layers with cell options, weights beyond half precision, and int8 without calibration data
/// where it is not known how large a layer's inputs are.
pub fn quantize(
    model: &ChainModel,
    storage: Storage,
    calibration: Option<Calibration>,
) -> Result<(ChainModel, Report), Error> {
    let mut after = ChainModel {
        params: Vec::new(),
        ..model.clone()
    };
    let mut rest = &model.params[..];
    let mut layers = Vec::new();
    if let Some(stage) = model.stages.iter().find(|stage| stage.stage.is_narrow()) {
        let got = format!(
            "{}, whose weights are stored in fewer bits already",
            stage.name
        );
        return Err(Error::setting("model", "weights of f32", got));
    }
    for (index, stage) in model.stages.iter().enumerate() {
        let (own, later) = rest.split_at(stage.stage.params_len());
        rest = later;
        let Stage::Lstm(lstm) = stage.stage else {
            after.params.extend_from_slice(own);
            continue;
        };
        if !lstm.cell.is_plain() {
            let got = format!("{}, with options", stage.name);
            return Err(Error::setting("model", "plain LSTM cells", got));
        }
        let measured = calibration
            .map(|data| Measured::of(model, index, lstm, data))
            .transpose()?;
        let range = match (&measured, storage) {
            (Some(measured), Storage::Int8) if measured.range == 0.0 => {
                let known = known_range(model, index).ok().filter(|&range| range > 0.0);
                Some(known.ok_or_else(|| {
                    let got = format!("only zeros as inputs of {}", stage.name);
                    Error::setting("calibrate", "inputs that are not all zero", got)
                })?)
            }
            (Some(measured), _) => Some(measured.range),
            (None, Storage::Int8) => Some(known_range(model, index)?),
            (None, _) => None,
        };
        let to = Stage::Lstm(LstmStage { storage, ..lstm });
        // Half precision has no range.
        let range_of_pack = range.filter(|_| storage == Storage::Int8).unwrap_or(1.0);
        let (words, weights) = pack(&lstm, storage, own, range_of_pack, measured.as_ref())
            .map_err(|problem| {
                Error::setting(
                    "model",
                    "weights that fit",
                    format!("{}: {problem}", stage.name),
                )
            })?;
        after.params.extend(words.into_iter().map(f32::from_bits));
        after.stages[index].stage = to;
        layers.push((
            index,
            Layer {
                name: stage.name.clone(),
                range,
                weights,
                outputs: None,
            },
        ));
    }
    let mut report = Report {
        layers: Vec::new(),
        output: None,
        same_decisions: None,
        accuracy: None,
        bytes: [model.params.len() * 4, after.params.len() * 4],
    };
    for (index, mut layer) in layers {
        if let Some(data) = calibration {
            let exact = before(model, index + 1).run(data)?;
            layer.outputs = Some(difference(&exact, &before(&after, index + 1).run(data)?));
        }
        report.layers.push(layer);
    }
    if let Some(data) = calibration {
        let all = model.stages.len();
        let (exact, got) = (
            before(model, all).run(data)?,
            before(&after, all).run(data)?,
        );
        report.output = Some(difference(&exact, &got));
        let width = Runner::new(model)?.outputs();
        if let Some(decide) = decision(model, width, data.labels.is_some()) {
            let decisions = |y: &[f32]| y.chunks(width).map(decide).collect::<Vec<_>>();
            let (exact, got) = (decisions(&exact), decisions(&got));
            report.same_decisions = share(exact.iter().zip(&got).map(|(a, b)| a == b));
            report.accuracy = accuracy(data, &exact, &got)?;
        } else if data.labels.is_some() {
            let got = "labels of an output that is neither of classes nor a probability";
            return Err(Error::setting("calibrate", "no labels", got));
        }
    }
    Ok((after, report))
}

/// What a layer sees on the calibration data.
struct Measured {
    /// The largest magnitude of an input.
    range: f32,
    /// The mean of every input, and of every output of each direction.
    means: Vec<f32>,
}

impl Measured {
    fn of(
        model: &ChainModel,
        index: usize,
        lstm: LstmStage,
        data: Calibration,
    ) -> Result<Self, Error> {
        let x = before(model, index).run(data)?;
        let mut own = before(model, index + 1);
        let returns = Returns::Sequence;
        own.0.stages[index].stage = Stage::Lstm(LstmStage { returns, ..lstm });
        let mut means = mean_of_columns(&x, lstm.layer.inputs);
        let width = lstm.outputs() * lstm.direction.count();
        means.extend(mean_of_columns(&own.run(data)?, width));
        Ok(Self {
            range: largest(&x),
            means,
        })
    }

    /// The means of the rows of a direction's kernel.
    fn rows(&self, lstm: &LstmStage, direction: usize) -> impl Iterator<Item = f32> {
        let (inputs, outputs) = (lstm.layer.inputs, lstm.outputs());
        let own = &self.means[inputs + direction * outputs..][..outputs];
        self.means[..inputs].iter().chain(own).copied()
    }
}

fn mean_of_columns(values: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in values.chunks_exact(width.max(1)) {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, &v)| *sum += f64::from(v));
    }
    let rows = (values.len() / width.max(1)).max(1) as f64;
    sums.iter().map(|sum| (sum / rows) as f32).collect()
}

/// The words of both directions, and the largest error of a weight as a part of the largest one.
///
/// What weights of int8 shift a pre-activation by on the calibration data, in the mean, goes into the
/// bias (Nagel et al. 2019, Data-Free Quantization through Weight Equalization and Bias Correction).
fn pack(
    lstm: &LstmStage,
    storage: Storage,
    params: &[f32],
    range: f32,
    measured: Option<&Measured>,
) -> Result<(Vec<u32>, f32), QuantizeError> {
    let columns = 4 * lstm.layer.hidden;
    let mut all = Vec::new();
    let mut error = 0.0f32;
    for (direction, params) in params
        .chunks(lstm.direction_params_len().max(1))
        .enumerate()
    {
        let mut words = vec![0; storage.words_len(lstm.layer)];
        let layer = NarrowLayer::pack(lstm.layer, storage, params, range, &mut words)?;
        let mut rounded = vec![0.0; params.len()];
        layer.unpack(&mut rounded)?;
        let most = largest(params).max(f32::MIN_POSITIVE);
        error = error.max(difference(params, &rounded).largest / most);
        if let (Storage::Int8, Some(measured)) = (storage, measured) {
            let mut corrected = params.to_vec();
            let (kernel, bias) = corrected.split_at_mut(lstm.layer.kernel_len());
            let rows = kernel.chunks(columns).zip(rounded.chunks(columns));
            for ((exact, rounded), mean) in rows.zip(measured.rows(lstm, direction)) {
                for ((bias, exact), rounded) in bias.iter_mut().zip(exact).zip(rounded) {
                    *bias += (exact - rounded) * mean;
                }
            }
            NarrowLayer::pack(lstm.layer, storage, &corrected, range, &mut words)?;
        }
        all.extend(words);
    }
    Ok((all, error))
}

/// The stages before one.
struct Before(ChainModel);

fn before(model: &ChainModel, stages: usize) -> Before {
    let stages = model.stages[..stages].to_vec();
    let lens = stages.iter().map(|stage| stage.stage.params_len()).sum();
    let state: usize = stages.iter().map(|stage| stage.stage.state_len(1)).sum();
    Before(ChainModel {
        inputs: model.inputs,
        params: model.params[..lens].to_vec(),
        start: model.start.as_ref().map(|start| start[..state].to_vec()),
        stages,
        sample_rate: None,
    })
}

impl Before {
    /// What comes out of them, within the rows' lengths.
    fn run(&self, data: Calibration) -> Result<Vec<f32>, Error> {
        let mut runner = Runner::new(&self.0)?;
        let mut state = runner.start(data.extent.batch)?;
        let y = runner.run_rows(data.extent, data.lengths, data.x, &mut state)?;
        Ok(data.within(y, runner.outputs()))
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| most.max(v.abs()))
}

fn difference(exact: &[f32], got: &[f32]) -> Difference {
    let each = || exact.iter().zip(got).map(|(a, b)| f64::from(a - b));
    // NaN is the largest.
    let largest = each().fold(
        0.0,
        |most: f64, d| if d.abs() <= most { most } else { d.abs() },
    );
    let squares: f64 = each().map(|d| d * d).sum();
    let (least, most) = exact
        .iter()
        .fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    Difference {
        largest: largest as f32,
        rms: (squares / exact.len().max(1) as f64).sqrt() as f32,
        range: (most - least).max(0.0),
    }
}

/// How large the inputs of a stage can be, if the stages before it say so.
fn known_range(model: &ChainModel, index: usize) -> Result<f32, Error> {
    let mut params = 0;
    let mut known = None;
    for stage in &model.stages[..index] {
        let own = &model.params[params..params + stage.stage.params_len()];
        params += own.len();
        known = match stage.stage {
            Stage::Embedding { .. } => Some(largest(own)),
            Stage::Lstm(_) => Some(1.0),
            Stage::Activation(
                Activation::Tanh
                | Activation::Sigmoid
                | Activation::Softmax
                | Activation::HardSigmoid { .. },
            ) => Some(1.0),
            Stage::Activation(Activation::Linear | Activation::Relu)
            | Stage::Reverse
            | Stage::Flatten { .. } => known,
            Stage::Gain(gain) => known.map(|known| known * gain.abs()),
            _ => None,
        };
    }
    let name = &model.stages[index].name;
    known.ok_or_else(|| {
        let expected = format!("data for int8: the range of the inputs of {name} is not known");
        Error::setting("calibrate", expected, "none")
    })
}

/// What decides a row of the output, if it is of classes or one probability: behind a softmax or a
/// sigmoid, or where there are labels.
fn decision(model: &ChainModel, width: usize, labelled: bool) -> Option<fn(&[f32]) -> usize> {
    let last = model.stages.last().map(|stage| stage.stage);
    match (last, width) {
        (Some(Stage::Activation(Activation::Sigmoid)), 1) => {
            Some(|row| usize::from(row.iter().any(|&p| p > 0.5)))
        }
        (Some(Stage::Activation(Activation::Softmax)), 2..) => Some(largest_class),
        (_, 2..) if labelled => Some(largest_class),
        _ => None,
    }
}

fn largest_class(row: &[f32]) -> usize {
    let each = row.iter().enumerate();
    let largest = each.max_by(|(_, a), (_, b)| a.total_cmp(b));
    largest.map_or(0, |(class, _)| class)
}

/// The share of rows that are decided as the labels say: before, and after.
fn accuracy(data: Calibration, exact: &[usize], got: &[usize]) -> Result<Option<[f64; 2]>, Error> {
    let Some((shape, labels)) = data.labels else {
        return Ok(None);
    };
    let Extent { steps, batch } = data.extent;
    let labels = data.within(labels.to_vec(), 1);
    if !(shape == [steps, batch] || shape == [batch]) || labels.len() != exact.len() {
        let rows = exact.len();
        let expected = format!("labels [T, B] or [B], one for each of {rows} rows of the output");
        return Err(Error::setting("calibrate", expected, format!("{shape:?}")));
    }
    let right = |decisions: &[usize]| {
        let known = decisions.iter().zip(&labels);
        let known = known.filter_map(|(&got, &label)| Some((got, usize::try_from(label).ok()?)));
        share(known.map(|(got, label)| got == label))
    };
    Ok(right(exact)
        .zip(right(got))
        .map(|(before, after)| [before, after]))
}

/// None of nothing.
fn share(each: impl Iterator<Item = bool>) -> Option<f64> {
    let (all, same) = each.fold((0usize, 0usize), |(all, same), is| {
        (all + 1, same + usize::from(is))
    });
    (all > 0).then(|| same as f64 / all as f64)
}
