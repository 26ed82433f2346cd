//! Operators on constants: exporters cut, join and turn weights in the graph, and compute shapes.

use super::arithmetic::{arithmetic, cast, choose};
use super::moves::{concat, expand, gather, slice, strides, take};
use super::proto::Node;
use super::tensor::{Budget, Int, MOST_DIMS, Tensor, count};

/// What a node makes of constants; nothing if it is an operator that is not computed here, or one
/// whose arguments do not fit. Who needs the result then says which node it came from.
pub(super) fn fold(node: &Node, inputs: &[Option<Tensor>], budget: &mut Budget) -> Option<Tensor> {
    let arg = |index: usize| inputs.get(index)?.as_ref();
    let first = || arg(0);
    // The attribute of older versions, or the input of newer ones.
    let list = |name: &str, index: usize| match node.ints(name) {
        Ok(Some(values)) => Some(values),
        _ => arg(index)?.known(),
    };
    let int = |name: &str, otherwise: i64| match node.int(name) {
        Ok(value) => Some(value.unwrap_or(otherwise)),
        Err(_) => None,
    };
    if first().is_some_and(|tensor| tensor.repeated)
        && !matches!(
            node.op,
            "Identity" | "Cast" | "Unsqueeze" | "Squeeze" | "Transpose" | "Slice" | "Gather"
        )
    {
        return None;
    }
    // Without numbers there is nothing that bounds the other sizes.
    let empty = inputs.iter().flatten().any(|tensor| tensor.len() == 0);
    if empty && !matches!(node.op, "Identity" | "Cast" | "Concat" | "Shape" | "Size") {
        return None;
    }
    match node.op {
        "Identity" => first().cloned(),
        "Cast" => cast(first()?, int("to", 0)?, budget),
        "Unsqueeze" => {
            let tensor = first()?;
            let axes = list("axes", 1)?;
            Some(tensor.with_dims(unsqueezed(&tensor.dims, &axes, 1)?))
        }
        "Squeeze" => {
            let tensor = first()?;
            let axes = match (node.ints("axes").ok()?, arg(1)) {
                (None, None) => None,
                _ => Some(list("axes", 1)?),
            };
            Some(tensor.with_dims(squeezed(&tensor.dims, axes)?))
        }
        "Reshape" => reshape(first()?, &arg(1)?.known()?),
        "Flatten" => {
            let tensor = first()?;
            let axis = int("axis", 1)?;
            let at = match axis {
                axis if axis == tensor.dims.len() as i64 => tensor.dims.len(),
                axis => place(axis, tensor.dims.len())?,
            };
            let (rows, columns) = tensor.dims.split_at(at);
            Some(tensor.with_dims(vec![count(rows)?, count(columns)?]))
        }
        "Transpose" => {
            let tensor = first()?;
            let rank = tensor.dims.len();
            let order = match node.ints("perm").ok()? {
                Some(order) => permutation(&order, rank)?,
                None => (0..rank).rev().collect(),
            };
            let strides = strides(&tensor.dims);
            let table = order.iter().map(|&axis| {
                let stride = strides[axis];
                (0..tensor.dims[axis]).map(|i| i * stride).collect()
            });
            take(tensor, table.collect(), budget)
        }
        "Concat" => concat(inputs, int("axis", 0)?, budget),
        "Slice" => {
            let tensor = first()?;
            let starts = list("starts", 1)?;
            let ends = list("ends", 2)?;
            let axes = match (node.ints("axes").ok()?, arg(3)) {
                (None, None) => (0..starts.len() as i64).collect(),
                _ => list("axes", 3)?,
            };
            let steps = match arg(4) {
                None => vec![1; starts.len()],
                Some(steps) => steps.known()?,
            };
            slice(tensor, &starts, &ends, &axes, &steps, budget)
        }
        "Gather" => gather(first()?, arg(1)?, int("axis", 0)?, budget),
        "Expand" => expand(first()?, arg(1)?, budget),
        "Shape" => {
            let dims = first()?.dims.iter().map(|&d| Int::Known(d as i64));
            let dims: Vec<_> = dims.collect();
            Some(Tensor::ints(vec![dims.len()], dims))
        }
        "Size" => Some(Tensor::ints(
            vec![],
            vec![Int::Known(first()?.len() as i64)],
        )),
        "Not" => {
            let tensor = first()?;
            budget.spend_as(tensor, tensor.len())?;
            let each = tensor.as_ints()?.iter().map(|int| match int {
                Int::Known(value) => Int::Known((*value == 0).into()),
                _ => Int::Unknown,
            });
            Some(Tensor::ints(tensor.dims.clone(), each.collect()))
        }
        "Add" | "Sub" | "Mul" | "Div" | "Equal" => arithmetic(node.op, first()?, arg(1)?, budget),
        "Where" => choose(first()?, arg(1)?, arg(2)?, budget),
        _ => None,
    }
}

/// An axis counted from the end if it is negative.
pub(super) fn place(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 {
        axis.checked_add(rank as i64)?
    } else {
        axis
    };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

/// An order of axes that has each once.
pub(super) fn permutation(order: &[i64], rank: usize) -> Option<Vec<usize>> {
    let order: Vec<usize> = order
        .iter()
        .map(|&axis| place(axis, rank))
        .collect::<Option<_>>()?;
    let each_once = (0..rank).all(|axis| order.contains(&axis));
    (order.len() == rank && each_once).then_some(order)
}

/// Dimensions with new ones at `axes` of the result.
pub(super) fn unsqueezed<T: Clone>(dims: &[T], axes: &[i64], one: T) -> Option<Vec<T>> {
    let rank = dims.len() + axes.len();
    if rank > MOST_DIMS {
        return None;
    }
    let axes: Vec<usize> = axes
        .iter()
        .map(|&axis| place(axis, rank))
        .collect::<Option<_>>()?;
    let mut old = dims.iter();
    let new = (0..rank).map(|axis| match axes.contains(&axis) {
        true => Some(one.clone()),
        false => old.next().cloned(),
    });
    let new = new.collect::<Option<Vec<T>>>()?;
    old.next().is_none().then_some(new)
}

fn squeezed(dims: &[usize], axes: Option<Vec<i64>>) -> Option<Vec<usize>> {
    let Some(axes) = axes else {
        return Some(dims.iter().copied().filter(|&dim| dim != 1).collect());
    };
    let axes: Vec<usize> = axes
        .iter()
        .map(|&axis| place(axis, dims.len()))
        .collect::<Option<_>>()?;
    if axes.iter().any(|&axis| dims[axis] != 1) {
        return None;
    }
    let kept = dims.iter().enumerate();
    let kept = kept.filter(|(axis, _)| !axes.contains(axis));
    Some(kept.map(|(_, &dim)| dim).collect())
}

fn reshape(tensor: &Tensor, target: &[i64]) -> Option<Tensor> {
    if target.len() > MOST_DIMS {
        return None;
    }
    let mut dims = Vec::new();
    let mut open = None;
    for (axis, &size) in target.iter().enumerate() {
        dims.push(match size {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 => *tensor.dims.get(axis)?,
            size => usize::try_from(size).ok()?,
        });
    }
    let product = count(&dims)?;
    if let Some(axis) = open {
        dims[axis] = tensor.len().checked_div(product)?;
    }
    (count(&dims)? == tensor.len()).then(|| tensor.with_dims(dims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::wire::write;

    fn node(op: &str, attributes: &[(&str, &[i64])]) -> Vec<u8> {
        let mut bytes = write::bytes(4, op);
        for (name, values) in attributes {
            let mut attribute = write::bytes(1, name);
            match values {
                [one] if matches!(*name, "axis" | "to") => attribute.extend(write::int(3, *one)),
                values => values
                    .iter()
                    .for_each(|&value| attribute.extend(write::int(8, value))),
            }
            bytes.extend(write::bytes(5, attribute));
        }
        bytes
    }

    fn ints(values: &[i64]) -> Tensor {
        let all = values.iter().map(|&v| Int::Known(v)).collect();
        Tensor::ints(vec![values.len()], all)
    }

    fn floats(dims: &[usize]) -> Tensor {
        let len = count(dims).unwrap();
        Tensor::floats(dims.to_vec(), (0..len).map(|k| k as f32).collect())
    }

    fn run(op: &str, attributes: &[(&str, &[i64])], inputs: &[Tensor]) -> Option<Tensor> {
        let bytes = node(op, attributes);
        let node = Node::parse(&bytes).unwrap();
        let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
        fold(&node, &inputs, &mut Budget::new(0))
    }

    fn values(tensor: Option<Tensor>) -> (Vec<usize>, Vec<f32>) {
        let tensor = tensor.unwrap();
        (tensor.dims.clone(), tensor.as_floats().unwrap().to_vec())
    }

    #[test]
    fn cuts_and_joins() {
        let x = floats(&[4, 2]);
        let [two, four, zero] = [ints(&[2]), ints(&[4]), ints(&[0])];
        let low = run("Slice", &[], &[x.clone(), two.clone(), four, zero.clone()]);
        assert_eq!(values(low.clone()), (vec![2, 2], vec![4.0, 5.0, 6.0, 7.0]));
        let high = run(
            "Slice",
            &[("starts", &[0]), ("ends", &[-2]), ("axes", &[0])],
            std::slice::from_ref(&x),
        );
        assert_eq!(values(high.clone()).1, [0.0, 1.0, 2.0, 3.0]);
        let joined = run("Concat", &[("axis", &[0])], &[low.unwrap(), high.unwrap()]);
        assert_eq!(values(joined).1, [4.0, 5.0, 6.0, 7.0, 0.0, 1.0, 2.0, 3.0]);
        let side = run(
            "Concat",
            &[("axis", &[-1])],
            &[floats(&[2, 1]), floats(&[2, 2])],
        );
        assert_eq!(
            values(side),
            (vec![2, 3], vec![0.0, 0.0, 1.0, 1.0, 2.0, 3.0])
        );
        let back = [x.clone(), ints(&[-1]), ints(&[i64::MIN]), zero, ints(&[-2])];
        assert_eq!(values(run("Slice", &[], &back)).1, [6.0, 7.0, 2.0, 3.0]);
        let turned = run("Transpose", &[("perm", &[1, 0])], std::slice::from_ref(&x));
        assert_eq!(
            values(turned),
            (vec![2, 4], vec![0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0])
        );
        let row = run("Gather", &[("axis", &[0])], &[x.clone(), ints(&[-1])]);
        assert_eq!(values(row), (vec![1, 2], vec![6.0, 7.0]));
        let scalar = Tensor::ints(vec![], vec![Int::Known(1)]);
        let column = run("Gather", &[("axis", &[1])], &[x.clone(), scalar]);
        assert_eq!(values(column), (vec![4], vec![1.0, 3.0, 5.0, 7.0]));
        let shaped = run("Reshape", &[], &[x.clone(), ints(&[2, 0, -1])]);
        assert_eq!(values(shaped).0, [2, 2, 2]);
        let more = run("Unsqueeze", &[("axes", &[0, 3])], std::slice::from_ref(&x)).unwrap();
        assert_eq!(more.dims, [1, 4, 2, 1]);
        let less = run("Squeeze", &[], &[more, ints(&[-1, 0])]);
        assert_eq!(values(less).0, [4, 2]);
        let sum = run("Add", &[], &[x, floats(&[2])]);
        assert_eq!(values(sum).1, [0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0, 8.0]);
    }

    #[test]
    fn shapes() {
        let batch = Tensor::ints(vec![3], vec![Int::Known(-1), Int::Size(7), Int::Known(2)]);
        let asked = run("Equal", &[], &[batch.clone(), ints(&[-1])]).unwrap();
        assert_eq!(asked.known().unwrap(), [1, 0, 0]);
        let shape = run("Where", &[], &[asked, ints(&[1, 1, 1]), batch]).unwrap();
        let expected = [Int::Known(1), Int::Size(7), Int::Known(2)];
        assert_eq!(shape.as_ints().unwrap(), expected);
        let start = run("Expand", &[], &[floats(&[1, 1, 2]), shape]).unwrap();
        assert_eq!((&start.dims[..], start.repeated), (&[1, 1, 2][..], true));
        // Its true size is not known any more.
        assert!(run("Shape", &[], &[start]).is_none());
    }

    #[test]
    fn not_folded() {
        let x = floats(&[4, 2]);
        assert!(run("Slice", &[], &[x.clone(), ints(&[0])]).is_none());
        assert!(run("Gather", &[], &[x.clone(), ints(&[9])]).is_none());
        assert!(run("Reshape", &[], &[x.clone(), ints(&[3, -1])]).is_none());
        assert!(run("Transpose", &[("perm", &[0, 0])], std::slice::from_ref(&x)).is_none());
        assert!(run("Concat", &[("axis", &[0])], &[x.clone(), floats(&[2])]).is_none());
        let huge = ints(&[1 << 40, 1 << 40]);
        assert!(run("Expand", &[], &[floats(&[1, 1]), huge]).is_none());
        let long = ints(&[1 << 40, 1]);
        assert!(run("Expand", &[], &[floats(&[1, 1]), long]).is_none());
        let step = [x.clone(), ints(&[0]), ints(&[4]), ints(&[0]), ints(&[0])];
        assert!(run("Slice", &[], &step).is_none());
        assert!(run("Softmax", &[], &[x]).is_none());
    }
}
