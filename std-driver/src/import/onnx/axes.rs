//! What the axes of the data mean: time, batch or columns. Exporters turn, join and split them
//! around a layer, which changes nothing here as long as it is known which is which.

use super::fold::{permutation, place, unsqueezed};
use super::tensor::{Int, MOST_DIMS};

/// What runs along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Of the graph's input, and not settled yet.
    Free,
    /// Time steps or rows of a batch.
    Row,
    /// The columns of a row.
    Feature,
    /// The directions of a layer, and the layers of states.
    Directions,
}

/// An axis, or what is one together with others after a `Reshape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    /// Its own, of all axes in the graph.
    pub(super) id: u32,
    pub(super) size: Option<usize>,
    pub(super) role: Role,
}

pub(super) type Axis = Vec<Atom>;

/// Gives every axis a number.
#[derive(Debug, Default)]
pub(super) struct Numbering(u32);

impl Numbering {
    pub(super) fn atom(&mut self, size: Option<usize>, role: Role) -> Atom {
        self.0 = self.0.wrapping_add(1);
        Atom {
            id: self.0,
            size,
            role,
        }
    }

    pub(super) fn axis(&mut self, size: Option<usize>, role: Role) -> Axis {
        vec![self.atom(size, role)]
    }
}

/// The size of an axis as a shape has it.
pub(super) fn size(axis: &[Atom]) -> Int {
    match (width(axis), axis) {
        (Some(size), _) => i64::try_from(size).map_or(Int::Unknown, Int::Known),
        (None, [atom]) => Int::Size(atom.id),
        _ => Int::Unknown,
    }
}

/// The size of an axis, if it is known.
pub(super) fn width(axis: &[Atom]) -> Option<usize> {
    axis.iter()
        .try_fold(1usize, |product, atom| product.checked_mul(atom.size?))
}

/// What an axis is, if it is a single thing.
pub(super) fn single(axis: &[Atom]) -> Option<Atom> {
    let mut long = axis.iter().filter(|atom| atom.size != Some(1));
    match (long.next(), long.next()) {
        (Some(atom), None) => Some(*atom),
        (None, _) => axis.first().copied(),
        _ => None,
    }
}

/// Whether an axis can be the columns of rows. What is joined must be so in the order in which it
/// was made: directions before units, not the other way round.
pub(super) fn may_be_columns(axis: &[Atom]) -> bool {
    let long = axis.iter().filter(|atom| atom.size != Some(1));
    let long: Vec<&Atom> = long.collect();
    let only_directions = matches!(long[..], [atom] if atom.role == Role::Directions);
    long.iter().all(|atom| atom.role != Role::Row)
        && long.is_sorted_by_key(|atom| atom.id)
        && !only_directions
}

/// Whether an axis can be one of time steps or of a batch.
pub(super) fn may_be_rows(axis: &[Atom]) -> bool {
    let mut long = axis.iter().filter(|atom| atom.size != Some(1));
    long.all(|atom| matches!(atom.role, Role::Free | Role::Row))
}

/// Settles that one axis has the columns, and that all others have the rows.
pub(super) fn with_columns(axes: &[Axis], columns: usize) -> Vec<Axis> {
    let settle = |(index, axis): (usize, &Axis)| {
        let role = if index == columns {
            Role::Feature
        } else {
            Role::Row
        };
        let each = axis.iter().map(|&atom| match atom.role {
            Role::Free => Atom { role, ..atom },
            _ => atom,
        });
        each.collect()
    };
    axes.iter().enumerate().map(settle).collect()
}

pub(super) fn transpose(axes: &[Axis], order: Option<Vec<i64>>) -> Option<Vec<Axis>> {
    let order = match order {
        Some(order) => permutation(&order, axes.len())?,
        None => (0..axes.len()).rev().collect(),
    };
    Some(order.into_iter().map(|axis| axes[axis].clone()).collect())
}

pub(super) fn unsqueeze(axes: &[Axis], at: &[i64], numbering: &mut Numbering) -> Option<Vec<Axis>> {
    let mut new = unsqueezed(axes, at, Axis::new())?;
    for axis in new.iter_mut().filter(|axis| axis.is_empty()) {
        *axis = numbering.axis(Some(1), Role::Free);
    }
    Some(new)
}

/// Without axes that have a size of 1: those that are named, or all of them.
pub(super) fn squeeze(axes: &[Axis], at: Option<Vec<i64>>) -> Option<Vec<Axis>> {
    let gone: Vec<usize> = match at {
        Some(at) => at
            .into_iter()
            .map(|axis| place(axis, axes.len()))
            .collect::<Option<_>>()?,
        None => {
            let known = axes.iter().all(|axis| width(axis).is_some());
            let ones = (0..axes.len()).filter(|&k| width(&axes[k]) == Some(1));
            known.then(|| ones.collect())?
        }
    };
    if gone
        .iter()
        .any(|&k| width(&axes[k]).is_some_and(|size| size != 1))
    {
        return None;
    }
    let kept = axes.iter().enumerate();
    let kept = kept.filter(|(k, _)| !gone.contains(k));
    Some(kept.map(|(_, axis)| axis.clone()).collect())
}

/// The same atoms, joined and split otherwise.
pub(super) fn reshape(
    axes: &[Axis],
    target: &[Int],
    zero_copies: bool,
    numbering: &mut Numbering,
) -> Option<Vec<Axis>> {
    if target.len() > MOST_DIMS {
        return None;
    }
    let mut atoms: Vec<Atom> = axes.iter().flatten().copied().collect();
    let target: Vec<Int> = target
        .iter()
        .enumerate()
        .map(|(k, int)| match int {
            Int::Known(0) if zero_copies => axes.get(k).map(|axis| size(axis)),
            Int::Known(-1) => Some(Int::Unknown),
            other => Some(*other),
        })
        .collect::<Option<_>>()?;
    let open = target.iter().filter(|int| **int == Int::Unknown).count();
    let place = target.iter().position(|int| *int == Int::Unknown);
    let place = place.unwrap_or(target.len());
    let mut result = Vec::new();
    for int in &target[..place] {
        let axis = front(&mut atoms, *int, numbering)?;
        result.push(axis);
    }
    let mut behind = Vec::new();
    if open == 1 {
        // What is behind the open one is taken from the end.
        atoms.reverse();
        for int in target[place + 1..].iter().rev() {
            let mut axis = front(&mut atoms, *int, numbering)?;
            axis.reverse();
            behind.push(axis);
        }
        atoms.reverse();
        if atoms.is_empty() {
            atoms.push(numbering.atom(Some(1), Role::Free));
        }
        result.push(std::mem::take(&mut atoms));
    } else if open > 1 {
        return None;
    }
    result.extend(behind.into_iter().rev());
    // What is left over must have a size of 1.
    match result.last_mut() {
        _ if atoms.iter().any(|atom| atom.size != Some(1)) => None,
        Some(last) => {
            last.extend(atoms);
            Some(result)
        }
        None => Some(result),
    }
}

/// Takes atoms from the front whose sizes make up one of a shape.
fn front(atoms: &mut Vec<Atom>, int: Int, numbering: &mut Numbering) -> Option<Axis> {
    match int {
        Int::Size(id) => {
            let place = atoms.iter().position(|atom| atom.id == id)?;
            let axis: Axis = atoms.drain(..=place).collect();
            let only = axis[..place].iter().all(|atom| atom.size == Some(1));
            only.then_some(axis)
        }
        Int::Known(size) => {
            let size = usize::try_from(size).ok()?;
            let mut axis = Axis::new();
            let mut product = 1usize;
            while product < size || (size == 1 && axis.is_empty()) {
                match atoms.first().copied() {
                    Some(atom) if size == 1 && atom.size != Some(1) => break,
                    None if size == 1 => break,
                    atom => {
                        let atom = atom?;
                        product = product.checked_mul(atom.size?)?;
                        axis.push(atom);
                        atoms.remove(0);
                    }
                }
            }
            if axis.is_empty() {
                axis = numbering.axis(Some(1), Role::Free);
            }
            (product == size).then_some(axis)
        }
        Int::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(axes: &[Axis], names: &[(u32, &str)]) -> String {
        let name = |atom: &Atom| names.iter().find(|n| n.0 == atom.id).map_or("1", |n| n.1);
        let axes: Vec<String> = axes
            .iter()
            .map(|axis| axis.iter().map(name).collect())
            .collect();
        axes.join(",")
    }

    fn made(sizes: &[Option<usize>]) -> (Vec<Axis>, Numbering) {
        let mut numbering = Numbering::default();
        let axes = sizes
            .iter()
            .map(|&s| numbering.axis(s, Role::Row))
            .collect();
        (axes, numbering)
    }

    #[test]
    fn directions_are_joined_with_units() {
        let known = Int::Known;
        let names = [(1, "T"), (2, "D"), (3, "B"), (4, "H")];
        for sizes in [
            [Some(5), Some(2), Some(2), Some(8)],
            [None, Some(2), None, Some(8)],
        ] {
            let (axes, mut n) = made(&sizes);
            let turned = transpose(&axes, Some(vec![0, 2, 1, 3])).unwrap();
            assert_eq!(letters(&turned, &names), "T,B,D,H");
            let joined = reshape(&turned, &[known(0), known(0), known(-1)], true, &mut n).unwrap();
            assert_eq!(letters(&joined, &names), "T,B,DH");
            assert_eq!(width(&joined[2]), Some(16));
            // Joined over time and batch, and taken apart again.
            let flat = reshape(&joined, &[known(-1), known(16)], true, &mut n).unwrap();
            assert_eq!(letters(&flat, &names), "TB,DH");
            let shape = [size(&axes[0]), size(&axes[2]), known(16)];
            let apart = reshape(&flat, &shape, true, &mut n).unwrap();
            assert_eq!(letters(&apart, &names), "T,B,DH");
            let wrong = [known(3), known(-1)];
            assert_eq!(reshape(&axes, &wrong, true, &mut n), None);
        }
    }

    #[test]
    fn ones() {
        let known = Int::Known;
        let names = [(1, "T"), (2, "D"), (3, "B"), (4, "H")];
        let (axes, mut n) = made(&[Some(6), Some(1), Some(3), Some(5)]);
        let less = squeeze(&axes, Some(vec![1])).unwrap();
        assert_eq!(letters(&less, &names), "T,B,H");
        assert_eq!(squeeze(&axes, None).unwrap(), less);
        assert_eq!(squeeze(&axes, Some(vec![0])), None);
        let more = unsqueeze(&less, &[0, -1], &mut n).unwrap();
        assert_eq!(letters(&more, &names), "1,T,B,H,1");
        let same = reshape(&axes, &[known(6), known(3), known(5)], true, &mut n).unwrap();
        assert_eq!(single(&same[1]), Some(axes[2][0]));
        let one = reshape(&less, &[known(1), known(-1), known(1)], true, &mut n).unwrap();
        assert_eq!(letters(&one, &names), "1,TBH,1");
    }
}
