//! What cuts, turns, joins and repeats constants.

use super::fold::place;
use super::tensor::{Budget, Int, MOST_DIMS, Numbers, Tensor, count};
use std::rc::Rc;

pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for axis in (1..dims.len()).rev() {
        // The product of all dimensions is the number of values, and fits; one of 0 has none.
        strides[axis - 1] = strides[axis].saturating_mul(dims[axis]);
    }
    strides
}

/// The numbers at sums of offsets, one of each list: what cuts, turns and repeats.
pub(super) fn take(
    tensor: &Tensor,
    offsets: Vec<Vec<usize>>,
    budget: &mut Budget,
) -> Option<Tensor> {
    let dims: Vec<usize> = offsets.iter().map(Vec::len).collect();
    let len = count(&dims).filter(|_| dims.len() <= MOST_DIMS)?;
    budget.spend_as(tensor, len)?;
    let numbers = match &tensor.numbers {
        Numbers::Floats(values) => Numbers::Floats(Rc::new(at_offsets(values, &offsets, len)?)),
        Numbers::Ints(values) => Numbers::Ints(Rc::new(at_offsets(values, &offsets, len)?)),
    };
    Some(Tensor {
        dims,
        numbers,
        repeated: tensor.repeated,
    })
}

pub(super) fn at_offsets<T: Copy>(
    values: &[T],
    offsets: &[Vec<usize>],
    len: usize,
) -> Option<Vec<T>> {
    let mut result = Vec::new();
    result.try_reserve_exact(len).ok()?;
    let mut index = vec![0; offsets.len()];
    for _ in 0..len {
        let at = index.iter().zip(offsets).map(|(&i, list)| list[i]);
        result.push(*values.get(at.sum::<usize>())?);
        for (i, list) in index.iter_mut().zip(offsets).rev() {
            *i += 1;
            if *i < list.len() {
                break;
            }
            *i = 0;
        }
    }
    Some(result)
}

pub(super) fn concat(inputs: &[Option<Tensor>], axis: i64, budget: &mut Budget) -> Option<Tensor> {
    let all: Vec<&Tensor> = inputs.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let first = *all.first()?;
    let axis = place(axis, first.dims.len())?;
    let fits = |tensor: &&Tensor| {
        let same = tensor.dims.iter().zip(&first.dims).enumerate();
        !tensor.repeated
            && tensor.dims.len() == first.dims.len()
            && same.into_iter().all(|(k, (a, b))| k == axis || a == b)
    };
    if !all.iter().all(fits) {
        return None;
    }
    let mut dims = first.dims.clone();
    dims[axis] = all
        .iter()
        .try_fold(0usize, |sum, tensor| sum.checked_add(tensor.dims[axis]))?;
    let len = count(&dims)?;
    budget.spend_as(first, len)?;
    let outer = count(&dims[..axis])?;
    let numbers = if all.iter().all(|tensor| tensor.as_floats().is_some()) {
        let parts: Vec<&[f32]> = all.iter().filter_map(|tensor| tensor.as_floats()).collect();
        Numbers::Floats(Rc::new(joined(&parts, outer, len)?))
    } else {
        let parts: Option<Vec<&[Int]>> = all.iter().map(|tensor| tensor.as_ints()).collect();
        Numbers::Ints(Rc::new(joined(&parts?, outer, len)?))
    };
    Some(Tensor {
        dims,
        numbers,
        repeated: false,
    })
}

pub(super) fn joined<T: Copy>(parts: &[&[T]], outer: usize, len: usize) -> Option<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).ok()?;
    if len > 0 {
        for row in 0..outer {
            for part in parts {
                let width = part.len() / outer;
                all.extend(part.get(row * width..(row + 1) * width)?);
            }
        }
    }
    Some(all)
}

/// The indices that a slice of an axis has.
pub(super) fn slice_indices(size: usize, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let size = i64::try_from(size).ok()?;
    let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    if size == 0 || step == 0 {
        return (step != 0).then(Vec::new);
    }
    let mut at = from_end(start).clamp(if step > 0 { 0 } else { -1 }, high);
    let end = from_end(end).clamp(low, high.max(low));
    let mut indices = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        indices.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    Some(indices)
}

pub(super) fn slice(
    tensor: &Tensor,
    starts: &[i64],
    ends: &[i64],
    axes: &[i64],
    steps: &[i64],
    budget: &mut Budget,
) -> Option<Tensor> {
    let lens = [ends.len(), axes.len(), steps.len()];
    if lens.iter().any(|&len| len != starts.len()) || tensor.len() == 0 {
        return None;
    }
    let strides = strides(&tensor.dims);
    let every = tensor.dims.iter().zip(&strides);
    let mut offsets: Vec<Vec<usize>> = every
        .map(|(&dim, &stride)| (0..dim).map(|i| i * stride).collect())
        .collect();
    for (k, &axis) in axes.iter().enumerate() {
        let axis = place(axis, tensor.dims.len())?;
        let indices = slice_indices(tensor.dims[axis], starts[k], ends[k], steps[k])?;
        offsets[axis] = indices.into_iter().map(|i| i * strides[axis]).collect();
    }
    take(tensor, offsets, budget)
}

pub(super) fn gather(
    tensor: &Tensor,
    indices: &Tensor,
    axis: i64,
    budget: &mut Budget,
) -> Option<Tensor> {
    let axis = place(axis, tensor.dims.len())?;
    let strides = strides(&tensor.dims);
    if indices.dims.len() > 1 {
        return None;
    }
    let known = indices.known()?;
    let known: Vec<usize> = known
        .into_iter()
        .map(|index| place(index, tensor.dims[axis]))
        .collect::<Option<_>>()?;
    if tensor.len() == 0 {
        return None;
    }
    let every = tensor.dims.iter().zip(&strides);
    let mut offsets: Vec<Vec<usize>> = every
        .map(|(&dim, &stride)| (0..dim).map(|i| i * stride).collect())
        .collect();
    offsets[axis] = known.into_iter().map(|i| i * strides[axis]).collect();
    let taken = take(tensor, offsets, budget)?;
    let mut dims = taken.dims.clone();
    if indices.dims.is_empty() {
        dims.remove(axis);
    }
    Some(taken.with_dims(dims))
}

/// Offsets that repeat a tensor to have `dims`.
pub(super) fn broadcast(from: &[usize], dims: &[usize]) -> Option<Vec<Vec<usize>>> {
    let missing = dims.len().checked_sub(from.len())?;
    let strides = strides(from);
    let each = dims.iter().enumerate().map(|(axis, &dim)| {
        let Some(old) = axis.checked_sub(missing) else {
            return Some(vec![0; dim]);
        };
        match from[old] {
            1 => Some(vec![0; dim]),
            size if size == dim => Some((0..dim).map(|i| i * strides[old]).collect()),
            _ => None,
        }
    });
    each.collect()
}

/// What two shapes have in common.
pub(super) fn common(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let from_end = |dims: &[usize], k: usize| match dims.len().checked_sub(k + 1) {
        Some(axis) => dims[axis],
        None => 1,
    };
    let each = (0..rank)
        .rev()
        .map(|k| match (from_end(a, k), from_end(b, k)) {
            (1, size) | (size, 1) => Some(size),
            (a, b) => (a == b).then_some(a),
        });
    each.collect()
}

/// A start state is one row that is repeated for a batch whose size is not known.
pub(super) fn expand(tensor: &Tensor, shape: &Tensor, budget: &mut Budget) -> Option<Tensor> {
    let shape = shape.as_ints()?;
    if shape.len() > MOST_DIMS {
        return None;
    }
    let mut repeated = false;
    let mut dims = Vec::new();
    for int in shape {
        dims.push(match int {
            Int::Known(size) => usize::try_from(*size).ok()?,
            _ => {
                repeated = true;
                1
            }
        });
    }
    // No list of offsets may be longer than what all of them make.
    let dims = common(&tensor.dims, &dims)?;
    if dims.contains(&0) {
        return None;
    }
    budget.spend(count(&dims)?)?;
    let mut result = take(tensor, broadcast(&tensor.dims, &dims)?, budget)?;
    result.repeated = repeated;
    Some(result)
}
