//! The text of a recipe: a preset's TOML with the keys of the user's over it.

use super::{
    Audio, AudioLoss, Classify, ClassifyLoss, Forecast, ForecastLoss, Job, JobName, Network,
    Recipe, Text, TextLoss, Training,
};
use crate::{Error, one_line};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// A recipe of one job, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Form<D, L> {
    job: JobName,
    seed: u64,
    data: D,
    model: Network,
    loss: L,
    training: Training,
}

impl Recipe {
    /// Reads a recipe; what it does not say is the preset's. `changes` are keys with values that go
    /// before those of the file, as `training.epochs`.
    pub fn open(path: &Path, changes: &[(String, Value)]) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        Self::of_text(path, &text, changes)
    }

    /// The same of a text; `path` is what errors name.
    pub fn of_text(path: &Path, text: &str, changes: &[(String, Value)]) -> Result<Self, Error> {
        let table: Table = toml::from_str(text).map_err(|e| syntax(path, text, &e))?;
        let names = "echo, forecast, classify, audio or text";
        let job = match table.get("job") {
            None => Err(format!("key job: expected {names}, got none")),
            Some(job) => job
                .clone()
                .try_into::<JobName>()
                .map_err(|_| format!("key job: expected {names}, got {job}")),
        };
        let job = job.map_err(|problem| Error::file(path, problem))?;
        let mut whole = Self::preset(job).to_table();
        lay_over(&mut whole, table);
        for (key, value) in changes {
            if key == "job" || !set(&mut whole, key, value.clone()) {
                let expected = "a key of a recipe as training.epochs";
                return Err(Error::setting("set", expected, key));
            }
        }
        let recipe = Self::of_table(job, whole).map_err(|problem| Error::file(path, problem))?;
        recipe.check()?;
        Ok(recipe)
    }

    fn of_table(name: JobName, table: Table) -> Result<Self, String> {
        fn form<D: DeserializeOwned, L: DeserializeOwned>(
            mut table: Table,
            job: impl FnOnce(D, L) -> Job,
        ) -> Result<Recipe, String> {
            // One section after the other, so that an error can name it.
            fn section<T: DeserializeOwned>(table: &mut Table, key: &str) -> Result<T, String> {
                let value = table.remove(key).unwrap_or(Value::Boolean(false));
                value
                    .try_into()
                    .map_err(|e: toml::de::Error| format!("{key}: {}", e.message()))
            }
            let data = section(&mut table, "data")?;
            let loss = section(&mut table, "loss")?;
            let recipe = Recipe {
                job: job(data, loss),
                model: section(&mut table, "model")?,
                training: section(&mut table, "training")?,
                seed: section(&mut table, "seed")?,
            };
            table.remove("job");
            match table.keys().next() {
                None => Ok(recipe),
                Some(key) => Err(format!(
                    "key {key}: expected job, seed, data, model, loss or training"
                )),
            }
        }
        match name {
            JobName::Forecast => form(table, |data, loss| Job::Forecast { data, loss }),
            JobName::Classify => form(table, |data, loss| Job::Classify { data, loss }),
            JobName::Audio => form(table, |data, loss| Job::Audio { data, loss }),
            JobName::Text => form(table, |data, loss| Job::Text { data, loss }),
        }
    }

    fn to_table(&self) -> Table {
        toml::from_str(&self.to_toml()).unwrap_or_default()
    }

    /// The recipe with everything that it can say.
    pub fn to_toml(&self) -> String {
        fn text<D: Serialize, L: Serialize>(recipe: &Recipe, data: &D, loss: &L) -> String {
            let form = Form {
                job: recipe.job.name(),
                seed: recipe.seed,
                data,
                model: recipe.model.clone(),
                loss,
                training: recipe.training.clone(),
            };
            toml::to_string(&form).unwrap_or_default()
        }
        match &self.job {
            Job::Forecast { data, loss } => text::<Forecast, ForecastLoss>(self, data, loss),
            Job::Classify { data, loss } => text::<Classify, ClassifyLoss>(self, data, loss),
            Job::Audio { data, loss } => text::<Audio, AudioLoss>(self, data, loss),
            Job::Text { data, loss } => text::<Text, TextLoss>(self, data, loss),
        }
    }
}

/// Puts the values of `over` in the place of those of `table`. What says another `kind` replaces the
/// whole.
fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if !new.contains_key("kind") => {
                lay_over(old, new);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// Sets a key with dots; whether there can be such a one.
fn set(table: &mut Table, key: &str, value: Value) -> bool {
    match key.split_once('.') {
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Table::new().into());
            match inner {
                Value::Table(inner) => set(inner, rest, value),
                _ => false,
            }
        }
        None => {
            lay_over(table, Table::from_iter([(key.to_owned(), value)]));
            true
        }
    }
}

/// A text that is not TOML: the line, and what is wrong in it.
fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
        + 1;
    Error::file(path, format!("line {line}: {}", one_line(error.message())))
}
