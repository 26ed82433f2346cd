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
use crate::weights::{from_tensors, is_known, to_tensors};
use std::path::Path;

/// Keys of a checkpoint that are not weights, slots or states.
pub(crate) const PROGRESS_KEYS: [&str; 3] = ["step", "epoch", "random"];

/// Writes the run by atomic replacement. Refuses a run that has failed, or whose
/// weights are not finite, and leaves an older file alone then.
pub fn save(trainer: &Trainer, path: &Path) -> Result<(), Error> {
    if trainer.failed {
        return Err(Error::file(
            path,
            "not written: expected a run that can go on, got a failed one",
        ));
    }
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
    read(&TensorFile::open(path)?)
}

/// The same of a file that was read.
pub fn read(file: &TensorFile) -> Result<Trainer, Error> {
    file.only_keys(is_known, "the keys of a checkpoint")?;
    let settings = settings(file)?;
    let shape = settings.shape();
    // Everything that the file holds comes first: settings that it does not fit must not
    // make room for themselves.
    let params = from_tensors(shape, "", file)?;
    let mut slots = Vec::new();
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

    let mut trainer = Trainer::new(settings)?;
    if done > trainer.steps() {
        let most = trainer.steps();
        return Err(file.problem(format!("key step: expected at most {most}, got {done}")));
    }
    let expected = done / trainer.settings.steps_per_epoch();
    if epoch != expected {
        let problem = format!("key epoch: expected that of the step, {expected}, got {epoch}");
        return Err(file.problem(problem));
    }
    let position = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
    trainer.random.set_word_pos(position(now_low, now_high));
    trainer.epoch_start = position(start_low, start_high);
    (trainer.params, trainer.slots, trainer.state) = (params, slots, state);
    trainer.done = done;
    Ok(trainer)
}
