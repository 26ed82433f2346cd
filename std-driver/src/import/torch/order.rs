//! The order in which layers run, as far as their widths tell it.

/// What a layer takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Widths {
    pub(super) name: String,
    /// In numbers, if it can take those.
    pub(super) dense: Option<[usize; 2]>,
    /// What it gives for an index, if it can be a table: only the first layer is one.
    pub(super) table: Option<usize>,
}

/// Whether each layer's outputs are as many as the next one's inputs; and if so, whether the first
/// one can be a table.
pub(super) fn follows<'a>(units: impl IntoIterator<Item = &'a Widths>) -> Option<bool> {
    let mut units = units.into_iter();
    let Some(first) = units.next() else {
        return Some(false);
    };
    let rest: Option<Vec<[usize; 2]>> = units.map(|unit| unit.dense).collect();
    let rest = rest?;
    if !rest.windows(2).all(|pair| pair[0][1] == pair[1][0]) {
        return None;
    }
    let fits = |outputs: usize| rest.first().is_none_or(|next| next[0] == outputs);
    // A matrix alone says nothing about what it is.
    if first.table.is_some_and(fits) && (first.dense.is_none() || !rest.is_empty()) {
        return Some(true);
    }
    first
        .dense
        .is_some_and(|[_, outputs]| fits(outputs))
        .then_some(false)
}

/// How many orders fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    None,
    One(Vec<usize>),
    /// Two of them, or too many layers to try all.
    Several,
}

/// More layers than this are not put in order.
const MOST_LAYERS: usize = 24;
/// More attempts than this are not made.
const MOST_STEPS: usize = 100_000;

/// The orders in which all layers follow on each other, with layers whose names differ in a number
/// alone in the order of the numbers.
pub(super) fn orders(units: &[Widths]) -> Orders {
    if units.len() > MOST_LAYERS {
        return Orders::Several;
    }
    let keys: Vec<_> = units.iter().map(|unit| numbered(&unit.name)).collect();
    let mut search = Search {
        units,
        keys,
        order: Vec::new(),
        found: Vec::new(),
        steps: 0,
    };
    search.extend();
    let several = search.steps > MOST_STEPS || search.found.len() > 1;
    match search.found.pop() {
        _ if several => Orders::Several,
        Some(order) => Orders::One(order),
        None => Orders::None,
    }
}

/// A name without its numbers, and these; a name that does not end in one ends in 0.
fn numbered(name: &str) -> (String, Vec<u64>) {
    let (mut stem, mut numbers) = (String::new(), Vec::new());
    let mut digits = String::new();
    for c in name.chars().chain(['.']) {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            if !digits.is_empty() {
                numbers.push(digits.parse().unwrap_or(u64::MAX));
                digits.clear();
                stem.push('#');
            }
            stem.push(c);
        }
    }
    if !stem.ends_with("#.") {
        stem.insert(stem.len() - 1, '#');
        numbers.push(0);
    }
    (stem, numbers)
}

struct Search<'a> {
    units: &'a [Widths],
    keys: Vec<(String, Vec<u64>)>,
    order: Vec<usize>,
    found: Vec<Vec<usize>>,
    steps: usize,
}

impl Search<'_> {
    fn extend(&mut self) {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.found.len() > 1 {
            return;
        }
        if self.order.len() == self.units.len() {
            self.found.push(self.order.clone());
            return;
        }
        for next in 0..self.units.len() {
            if self.order.contains(&next) || !self.is_due(next) {
                continue;
            }
            self.order.push(next);
            if follows(self.order.iter().map(|&k| &self.units[k])).is_some() {
                self.extend();
            }
            self.order.pop();
        }
    }

    /// Whether all with the same name and a smaller number are there already.
    fn is_due(&self, unit: usize) -> bool {
        let (stem, numbers) = &self.keys[unit];
        let mut keys = self.keys.iter().enumerate();
        !keys.any(|(k, (other, before))| {
            other == stem && before < numbers && !self.order.contains(&k)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(name: &str, inputs: usize, outputs: usize) -> Widths {
        Widths {
            name: name.into(),
            dense: Some([inputs, outputs]),
            table: None,
        }
    }

    fn matrix(name: &str, rows: usize, columns: usize) -> Widths {
        Widths {
            name: name.into(),
            dense: Some([columns, rows]),
            table: Some(columns),
        }
    }

    #[test]
    fn by_widths() {
        let units = [dense("head", 8, 2), dense("lstm", 3, 8)];
        assert_eq!(follows(&units), None);
        assert_eq!(orders(&units), Orders::One(vec![1, 0]));
        let units = [dense("fc", 8, 8), dense("head", 8, 2), dense("lstm", 3, 8)];
        assert_eq!(orders(&units), Orders::One(vec![2, 0, 1]));
        let units = [dense("a", 8, 8), dense("b", 8, 8)];
        assert_eq!(orders(&units), Orders::Several);
        let units = [
            dense("lstm10", 8, 8),
            dense("lstm2", 8, 8),
            dense("lstm", 8, 8),
        ];
        assert_eq!(orders(&units), Orders::One(vec![2, 1, 0]));
        let units = [dense("a", 8, 7), dense("b", 8, 7)];
        assert_eq!(orders(&units), Orders::None);
        let many: Vec<_> = (0..100).map(|_| dense("a", 1, 1)).collect();
        assert_eq!(orders(&many), Orders::Several);
    }

    #[test]
    fn tables_come_first() {
        let units = [
            matrix("words", 80, 16),
            dense("lstm", 16, 8),
            dense("head", 8, 80),
        ];
        assert_eq!(follows(&units), Some(true));
        assert_eq!(orders(&units), Orders::One(vec![0, 1, 2]));
        let units = [dense("lstm", 3, 16), matrix("head", 2, 16)];
        assert_eq!(follows(&units), Some(false));
        let units = [matrix("in", 16, 3), dense("lstm", 16, 8)];
        assert_eq!(follows(&units), Some(false));
        // Both a table before the layer and a head behind it.
        let units = [matrix("out", 80, 16), dense("lstm", 16, 16)];
        assert_eq!(orders(&units), Orders::Several);
        assert_eq!(follows(&[matrix("alone", 2, 3)]), Some(false));
    }

    #[test]
    fn names_with_numbers() {
        assert_eq!(numbered("lstm"), ("lstm#.".into(), vec![0]));
        assert_eq!(numbered("lstm12"), ("lstm#.".into(), vec![12]));
        assert_eq!(numbered("a.3.b"), ("a.#.b#.".into(), vec![3, 0]));
    }
}
