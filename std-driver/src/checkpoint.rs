//! A run in a file, so that it can go on as if it had never stopped.
//!
//! A checkpoint is a model (see [`weights`](crate::weights)) with more keys:
//! `optimizer.{slot}.{key of the model}`; `state.{layer}` f32 `[2, B, H]`; `step`,
//! `epoch` u64 `[1]`: steps done, and the epoch of the next one; `random` u64 `[4]`:
//! the word positions, low half first, of the random generator and of where it stood
//! before the epoch's data. The settings are in the metadata.

use crate::Error;
use crate::settings::Settings;
use crate::tensors::{self, NamedTensor, TensorFile};
use crate::train::Trainer;
use crate::weights::{from_tensors, to_tensors};
use std::path::Path;

/// Keys of a checkpoint that are not weights, slots or states.
pub(crate) const PROGRESS_KEYS: [&str; 3] = ["step", "epoch", "random"];

/// Writes the run by atomic replacement. Refuses weights that are not finite, and
/// leaves an older file alone then.
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
    let mut rest = &trainer.state[..];
    for (index, layer) in shape.layers().enumerate() {
        let (state, after) = rest.split_at(layer.state_len(settings.batch));
        rest = after;
        let shape = [2, settings.batch, layer.hidden];
        all.push(NamedTensor::f32(format!("state.{index}"), &shape, state));
    }
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
    let text = serde_json::to_string(settings)
        .map_err(|e| Error::file(path, format!("the settings cannot be written: {e}")))?;
    tensors::write(path, &all, Some(text))
}

/// Reads the settings of a checkpoint.
fn settings(file: &TensorFile) -> Result<Settings, Error> {
    let Some(text) = file.metadata()? else {
        return Err(file.problem("expected a checkpoint with its settings, got none".into()));
    };
    serde_json::from_str(&text)
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
    let file = TensorFile::open(path)?;
    let own = settings(&file)?;
    own.check()
        .map_err(|e| file.problem(format!("the checkpoint's settings: {e}")))?;
    let mut trainer = Trainer::new(own)?;
    let settings = trainer.settings.clone();
    let shape = settings.shape();
    trainer.params = from_tensors(shape, "", &file)?;
    trainer.slots.clear();
    for slot in 0..settings.optimizer().slots() {
        trainer
            .slots
            .extend(from_tensors(shape, &format!("optimizer.{slot}."), &file)?);
    }
    trainer.state.clear();
    for (index, layer) in shape.layers().enumerate() {
        let shape = [2, settings.batch, layer.hidden];
        trainer
            .state
            .extend(file.f32_of_shape(&format!("state.{index}"), &shape)?);
    }
    trainer.done = file.u64("step", 1)?[0];
    if trainer.done > trainer.steps() {
        let (most, got) = (trainer.steps(), trainer.done);
        return Err(file.problem(format!("key step: expected at most {most}, got {got}")));
    }
    let position = |half: &[u64]| u128::from(half[0]) | u128::from(half[1]) << 64;
    let random = file.u64("random", 4)?;
    trainer.random.set_word_pos(position(&random[..2]));
    trainer.epoch_start = position(&random[2..]);
    Ok(trainer)
}
