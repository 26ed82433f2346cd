//! The JSON of a Keras model: its layers with their settings, in the order in which they run.

use super::graph::{self, Node};
use super::store::Store;
use crate::Error;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// More layers than any model that is run here.
pub(super) const MOST_LAYERS: usize = 1 << 12;

/// A layer as the JSON has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) class: String,
    pub(crate) name: String,
    /// The name of its group where groups are named by class: `lstm`, `lstm_1`.
    pub(crate) group: String,
    pub(crate) settings: Map<String, Value>,
    /// The layers that it reads; none is known in a Sequential, where it is the one before.
    pub(crate) reads: Vec<String>,
    /// How often it is called.
    pub(crate) calls: usize,
    /// Whether something reads another of its outputs than the first.
    pub(crate) many_outputs: bool,
}

/// What is wrong with a setting.
pub(crate) type Wrong = String;

impl Entry {
    /// One that is alone.
    pub(crate) fn new(class: &str, name: &str, settings: Map<String, Value>) -> Self {
        Self {
            class: class.to_owned(),
            name: name.to_owned(),
            group: String::new(),
            settings,
            reads: Vec::new(),
            calls: 1,
            many_outputs: false,
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Wrong> {
        match self.settings.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(got) => Err(format!("{key}: expected true or false, got {}", brief(got))),
        }
    }

    pub(crate) fn count(&self, key: &str) -> Result<usize, Wrong> {
        let got = self.settings.get(key);
        let count = got.and_then(Value::as_f64).filter(|n| n.fract() == 0.0);
        // A count beyond this would be no exact number in JSON either.
        match count.filter(|n| (1.0..9e15).contains(n)) {
            Some(count) => Ok(count as usize),
            None => Err(format!(
                "{key}: expected a number of at least 1, got {}",
                brief(got.unwrap_or(&Value::Null))
            )),
        }
    }

    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64, Wrong> {
        match self.settings.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(got) => got
                .as_f64()
                .ok_or_else(|| format!("{key}: expected a number, got {}", brief(got))),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key).and_then(Value::as_str)
    }

    /// The layer in a wrapper, such as the LSTM of a Bidirectional.
    pub(crate) fn inner(&self, key: &str) -> Result<Option<Self>, Wrong> {
        match self.settings.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(inner) => entry(inner).map(Some).map_err(|e| format!("{key}: {e}")),
        }
    }

    /// Whether the layer is a model, whose layers run in its place.
    pub(crate) fn is_model(&self) -> bool {
        matches!(self.class.as_str(), "Sequential" | "Functional" | "Model")
    }
}

/// A value in an error: its beginning.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text,
    }
}

fn entry(value: &Value) -> Result<Entry, Wrong> {
    let class = value.get("class_name").and_then(Value::as_str);
    let class = class.ok_or("expected a class_name, got none")?;
    let class = &class_of(value, class);
    let settings = match value.get("config") {
        Some(Value::Object(settings)) => settings.clone(),
        // A Sequential of before Keras 2.2.3.
        Some(list @ Value::Array(_)) => Map::from_iter([("layers".to_owned(), list.clone())]),
        _ => return Err(format!("{class}: expected a config, got none")),
    };
    let name = value.get("name").or_else(|| settings.get("name"));
    let name = name.and_then(Value::as_str).unwrap_or(class).to_owned();
    Ok(Entry::new(class, &name, settings))
}

/// The class, with its package in front where it is not one of Keras's own: those are written
/// `Package>Class`, or have a module of their own.
fn class_of(value: &Value, class: &str) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let registered = text("registered_name").filter(|name| name.contains('>'));
    let full = registered.unwrap_or(class);
    if let Some((package, name)) = full.rsplit_once('>') {
        return match is_keras(package) {
            true => name.to_owned(),
            false => full.to_owned(),
        };
    }
    match text("module") {
        Some(module) if !is_keras(module) => format!("{module}.{class}"),
        _ => class.to_owned(),
    }
}

/// Whether a package or a module is Keras's, under one of its names.
fn is_keras(package: &str) -> bool {
    let top = package.split('.').next().unwrap_or(package);
    let top = top.to_ascii_lowercase();
    matches!(&top[..], "keras" | "tf_keras" | "keras_core" | "tensorflow")
}

/// The layers of a model in the order in which they run, up to `part` if there is one.
pub(crate) fn layers(
    store: &dyn Store,
    model: &Value,
    part: Option<&str>,
) -> Result<Vec<Node>, Error> {
    let model = entry(model).map_err(|e| store.problem(format!("the model's config: {e}")))?;
    of_model(store, &model, part)
}

/// The same of a model that is an entry.
pub(crate) fn of_model(
    store: &dyn Store,
    model: &Entry,
    part: Option<&str>,
) -> Result<Vec<Node>, Error> {
    let problem = |text: String| store.problem(format!("model {}: {text}", model.name));
    let Some(Value::Array(list)) = model.settings.get("layers") else {
        let class = &model.class;
        return Err(problem(format!(
            "expected layers in the config of a Sequential or Functional model, got none in that of {class}"
        )));
    };
    if list.len() > MOST_LAYERS {
        let got = list.len();
        return Err(problem(format!(
            "expected at most {MOST_LAYERS} layers, got {got}"
        )));
    }
    let mut entries = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut groups: HashMap<String, usize> = HashMap::new();
    for (index, value) in list.iter().enumerate() {
        let mut layer = entry(value).map_err(|e| problem(format!("layer {index}: {e}")))?;
        if names.insert(layer.name.clone(), index).is_some() {
            let name = &layer.name;
            return Err(problem(format!(
                "expected each name once, got {name} again"
            )));
        }
        // Groups are named by the class without its package.
        let class = layer.class.rsplit(['>', '.']).next();
        let group = snake_case(class.unwrap_or(&layer.class));
        let count = groups.entry(group.clone()).or_default();
        layer.group = match *count {
            0 => group,
            count => format!("{group}_{count}"),
        };
        *count += 1;
        entries.push((layer, value));
    }
    if model.class == "Sequential" {
        let entries = entries.into_iter().map(|(entry, _)| entry).collect();
        Ok(graph::chain(entries))
    } else {
        graph::graph(entries, &names, model, part).map_err(problem)
    }
}

/// `MaxPooling1D` as `max_pooling1d`, as Keras names groups.
fn snake_case(class: &str) -> String {
    let chars: Vec<char> = class.chars().filter(|c| c.is_alphanumeric()).collect();
    let mut name = String::new();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let after = chars.get(at + 1);
        let starts = |c: Option<&char>| c.is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && before.is_some() && (starts(before) || starts(after)) {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{class_of, snake_case};
    use serde_json::json;

    #[test]
    fn classes_of_others_keep_their_package() {
        for (value, expected) in [
            (json!({"class_name": "Dense"}), "Dense"),
            (json!({"class_name": "My>Dense"}), "My>Dense"),
            (json!({"class_name": "Keras>Dense"}), "Dense"),
            (
                json!({"class_name": "Dense", "module": "keras.layers", "registered_name": null}),
                "Dense",
            ),
            (
                json!({"class_name": "LSTM", "module": "__main__", "registered_name": "My>LSTM"}),
                "My>LSTM",
            ),
            (
                json!({"class_name": "LSTM", "module": "own.layers", "registered_name": "LSTM"}),
                "own.layers.LSTM",
            ),
            (
                json!({
                    "class_name": "Functional",
                    "module": "tf_keras.src.engine.functional",
                    "registered_name": "Functional",
                }),
                "Functional",
            ),
        ] {
            let class = value["class_name"].as_str().unwrap();
            assert_eq!(class_of(&value, class), expected);
        }
    }

    #[test]
    fn groups_are_named_as_keras_names_them() {
        for (class, expected) in [
            ("LSTM", "lstm"),
            ("Conv1D", "conv1d"),
            ("MaxPooling1D", "max_pooling1d"),
            ("InputLayer", "input_layer"),
            ("BatchNormalization", "batch_normalization"),
            ("ReLU", "re_lu"),
            ("TimeDistributed", "time_distributed"),
        ] {
            assert_eq!(snake_case(class), expected);
        }
    }
}
