//! The order in which layers run, by their names and widths: a checkpoint does not say it.

use std::collections::{BTreeMap, HashSet};

/// More cells than any network has whose names tell no order.
const MOST_CELLS: usize = 256;
/// Places of cells that are tried.
const MOST_TRIES: usize = 1 << 18;

/// What the order of cells depends on.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// Orders that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    None,
    One(Vec<usize>),
    Several,
}

/// A name without the numbers in it: names that differ in them alone are in their order. The first
/// of several in a scope has none: `dense`, `dense_1`.
pub(super) fn family(name: &str) -> String {
    let parts = name.split('/').map(|part| {
        let counted = part.rsplit_once('_').filter(|(_, number)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        let part = counted.map_or(part, |(part, _)| part);
        let mut text = String::new();
        for c in part.chars() {
            let digit = c.is_ascii_digit();
            if !(digit && text.ends_with('#')) {
                text.push(if digit { '#' } else { c });
            }
        }
        text
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The orders of cells, which are given in that of their names, behind so many columns if that is
/// known; `between` has the shapes of the dense layers that may stand between two.
pub(super) fn orders(
    cells: &[Spec],
    width: Option<usize>,
    between: &HashSet<(usize, usize)>,
) -> Orders {
    let mut families: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (k, cell) in cells.iter().enumerate() {
        families.entry(family(&cell.name)).or_default().push(k);
    }
    let families: Vec<(Vec<usize>, usize)> = families.into_values().map(|all| (all, 0)).collect();
    if families.len() > 1 && cells.len() > MOST_CELLS {
        return Orders::Several;
    }
    let mut search = Search {
        cells,
        between,
        families,
        path: Vec::new(),
        found: Vec::new(),
        tries: 0,
    };
    if let [(all, _)] = &search.families[..] {
        let mut width = width;
        for cell in all.iter().filter_map(|&k| cells.get(k)) {
            if !search.fits(width, cell) {
                return Orders::None;
            }
            width = Some(cell.outputs);
        }
        return Orders::One(all.clone());
    }
    search.go(width);
    match (search.found.len(), search.found.pop()) {
        _ if search.tries > MOST_TRIES => Orders::Several,
        (1, Some(one)) => Orders::One(one),
        (0, _) => Orders::None,
        _ => Orders::Several,
    }
}

struct Search<'a> {
    cells: &'a [Spec],
    between: &'a HashSet<(usize, usize)>,
    /// The cells of each, and how many of them have a place.
    families: Vec<(Vec<usize>, usize)>,
    path: Vec<usize>,
    found: Vec<Vec<usize>>,
    tries: usize,
}

impl Search<'_> {
    fn fits(&self, width: Option<usize>, cell: &Spec) -> bool {
        let shape = |width| (width, cell.inputs);
        width.is_none_or(|width| width == cell.inputs || self.between.contains(&shape(width)))
    }

    fn go(&mut self, width: Option<usize>) {
        if self.path.len() == self.cells.len() {
            self.found.push(self.path.clone());
            return;
        }
        for family in 0..self.families.len() {
            self.tries += 1;
            if self.found.len() > 1 || self.tries > MOST_TRIES {
                return;
            }
            let next = self.families.get(family);
            let next = next.and_then(|(all, done)| all.get(*done).copied());
            let cell = next.and_then(|next| self.cells.get(next));
            let (Some(next), Some(cell)) = (next, cell) else {
                continue;
            };
            if !self.fits(width, cell) {
                continue;
            }
            let outputs = cell.outputs;
            self.step(family, 1);
            self.path.push(next);
            self.go(Some(outputs));
            self.path.pop();
            self.step(family, -1);
        }
    }

    fn step(&mut self, family: usize, by: isize) {
        if let Some((_, done)) = self.families.get_mut(family) {
            *done = done.saturating_add_signed(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_alone() {
        for (a, b, same) in [
            ("dense/kernel", "dense_1/kernel", true),
            ("W1", "W2", true),
            ("m/cell_2/lstm_cell", "m/cell_10/lstm_cell", true),
            ("mu", "logvar", false),
            ("dense", "dense2", false),
        ] {
            assert_eq!(family(a) == family(b), same, "{a} {b}");
        }
    }

    #[test]
    fn by_widths() {
        let of = |cells: &[(&str, usize, usize)], width| {
            let cells = cells.iter().map(|&(name, inputs, outputs)| Spec {
                name: name.to_owned(),
                inputs,
                outputs,
            });
            orders(&cells.collect::<Vec<_>>(), width, &HashSet::from([(7, 8)]))
        };
        let two = [("decoder", 4, 4), ("encoder", 3, 4)];
        assert_eq!(of(&two, None), Orders::One(vec![1, 0]));
        assert_eq!(of(&two, Some(4)), Orders::None);
        let same = [("decoder", 4, 4), ("encoder", 4, 4)];
        assert_eq!(of(&same, None), Orders::Several);
        let numbered = [("cell_0", 4, 4), ("cell_1", 4, 4)];
        assert_eq!(of(&numbered, None), Orders::One(vec![0, 1]));
        assert_eq!(
            of(&[("a", 8, 8), ("b", 5, 7)], None),
            Orders::One(vec![1, 0])
        );
        // Many that fit nowhere come to an end.
        let names: Vec<String> = (0..200).map(|k| "a".repeat(k + 1)).collect();
        let mut many: Vec<_> = names.iter().map(|name| (&name[..], 4, 4)).collect();
        many.push(("z", 9, 9));
        assert_eq!(of(&many, None), Orders::Several);
    }
}
