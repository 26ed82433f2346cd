//! The tensors of a file by their names, and which of them are those of a layer.

use crate::Error;

/// More tensors than any model that is run here.
pub(crate) const MOST_TENSORS: usize = 1 << 16;

/// What a file of so many bytes may hold in memory when its tensors are decompressed.
pub(super) fn most_bytes(file: usize) -> u64 {
    let file = file as u64;
    let decompressed = file.saturating_mul(64).saturating_add(1 << 24);
    file.max(decompressed.min(1 << 30))
}

/// Longer texts are no configuration of a recurrent network.
pub(crate) const MOST_TEXT: usize = 1 << 24;

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    /// The names of the groups it is in and its own, with `/` between them.
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
}

/// What holds tensors.
pub(crate) trait Store {
    /// All of them.
    fn tensors(&self) -> &[Tensor];
    /// The numbers of one, all finite.
    fn values(&self, index: usize) -> Result<Vec<f32>, Error>;
    /// An error about what the file holds.
    fn problem(&self, text: String) -> Error;
}

/// Which way of naming tensors a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// `layer/cell/kernel`: by the layer's name and by what they are.
    Spoken,
    /// `layers/lstm_1/cell/vars/0`: by the layer's class and by number.
    Numbered,
}

/// The tensors of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) names: Names,
    /// Their indices in the store, and their paths below the layer's own group.
    pub(crate) tensors: Vec<(usize, String)>,
}

/// A tensor with its numbers.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// The last part of a path, without the number of TensorFlow's output.
pub(crate) fn last(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(":0").unwrap_or(name)
}

/// Which direction of a Bidirectional layer a path belongs to: `names` are those of its two layers,
/// which Keras calls `forward_…` and `backward_…` unless the second is the caller's own.
pub(crate) fn side(path: &str, names: [&str; 2]) -> Option<Side> {
    let [forward, backward] = names;
    path.split('/').find_map(|part| {
        if forward != backward && part == forward {
            Some(Side::Forward)
        } else if forward != backward && part == backward {
            Some(Side::Backward)
        } else if part.starts_with("forward_") {
            Some(Side::Forward)
        } else if part.starts_with("backward_") {
            Some(Side::Backward)
        } else {
            None
        }
    })
}

/// A direction of a Bidirectional layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Forward,
    Backward,
}

impl Weights {
    /// Those below a group.
    pub(crate) fn below(store: &dyn Store, names: Names, group: &str) -> Self {
        let all = store.tensors().iter().enumerate();
        let tensors = all.filter_map(|(index, tensor)| {
            let rest = tensor.path.strip_prefix(group)?.strip_prefix('/')?;
            Some((index, rest.to_owned()))
        });
        Self {
            names,
            tensors: tensors.collect(),
        }
    }

    /// Those of a layer, by its name at any place below a group: behind the names of models.
    pub(crate) fn within(store: &dyn Store, group: &str, layer: &str) -> Self {
        let inner = format!("/{layer}/");
        let all = store.tensors().iter().enumerate();
        let tensors = all.filter_map(|(index, tensor)| {
            let (_, rest) = tensor.path.strip_prefix(group)?.split_once(&inner)?;
            Some((index, rest.to_owned()))
        });
        Self {
            names: Names::Spoken,
            tensors: tensors.collect(),
        }
    }

    /// Those of one direction.
    pub(crate) fn side(&self, wanted: Side, names: [&str; 2]) -> Self {
        let of_it = |(_, path): &&(usize, String)| side(path, names) == Some(wanted);
        Self {
            names: self.names,
            tensors: self.tensors.iter().filter(of_it).cloned().collect(),
        }
    }

    /// The tensors in the order of `roles`, which is also that in which Keras numbers them.
    pub(crate) fn load(
        &self,
        store: &dyn Store,
        layer: &str,
        roles: &[&str],
    ) -> Result<Vec<Loaded>, Error> {
        let found = roles.iter().enumerate().map(|(number, role)| {
            let index = self.find(number, role).map_err(|got| {
                store.problem(format!("layer {layer}: expected one {role}, got {got}"))
            })?;
            let tensor = store
                .tensors()
                .get(index)
                .ok_or_else(|| store.problem(format!("layer {layer}: no {role}")))?;
            Ok(Loaded {
                path: tensor.path.clone(),
                shape: tensor.shape.clone(),
                values: store.values(index)?,
            })
        });
        let found: Vec<Loaded> = found.collect::<Result<_, Error>>()?;
        // What is left over would be weights that nothing here uses.
        if let Some((_, path)) = self
            .tensors
            .iter()
            .find(|(_, path)| !self.is_role(path, roles))
        {
            let expected = roles.join(", ");
            return Err(store.problem(format!(
                "layer {layer}: expected the weights {expected}, got {path} too"
            )));
        }
        Ok(found)
    }

    fn is_role(&self, path: &str, roles: &[&str]) -> bool {
        match self.names {
            Names::Spoken => roles.contains(&last(path)),
            // The state of a random generator, which dropout has.
            _ if path.contains("seed_generator") => true,
            Names::Numbered => last(path)
                .parse::<usize>()
                .is_ok_and(|number| number < roles.len()),
        }
    }

    /// The index of a tensor, or how many there are.
    fn find(&self, number: usize, role: &str) -> Result<usize, String> {
        let wanted = |path: &str| match self.names {
            Names::Spoken => last(path) == role,
            Names::Numbered => !path.contains("seed_generator") && last(path).parse() == Ok(number),
        };
        let all = self.tensors.iter();
        let found: Vec<&(usize, String)> = all.filter(|(_, path)| wanted(path)).collect();
        match found[..] {
            [(index, _)] => Ok(*index),
            [] => Err("none".to_owned()),
            [(_, a), (_, b), ..] => Err(format!("{a} and {b}")),
        }
    }

    /// The shape of one of them, which Keras numbers so or names so.
    pub(super) fn shape(&self, store: &dyn Store, number: usize, role: &str) -> Option<Vec<usize>> {
        let index = self.find(number, role).ok()?;
        store
            .tensors()
            .get(index)
            .map(|tensor| tensor.shape.clone())
    }

    /// The names and shapes, for a layer that is not run.
    pub(crate) fn describe(&self, store: &dyn Store) -> String {
        let most = 6;
        let mut text = String::new();
        for (index, path) in self.tensors.iter().take(most) {
            if let Some(tensor) = store.tensors().get(*index) {
                let name = last(path);
                let shape = &tensor.shape;
                text.push_str(&match self.names {
                    Names::Spoken => format!(", {name} {shape:?}"),
                    Names::Numbered => format!(", {shape:?}"),
                });
            }
        }
        if self.tensors.len() > most {
            text.push_str(", …");
        }
        text
    }
}

impl Loaded {
    /// Refuses another shape.
    pub(crate) fn expect(
        &self,
        store: &dyn Store,
        layer: &str,
        expected: &[usize],
    ) -> Result<(), Error> {
        if self.shape == expected {
            return Ok(());
        }
        let (path, got) = (&self.path, &self.shape);
        Err(store.problem(format!(
            "layer {layer}: {path}: expected shape {expected:?}, got {got:?}"
        )))
    }

    /// The lengths of a tensor of N dimensions.
    pub(crate) fn dims<const N: usize>(
        &self,
        store: &dyn Store,
        layer: &str,
    ) -> Result<[usize; N], Error> {
        self.shape[..].try_into().map_err(|_| {
            let (path, got) = (&self.path, &self.shape);
            store.problem(format!(
                "layer {layer}: {path}: expected {N} dimensions, got shape {got:?}"
            ))
        })
    }
}

/// A float16 number.
pub(crate) fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (fraction + 1024.0) * 2f32.powi(exponent - 25),
    }
}

/// Refuses NaN and infinities.
pub(crate) fn finite(values: &[f32]) -> Result<(), String> {
    let mut all = values.iter().enumerate();
    match all.find(|(_, v)| !v.is_finite()) {
        Some((at, got)) => Err(format!("expected finite numbers, got {got} at {at}")),
        None => Ok(()),
    }
}
