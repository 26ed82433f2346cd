//! `nn.BatchNorm1d` after training: a factor and a summand for each column.

use super::state::Tensor;
use crate::Error;
use crate::import::{Kind, Source};

/// What PyTorch adds to a variance, unless it is told otherwise; only whole modules say.
pub(super) const EPSILON: f64 = 1e-5;

/// The tensors of the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm<'a> {
    pub(super) mean: &'a Tensor,
    pub(super) variance: &'a Tensor,
    pub(super) weight: Option<&'a Tensor>,
    pub(super) bias: Option<&'a Tensor>,
    /// What is added to the variance, if the file says.
    pub(super) epsilon: Option<f64>,
}

/// What it does.
pub(super) fn affine(source: &Source, path: &str, norm: Norm) -> Result<Kind, Error> {
    let &[width] = &norm.mean.shape[..] else {
        let got = &norm.mean.shape;
        return Err(source.problem(format!(
            "key {path}.running_mean: expected one dimension, got {got:?}"
        )));
    };
    let others = [
        ("running_var", Some(norm.variance)),
        ("weight", norm.weight),
        ("bias", norm.bias),
    ];
    for (name, tensor) in others {
        if let Some(got) = tensor.map(|tensor| &tensor.shape)
            && got[..] != [width]
        {
            return Err(source.problem(format!(
                "key {path}.{name}: expected shape [{width}], got {got:?}"
            )));
        }
    }
    if let Some(got) = norm.variance.values.iter().find(|&&v| v < 0.0) {
        return Err(source.problem(format!(
            "key {path}.running_var: expected no numbers below 0, got {got}"
        )));
    }
    let epsilon = norm.epsilon.unwrap_or(EPSILON);
    if !epsilon.is_finite() || epsilon < 0.0 {
        return Err(source.problem(format!(
            "key {path}.eps: expected a number of at least 0, got {epsilon}"
        )));
    }
    let value = |tensor: Option<&Tensor>, k: usize, otherwise: f64| {
        let value = tensor.and_then(|tensor| tensor.values.get(k));
        value.map_or(otherwise, |&value| value.into())
    };
    let mut scale = Vec::with_capacity(norm.mean.values.len());
    let mut shift = Vec::with_capacity(norm.mean.values.len());
    for (k, (&mean, &variance)) in norm
        .mean
        .values
        .iter()
        .zip(&norm.variance.values)
        .enumerate()
    {
        let factor = value(norm.weight, k, 1.0) / (f64::from(variance) + epsilon).sqrt();
        scale.push(factor as f32);
        shift.push((value(norm.bias, k, 0.0) - f64::from(mean) * factor) as f32);
    }
    super::state::finite(source, &format!("{path}.weight"), &scale)?;
    super::state::finite(source, &format!("{path}.bias"), &shift)?;
    Ok(Kind::Affine { scale, shift })
}
