//! Sums, products and comparisons of constants.

use super::moves::{broadcast, common, take};
use super::tensor::{Budget, Int, Numbers, Tensor, count};

pub(super) fn cast(tensor: &Tensor, to: i64, budget: &mut Budget) -> Option<Tensor> {
    let dims = tensor.dims.clone();
    if let (Numbers::Floats(_), 1 | 10 | 11 | 16) | (Numbers::Ints(_), 2..=7 | 12 | 13) =
        (&tensor.numbers, to)
    {
        return Some(tensor.clone());
    }
    budget.spend(tensor.len().saturating_mul(4))?;
    match (&tensor.numbers, to) {
        (Numbers::Ints(_), 1 | 10 | 11 | 16) => {
            let values = tensor.known()?.into_iter().map(|v| v as f32).collect();
            Some(Tensor::floats(dims, values))
        }
        (Numbers::Floats(values), 2..=7 | 12 | 13) if values.len() <= 1 << 14 => {
            let values = values.iter().map(|&v| Int::Known(v as i64)).collect();
            Some(Tensor::ints(dims, values))
        }
        (Numbers::Ints(values), 9) => {
            let each = values.iter().map(|int| match int {
                Int::Known(value) => Int::Known((*value != 0).into()),
                _ => Int::Unknown,
            });
            Some(Tensor::ints(dims, each.collect()))
        }
        _ => None,
    }
}

pub(super) fn arithmetic(op: &str, a: &Tensor, b: &Tensor, budget: &mut Budget) -> Option<Tensor> {
    if a.repeated || b.repeated {
        return None;
    }
    let dims = common(&a.dims, &b.dims)?;
    if dims.contains(&0) {
        return None;
    }
    budget.spend(count(&dims)?)?;
    let a = take(a, broadcast(&a.dims, &dims)?, budget)?;
    let b = take(b, broadcast(&b.dims, &dims)?, budget)?;
    match (&a.numbers, &b.numbers) {
        (Numbers::Floats(x), Numbers::Floats(y)) => {
            let f: fn(f32, f32) -> f32 = match op {
                "Add" => |x, y| x + y,
                "Sub" => |x, y| x - y,
                "Mul" => |x, y| x * y,
                "Div" => |x, y| x / y,
                _ => return None,
            };
            let each = x.iter().zip(y.iter()).map(|(&x, &y)| f(x, y));
            Some(Tensor::floats(dims, each.collect()))
        }
        (Numbers::Ints(x), Numbers::Ints(y)) => {
            let each = x.iter().zip(y.iter()).map(|(&x, &y)| integer(op, x, y));
            Some(Tensor::ints(dims, each.collect()))
        }
        _ => None,
    }
}

pub(super) fn integer(op: &str, x: Int, y: Int) -> Int {
    let result = match (op, x, y) {
        ("Equal", Int::Known(x), Int::Known(y)) => Some((x == y).into()),
        // A size is never negative.
        ("Equal", Int::Size(_), Int::Known(..0)) => Some(0),
        ("Add", Int::Known(x), Int::Known(y)) => x.checked_add(y),
        ("Sub", Int::Known(x), Int::Known(y)) => x.checked_sub(y),
        ("Mul", Int::Known(x), Int::Known(y)) => x.checked_mul(y),
        ("Div", Int::Known(x), Int::Known(y)) => x.checked_div(y),
        ("Mul" | "Div", Int::Size(id), Int::Known(1))
        | ("Mul", Int::Known(1), Int::Size(id))
        | ("Add" | "Sub", Int::Size(id), Int::Known(0)) => return Int::Size(id),
        _ => None,
    };
    result.map_or(Int::Unknown, Int::Known)
}

/// `Where` of integers, which shapes are computed with.
pub(super) fn choose(
    which: &Tensor,
    a: &Tensor,
    b: &Tensor,
    budget: &mut Budget,
) -> Option<Tensor> {
    let dims = common(&common(&which.dims, &a.dims)?, &b.dims)?;
    if dims.contains(&0) {
        return None;
    }
    budget.spend(count(&dims)?)?;
    let mut of = |tensor: &Tensor| take(tensor, broadcast(&tensor.dims, &dims)?, budget);
    let (which, a, b) = (of(which)?, of(a)?, of(b)?);
    let (a, b) = (a.as_ints()?, b.as_ints()?);
    let each = which.as_ints()?.iter().zip(a.iter().zip(b));
    let each = each.map(|(which, (&a, &b))| match which {
        Int::Known(0) => b,
        Int::Known(_) => a,
        _ if a == b => a,
        _ => Int::Unknown,
    });
    Some(Tensor::ints(dims.clone(), each.collect()))
}
