//! A model that was trained by a recipe, in a file, with all that its training needs to go on.
//!
//! The file is a model of the best weights so far, for numbers as people have them. Beside these it has
//! keys `training.…` f32 `[N]`: `params`, `slots`, `state`, `gradients`, `best`, and of a run that began
//! with given weights `given`, all for standardised numbers; and in the metadata the recipe, what the data
//! says that belongs to the model, and where the run stands.

use super::{Known, Task};
use crate::chain::{ChainModel, Network};
use crate::dataset::{Aim, Frames};
use crate::header::{METADATA, TRAINING};
use crate::recipe::Recipe;
use crate::tensors::{NamedTensor, TensorFile, write_texts};
use crate::trainer::Progress;
use crate::weights::TRAINING_KEYS;
use crate::{Error, import};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::path::Path;

/// What the metadata says.
#[derive(Serialize, Deserialize)]
struct Text {
    /// As TOML.
    recipe: String,
    known: Known,
    /// Whether the run began with a network that was given.
    given: bool,
    /// Of the data.
    digest: [u64; 2],
    progress: Progress,
}

/// A model of a recipe.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The model.
    pub model: ChainModel,
    /// The recipe.
    pub recipe: Recipe,
    /// What belongs to the model besides.
    pub known: Known,
    /// Whether its training began with a network that was given.
    pub given: bool,
    /// Where the training stands.
    pub progress: Progress,
    pub(super) digest: [u64; 2],
}

/// A digest of the data that is trained on, to know it again by.
pub(super) fn digest(frames: &Frames) -> [u64; 2] {
    let mut hasher = SipHasher13::new();
    let numbers = |hasher: &mut SipHasher13, values: &[f32]| {
        values.iter().for_each(|v| hasher.write(&v.to_le_bytes()));
    };
    numbers(&mut hasher, &frames.x);
    match &frames.aim {
        Aim::Classes(classes) => classes.iter().for_each(|c| hasher.write(&c.to_le_bytes())),
        Aim::Numbers(_, values) => numbers(&mut hasher, values),
    }
    hasher.finish128().as_u64().into()
}

/// Writes a run by atomic replacement. Refuses weights that are not finite, and leaves an older file alone
/// then.
pub(super) fn save(
    path: &Path,
    task: &Task,
    recipe: &Recipe,
    given: bool,
    progress: &Progress,
) -> Result<(), Error> {
    let buffers = [
        ("params", &progress.params),
        ("slots", &progress.slots),
        ("state", &progress.state),
        ("gradients", &progress.gradients),
    ];
    let best = progress.best.as_ref().map(|best| &best.params);
    let model = task.model(best.unwrap_or(&progress.params));
    let all = buffers.iter().map(|(_, values)| &values[..]);
    let mut all = all.chain([&model.params[..]]).flatten();
    if !all.all(|value| value.is_finite()) {
        let problem = "not written: expected finite weights, slots and states, got NaN or infinity";
        return Err(Error::file(path, problem));
    }
    let (mut tensors, text) = model.contents(path)?;
    let more = [("best", best), ("given", progress.given.as_ref())];
    let more = more
        .into_iter()
        .filter_map(|(name, values)| Some((name, values?)));
    for (name, values) in buffers.into_iter().chain(more) {
        let key = format!("{TRAINING_KEYS}{name}");
        tensors.push(NamedTensor::f32(key, &[values.len()], &values[..]));
    }
    let training = Text {
        recipe: recipe.to_toml(),
        known: task.known.clone(),
        given,
        digest: digest(&task.training.frames),
        progress: progress.clone(),
    };
    let training = serde_json::to_string(&training)
        .map_err(|e| Error::file(path, format!("cannot be written: {e}")))?;
    let texts = text.map(|text| (METADATA, text));
    write_texts(
        path,
        &tensors,
        texts.into_iter().chain([(TRAINING, training)]),
    )
}

impl Saved {
    /// Whether a file holds such a model.
    pub fn is(file: &TensorFile) -> bool {
        file.metadata_of(TRAINING).is_some()
    }

    /// Reads a file that a run was saved to.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&TensorFile::open(path).map_err(|e| import::advise(path, e))?)
    }

    /// The same of a file that was read.
    pub fn read(file: &TensorFile) -> Result<Self, Error> {
        let Some(text) = file.metadata_of(TRAINING) else {
            let problem = "expected a model that train made by a recipe, got another";
            return Err(file.problem(problem.into()));
        };
        let refuse = |e: &dyn std::fmt::Display| {
            file.problem(format!("the recipe in the metadata cannot be read: {e}"))
        };
        let text: Text = serde_json::from_str(text).map_err(|e| refuse(&e))?;
        let recipe = Recipe::of_text(file.path(), &text.recipe, &[])?;
        let model = Network::read(file)?.into_chain();
        // That of the model has a stage more where it standardises apart.
        let key = format!("{TRAINING_KEYS}params");
        let len = file.f32_shape(&key)?.iter().product();
        let read = |name: &str| -> Result<Option<Vec<f32>>, Error> {
            let key = format!("{TRAINING_KEYS}{name}");
            match file.has(&key) {
                true => Ok(Some(file.f32(&key)?.1)),
                false => Ok(None),
            }
        };
        let slots = recipe
            .training
            .optimizer(recipe.training.learning_rate)
            .slots_len(len);
        let expect = |name: &str, values: Vec<f32>, expected: usize| match values.len() {
            got if got == expected => Ok(values),
            got => Err(file.problem(format!(
                "key {TRAINING_KEYS}{name}: expected {expected} numbers, got {got}"
            ))),
        };
        let mut progress = text.progress;
        progress.check().map_err(|what| refuse(&what))?;
        let needed = |name: &str, expected: usize| {
            let values = read(name)?.unwrap_or_default();
            expect(name, values, expected)
        };
        progress.params = needed("params", len)?;
        progress.slots = needed("slots", slots)?;
        progress.gradients = needed("gradients", len)?;
        progress.state = read("state")?.unwrap_or_default();
        if let Some(best) = &mut progress.best {
            best.params = needed("best", len)?;
        }
        if text.given {
            progress.given = Some(needed("given", len)?);
        }
        text.known
            .check(&recipe, &model)
            .map_err(|what| refuse(&what))?;
        Ok(Self {
            model,
            recipe,
            known: text.known,
            given: text.given,
            progress,
            digest: text.digest,
        })
    }
}
