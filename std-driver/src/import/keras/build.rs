//! Layers of a Keras config, with their weights, as the core's.

use super::config::{self, Entry, Wrong, brief};
use super::graph::Node;
use super::store::{Names, Store, Weights};
use crate::Error;
use crate::import::{Kind, Layer};
use fused_lstm::{Activation, Returns};
use serde_json::Value;

/// Models in models.
const MOST_DEPTH: usize = 8;

/// Where the weights of a model's layers are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a group of the layer's name.
    Group(String),
    /// Anywhere below a group, behind the layer's name.
    Within(String),
    /// In a group of the class's name and a number, below one for all layers; the list has the
    /// groups of the layers whose names the file has too.
    Numbered(String, Vec<(String, String)>),
}

/// Makes layers of entries.
pub(crate) struct Builder<'a> {
    pub(crate) store: &'a dyn Store,
    /// That of hard_sigmoid, if the file says which Keras wrote it.
    pub(crate) slope: Option<f32>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) notes: Vec<String>,
    /// Numbers in a row behind the last layer, where that is known.
    pub(super) width: Option<usize>,
    /// Dimensions behind the last layer, the batch among them.
    pub(super) rank: Option<usize>,
    /// Time steps of the input, where the model says them.
    steps: Option<usize>,
}

/// Why a layer is not run.
pub(super) type Refused = String;

impl<'a> Builder<'a> {
    pub(crate) fn new(store: &'a dyn Store, slope: Option<f32>) -> Self {
        Self {
            store,
            slope,
            layers: Vec::new(),
            notes: Vec::new(),
            width: None,
            rank: None,
            steps: None,
        }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Adds the layers of a model.
    pub(crate) fn model(&mut self, nodes: &[Node], place: &Place) -> Result<(), Error> {
        self.model_at(nodes, place, 0)
    }

    fn model_at(&mut self, nodes: &[Node], place: &Place, depth: usize) -> Result<(), Error> {
        for node in nodes {
            let entry = &node.entry;
            let start = self.layers.len();
            if node.before.is_some() {
                self.width = None;
                self.rank = None;
            }
            if entry.calls > 1 {
                let calls = entry.calls;
                self.other(&entry.name, format!("a layer that is called {calls} times"));
            }
            if entry.many_outputs {
                self.other(&entry.name, "a layer whose state is read too".to_owned());
            }
            let named = |e: Wrong| self.store.problem(format!("layer {}: {e}", entry.name));
            if entry.is_model() {
                if depth == MOST_DEPTH {
                    return Err(named(format!(
                        "expected at most {MOST_DEPTH} models in models"
                    )));
                }
                let inner = config::of_model(self.store, entry, None)?;
                let place = self.place_of(entry, place);
                self.model_at(&inner, &place, depth + 1)?;
            } else {
                let weights = self.weights(entry, place);
                self.entry(entry, &weights)?;
            }
            if let Some(before) = &node.before {
                let first = self.layers.get(start).map(|layer| &layer.kind);
                // What merges layers, and is not run, has said so itself.
                if entry.reads.len() < 2 || !matches!(first, Some(Kind::Other(_))) {
                    let name = entry.name.clone();
                    let kind = Kind::Other(before.clone());
                    self.layers.insert(start, Layer { name, kind });
                }
            }
        }
        Ok(())
    }

    fn weights(&self, entry: &Entry, place: &Place) -> Weights {
        match place {
            Place::Group(group) => {
                Weights::below(self.store, Names::Spoken, &join(group, &entry.name))
            }
            Place::Within(group) => {
                let first = Weights::below(self.store, Names::Spoken, &join(group, &entry.name));
                if first.tensors.is_empty() {
                    Weights::within(self.store, group, &entry.name)
                } else {
                    first
                }
            }
            Place::Numbered(group, named) => {
                let own = named.iter().find(|(name, _)| *name == entry.name);
                let below = own.map_or(&entry.group, |(_, group)| group);
                Weights::below(self.store, Names::Numbered, &join(group, below))
            }
        }
    }

    fn place_of(&self, entry: &Entry, place: &Place) -> Place {
        match place {
            Place::Group(group) => Place::Within(join(group, &entry.name)),
            // Behind the name of the inner model, or else of the layer alone.
            Place::Within(group) => Place::Within(group.clone()),
            Place::Numbered(group, named) => {
                let own = named.iter().find(|(name, _)| *name == entry.name);
                let below = own.map_or(&entry.group, |(_, group)| group);
                Place::Numbered(join(&join(group, below), "layers"), Vec::new())
            }
        }
    }

    pub(super) fn push(&mut self, name: &str, kind: Kind) {
        let name = name.to_owned();
        self.layers.push(Layer { name, kind });
    }

    pub(super) fn other(&mut self, name: &str, what: String) {
        self.push(name, Kind::Other(what));
        self.width = None;
        self.rank = None;
    }

    pub(super) fn problem(&self, entry: &Entry, text: Wrong) -> Error {
        self.store.problem(format!("layer {}: {text}", entry.name))
    }

    /// Adds a layer.
    pub(super) fn entry(&mut self, entry: &Entry, weights: &Weights) -> Result<(), Error> {
        self.input_shape(entry);
        let name = &entry.name;
        let wrong = |e: Wrong| self.store.problem(format!("layer {name}: {e}"));
        if let Some(dtype) = dtype(entry).filter(|dtype| *dtype != "float32") {
            let note = format!("layer {name}: computes in {dtype} in Keras, in float32 here");
            self.note(note);
        }
        match entry.class.as_str() {
            "InputLayer" => self.push(name, Kind::Nothing(entry.class.clone())),
            "Dropout"
            | "SpatialDropout1D"
            | "GaussianNoise"
            | "GaussianDropout"
            | "AlphaDropout"
            | "ActivityRegularization" => {
                self.note(
                    "dropout, noise and regularisation are left out: they act in training only",
                );
                self.push(name, Kind::Nothing(entry.class.clone()));
            }
            "LSTM" | "CuDNNLSTM" => self.lstm(entry, weights)?,
            "Bidirectional" => self.bidirectional(entry, weights)?,
            "Dense" => self.dense(entry, name, weights)?,
            "Embedding" => self.embedding(entry, weights)?,
            "BatchNormalization" => self.normalization(entry, name, weights)?,
            "Activation" => self.activation_layer(entry, name),
            "ReLU" => {
                let settings = [("max_value", f64::INFINITY), ("threshold", 0.0)];
                let mut plain = entry.number("negative_slope", 0.0).map_err(wrong)? == 0.0;
                for (key, default) in settings {
                    plain &= entry.number(key, default).map_err(wrong)? == default;
                }
                match plain {
                    true => self.push(name, Kind::Activation(Activation::Relu)),
                    false => self.other(name, "ReLU with limits or a slope".to_owned()),
                }
            }
            "Softmax" => match entry.number("axis", -1.0) {
                Ok(axis) if self.is_last(axis) => {
                    self.push(name, Kind::Activation(Activation::Softmax));
                }
                _ => self.other(name, "Softmax of another axis than the last".to_owned()),
            },
            "TimeDistributed" => self.time_distributed(entry, weights)?,
            // No layer of its own: it is what the LSTM returns.
            "GlobalAveragePooling1D" if steps_first(entry) && self.mean() => {
                self.note(format!(
                    "layer {name}: the mean over the steps became that of the LSTM before it"
                ));
            }
            "Flatten" if self.rank == Some(2) => {
                self.push(name, Kind::Nothing(entry.class.clone()))
            }
            "Flatten" => match (self.steps, self.width) {
                (Some(steps), Some(width)) if self.rank == Some(3) && steps_first(entry) => {
                    self.push(name, Kind::Flatten { steps });
                    self.width = steps.checked_mul(width);
                    self.rank = Some(2);
                }
                _ => self.unknown(entry, weights),
            },
            _ => self.unknown(entry, weights),
        }
        Ok(())
    }

    /// The shape of the model's input, which the first layer may have.
    fn input_shape(&mut self, entry: &Entry) {
        let keys = ["batch_input_shape", "batch_shape"];
        let shape = keys.iter().find_map(|key| entry.settings.get(*key));
        if let Some(Value::Array(shape)) = shape
            && self.layers.is_empty()
        {
            self.rank = Some(shape.len());
            let last = shape.last().and_then(Value::as_u64);
            // Two dimensions are the indices of an Embedding, or rows without steps.
            if shape.len() > 1 {
                let steps = shape[1]
                    .as_u64()
                    .and_then(|steps| usize::try_from(steps).ok());
                self.steps = steps.filter(|&steps| steps > 0);
            }
            if shape.len() == 3 {
                self.width = last.and_then(|width| usize::try_from(width).ok());
            }
        }
    }

    pub(super) fn is_last(&self, axis: f64) -> bool {
        axis == -1.0 || self.rank.is_some_and(|rank| rank as f64 - 1.0 == axis)
    }

    /// Makes the LSTM layer at the end hand on the mean of its steps, if there is one.
    fn mean(&mut self) -> bool {
        let mut layers = self.layers.iter_mut().rev();
        let last = layers.find(|layer| !matches!(layer.kind, Kind::Nothing(_)));
        match last.map(|layer| &mut layer.kind) {
            Some(Kind::Lstm(lstm)) if lstm.returns == Returns::Sequence => {
                lstm.returns = Returns::Mean;
                self.rank = Some(2);
                true
            }
            _ => false,
        }
    }

    /// Adds a layer of which only a word and the weights are known.
    pub(super) fn unknown_kind(
        &mut self,
        name: &str,
        kind: &str,
        weights: &Weights,
    ) -> Result<(), Error> {
        let shapes = weights.describe(self.store);
        self.other(name, format!("{kind}{shapes}"));
        Ok(())
    }

    fn unknown(&mut self, entry: &Entry, weights: &Weights) {
        let setting = |key: &str| entry.settings.get(key).map(brief);
        // `[3]` and 3 alike.
        let plain = |text: String| text.trim_matches(['[', ']']).to_owned();
        let outputs = setting("filters").or_else(|| setting("units"));
        let inputs = weights.shape(self.store, 0, "kernel");
        let inputs = inputs.and_then(|shape| shape.iter().nth_back(1).copied());
        let mut what = entry.class.clone();
        match (inputs, outputs) {
            (Some(inputs), Some(outputs)) => what = format!("{what} {inputs}->{outputs}"),
            (None, Some(outputs)) => what = format!("{what} of {outputs}"),
            _ => what += &weights.describe(self.store),
        }
        if let Some(size) = setting("kernel_size").map(plain) {
            what = format!("{what}, kernel {size}");
        }
        if let Some(size) = setting("pool_size").map(plain) {
            what = format!("{what}, of {size}");
        }
        if entry.reads.len() > 1 {
            what = format!("{what} of {}", entry.reads.join(" and "));
        }
        self.other(&entry.name, what);
    }

    /// A function by its name in the file.
    pub(super) fn function(&mut self, value: Option<&Value>) -> Result<Activation, Refused> {
        let name = match value {
            None | Some(Value::Null) => return Ok(Activation::Linear),
            Some(Value::String(name)) => name.clone(),
            // A function as an object: its name is its config.
            Some(object) => match object.get("config").and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => return Err(brief(object.get("class_name").unwrap_or(object))),
            },
        };
        Ok(match name.as_str() {
            "linear" => Activation::Linear,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "relu" => Activation::Relu,
            "softmax" => Activation::Softmax,
            "hard_sigmoid" => {
                if self.slope.is_none() {
                    self.note("assumed: hard_sigmoid has the slope 0.2 of Keras 1 and 2, as the file does not say which Keras wrote it");
                }
                let slope = self.slope.unwrap_or(0.2);
                Activation::HardSigmoid { slope }
            }
            _ => return Err(name),
        })
    }

    /// What a layer does to its own outputs, as a layer behind it.
    pub(super) fn own_activation(&mut self, entry: &Entry, name: &str) {
        match self.function(entry.settings.get("activation")) {
            Ok(Activation::Linear) => {}
            Ok(function) => self.push(&format!("{name}.activation"), Kind::Activation(function)),
            // No part of what the layer's name chooses: the layer can be run without it.
            Err(function) => {
                self.other(
                    &format!("{name}:activation"),
                    format!("activation {function}"),
                );
            }
        }
    }

    fn activation_layer(&mut self, entry: &Entry, name: &str) {
        match self.function(entry.settings.get("activation")) {
            Ok(Activation::Linear) => self.push(name, Kind::Nothing("linear".to_owned())),
            Ok(function) => self.push(name, Kind::Activation(function)),
            Err(function) => self.other(name, format!("activation {function}")),
        }
    }

    fn time_distributed(&mut self, entry: &Entry, weights: &Weights) -> Result<(), Error> {
        let inner = entry.inner("layer").map_err(|e| self.problem(entry, e))?;
        match inner {
            Some(inner) if inner.class == "Dense" => self.dense(&inner, &entry.name, weights),
            Some(inner) if inner.class == "Activation" => {
                self.activation_layer(&inner, &entry.name);
                Ok(())
            }
            Some(inner)
                if matches!(
                    inner.class.as_str(),
                    "Dropout" | "SpatialDropout1D" | "GaussianDropout" | "AlphaDropout"
                ) =>
            {
                self.push(&entry.name, Kind::Nothing(inner.class));
                Ok(())
            }
            inner => {
                let class = inner.map_or(String::new(), |inner| inner.class);
                let shapes = weights.describe(self.store);
                self.other(&entry.name, format!("TimeDistributed {class}{shapes}"));
                Ok(())
            }
        }
    }
}

fn join(group: &str, name: &str) -> String {
    match group {
        "" => name.to_owned(),
        _ => format!("{group}/{name}"),
    }
}

/// Whether a layer takes the steps for the dimension behind the batch, as all do that do not say.
fn steps_first(entry: &Entry) -> bool {
    match entry.settings.get("data_format") {
        None | Some(Value::Null) => true,
        Some(format) => format.as_str() == Some("channels_last"),
    }
}

/// The type in which a layer computes.
fn dtype(entry: &Entry) -> Option<&str> {
    match entry.settings.get("dtype")? {
        Value::String(name) => Some(name),
        policy => policy.get("config")?.get("name")?.as_str(),
    }
}
