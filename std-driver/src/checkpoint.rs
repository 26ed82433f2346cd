//! A run in a file, so that it can go on as if it had never stopped.
//!
//! A checkpoint is a model (see [`weights`](crate::weights)) with more keys:
//! `optimizer.{slot}.{key of the model}`; `state.{layer}` f32 `[2, B, H]`; `step`,
//! `epoch` u64 `[1]`: steps done, and the epoch of the next one; `random` u64 `[4]`:
//! the word positions, low half first, of the random generator and of where it stood
//! before the epoch's data; and, of given data, `data` u64 `[2]`, a digest of it. The settings
//! are in the metadata.

use crate::Error;
use crate::memory::reserve;
use crate::settings::Settings;
use crate::tensors::{self, NamedTensor, TensorFile};
use crate::train::Trainer;
use crate::weights::{from_tensors, is_known, state_tensors, to_tensors};
use std::path::{Path, PathBuf};

/// Writes the run by atomic replacement. Refuses a run whose weights are not finite, and leaves
/// an older file alone then.
pub fn save(trainer: &Trainer, path: &Path) -> Result<(), Error> {
    let settings = &trainer.settings;
    let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
    if !(finite(&trainer.params) && finite(&trainer.slots) && finite(&trainer.state)) {
        let problem = "not written: expected finite weights, slots and states, got NaN or infinity";
        return Err(Error::file(path, problem));
    }
    let shape = settings.shape();
    let mut all = to_tensors(shape, "", &trainer.params);
    for (slot, values) in trainer.slots.chunks(trainer.params.len()).enumerate() {
        all.extend(to_tensors(shape, &format!("optimizer.{slot}."), values));
    }
    all.extend(state_tensors(shape, settings.batch, &trainer.state));
    let halves = |position: u128| [position as u64, (position >> 64) as u64];
    let random = [
        halves(trainer.random.get_word_pos()),
        halves(trainer.epoch_start),
    ]
    .concat();
    all.push(NamedTensor::u64("step", &[trainer.done]));
    all.push(NamedTensor::u64(
        "epoch",
        &[trainer.done / settings.steps_per_epoch()],
    ));
    all.push(NamedTensor::u64("random", &random));
    if let Some(given) = &trainer.given {
        all.push(NamedTensor::u64("data", &given.digest(settings.epochs)));
    }
    let text = serde_json::to_string(settings)
        .map_err(|e| Error::file(path, format!("the settings cannot be written: {e}")))?;
    tensors::write(path, &all, Some(text))
}

/// Reads the settings of a checkpoint.
fn settings(file: &TensorFile) -> Result<Settings, Error> {
    let Some(text) = file.metadata() else {
        return Err(file.problem("expected a checkpoint with its settings, got none".into()));
    };
    serde_json::from_str(text)
        .map_err(|e| file.problem(format!("the checkpoint's settings cannot be read: {e}")))
}

/// A run that goes on where [`save`] left it.
///
/// ```
/// use fused_lstm_driver::checkpoint;
/// use fused_lstm_driver::settings::{Preset, Settings};
/// use fused_lstm_driver::train::Trainer;
///
/// let mut trainer = Trainer::new(Settings::preset(Preset::Echo))?;
/// trainer.step()?;
/// let path = std::env::temp_dir().join(format!("run-{}.safetensors", std::process::id()));
/// checkpoint::save(&trainer, &path)?;
/// let mut again = checkpoint::resume(&path)?;
/// assert_eq!(again.step()?, trainer.step()?);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
pub fn resume(path: &Path) -> Result<Trainer, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let settings = checkpoint.settings().clone();
    checkpoint.resume(settings)
}

/// A checkpoint that was read.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    settings: Settings,
    params: Vec<f32>,
    slots: Vec<f32>,
    state: Vec<f32>,
    done: u64,
    random: u128,
    epoch_start: u128,
    /// Of the data of all its epochs; older checkpoints have none.
    data: Option<[u64; 2]>,
}

impl Checkpoint {
    /// Reads a file that [`save`] wrote.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(&TensorFile::open(path)?)
    }

    /// The same of a file that was read.
    pub fn read(file: &TensorFile) -> Result<Self, Error> {
        file.only_keys(is_known, "the keys of a checkpoint")?;
        let settings = settings(file)?;
        let shape = settings.shape();
        // Everything that the file holds comes first: settings that it does not fit must not
        // make room for themselves.
        let params = from_tensors(shape, "", file)?;
        let mut slots = reserve(settings.optimizer().slots_len(params.len()))?;
        for slot in 0..settings.optimizer().slots() {
            slots.extend(from_tensors(shape, &format!("optimizer.{slot}."), file)?);
        }
        let mut state = Vec::new();
        for (index, layer) in shape.layers().enumerate() {
            let shape = [2, settings.batch, layer.hidden];
            state.extend(file.f32_of_shape(&format!("state.{index}"), &shape)?);
        }
        settings
            .check()
            .map_err(|e| file.problem(format!("the checkpoint's settings: {e}")))?;
        let ([done], [epoch]) = (file.u64("step")?, file.u64("epoch")?);
        let [now_low, now_high, start_low, start_high] = file.u64("random")?;
        if done > settings.steps() {
            let most = settings.steps();
            return Err(file.problem(format!("key step: expected at most {most}, got {done}")));
        }
        let expected = done / settings.steps_per_epoch();
        if epoch != expected {
            let problem = format!("key epoch: expected that of the step, {expected}, got {epoch}");
            return Err(file.problem(problem));
        }
        let position = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
        Ok(Self {
            path: file.path().to_owned(),
            params,
            slots,
            state,
            done,
            random: position(now_low, now_high),
            epoch_start: position(start_low, start_high),
            data: if file.has("data") {
                Some(file.u64("data")?)
            } else {
                None
            },
            settings,
        })
    }

    /// The settings that the run had.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The run, to go on with these settings: its own, or what
    /// [`Settings::changes_from`] lets change. From there on its bits are those of a run that
    /// had them. Refuses data that is not what the run had.
    pub fn resume(self, settings: Settings) -> Result<Trainer, Error> {
        settings.changes_from(&self.settings)?;
        let moved = |error| match error {
            Error::Io { path, source, .. } => {
                let problem = format!(
                    "cannot read the checkpoint's data: {source}; --data FILE says where it is now"
                );
                Error::file(&path, problem)
            }
            other => other,
        };
        let mut trainer = Trainer::new(settings).map_err(moved)?;
        if let (Some(expected), Some(given), Some(path)) =
            (self.data, &trainer.given, &trainer.settings.data)
            && given.digest(self.settings.epochs) != expected
        {
            let checkpoint = self.path.display();
            let problem = format!("expected the data that {checkpoint} was trained on, got other");
            return Err(Error::file(path, problem));
        }
        trainer.random.set_word_pos(self.random);
        trainer.epoch_start = self.epoch_start;
        (trainer.params, trainer.slots, trainer.state) = (self.params, self.slots, self.state);
        trainer.done = self.done;
        Ok(trainer)
    }
}
