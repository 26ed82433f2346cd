//! The page's module: functions for JavaScript that train the echo network in static memory.
//!
//! Nothing is imported and nothing allocated. Numbers go in and out by value; the last batch
//! and its predictions are read in the module's memory, from where [`x`], [`labels`] and
//! [`probabilities`] say.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "replay")]
mod replay;
mod room;
mod run;
mod settings;

use fused_lstm::Aligned;
use fused_lstm_replay::recorded::PORTABLE;
use room::Room;
use run::Run;
use settings::{Settings, Status};

/// Numbers in the arena: 8 MiB.
const ARENA: usize = 2 << 20;

/// Every buffer of the run, one after the other.
// Apart from the rest, which does not begin as zeros and so would put it into the file.
static BUFFERS: Room<Aligned<[f32; ARENA]>> = Room::new(Aligned([0.0; ARENA]));

/// The run in progress, if one has begun.
static RUN: Room<Option<Run>> = Room::new(None);

/// With no words for it: what would print them is more than all the rest.
#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// The run in progress with its buffers, for `work`.
fn with_run<R>(work: impl FnOnce(&mut Run, &mut [f32]) -> Option<R>) -> Option<R> {
    RUN.lend(|run| BUFFERS.lend(|buffers| work(run.as_mut()?, &mut buffers[..]))?)?
}

/// Begins anew from random weights, or says by its [`Status`] what is wrong and leaves the run
/// as it was.
// SAFETY: no other function has the name; the same goes for all below.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn begin(
    layers: u32,
    units: u32,
    batch: u32,
    truncation: u32,
    echo: u32,
    optimizer: u32,
    learning_rate: f32,
    seed: u32,
) -> Status {
    let settings = Settings::check(
        [layers, units, batch, truncation, echo],
        optimizer,
        learning_rate,
        seed,
    );
    let settings = match settings {
        Ok(settings) => settings,
        Err(status) => return status,
    };
    let begun = RUN.lend(|run| {
        BUFFERS.lend(|buffers| {
            *run = Some(Run::begin(settings, &mut buffers[..])?);
            Some(())
        })?
    });
    match begun {
        Some(Some(())) => Status::Ready,
        _ => Status::Arena,
    }
}

/// The numbers (`f32`) that settings need of the arena, 0 if a setting is wrong in itself.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn needed(
    layers: u32,
    units: u32,
    batch: u32,
    truncation: u32,
    optimizer: u32,
) -> u32 {
    match Settings::check([layers, units, batch, truncation, 0], optimizer, 1.0, 0) {
        Ok(settings) => settings.lengths().total() as u32,
        Err(_) => 0,
    }
}

/// The numbers (`f32`) that the arena holds.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn capacity() -> u32 {
    ARENA as u32
}

/// One training step on the next bits of every row: gives the loss, NaN if no run has begun.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn step() -> f32 {
    with_run(Run::step).unwrap_or(f32::NAN)
}

/// The hash of all losses so far.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn fingerprint() -> u32 {
    with_run(|run, _| Some(run.hash.0)).unwrap_or(0)
}

/// What [`fingerprint`] was on a desktop after 2,000 steps with the tutorial's settings and
/// seed 7.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn recorded() -> u32 {
    PORTABLE.train_5.0
}

/// How many weights the network has.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn parameters() -> u32 {
    with_run(|run, _| Some(run.lengths().params as u32)).unwrap_or(0)
}

/// Where the last batch's numbers are; null before the first run.
struct Places {
    x: *const f32,
    labels: *const u32,
    probabilities: *const f32,
}

#[inline(never)]
fn places() -> Places {
    let mut places = Places {
        x: core::ptr::null(),
        labels: core::ptr::null(),
        probabilities: core::ptr::null(),
    };
    with_run(|run, buffers| {
        let buffers = run.buffers(buffers)?;
        places = Places {
            x: buffers.x.as_ptr(),
            labels: buffers.labels.as_ptr(),
            probabilities: buffers.probabilities.as_ptr(),
        };
        Some(())
    });
    places
}

/// Where the last batch's input is: `f32` `[T, B]`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn x() -> *const f32 {
    places().x
}

/// Where its labels are: `u32` `[T, B]`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn labels() -> *const u32 {
    places().labels
}

/// Where its predictions are: `f32` `[T, B, 2]`, the probabilities of a 0 and of a 1.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn probabilities() -> *const f32 {
    places().probabilities
}

/// 1 if the module was built with SIMD128, else 0.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn has_simd128() -> u32 {
    u32::from(cfg!(target_feature = "simd128"))
}
