//! A character-level language model: learns a short text, then generates some.
//!
//! `cargo run --release --example characters`
//!
//! The input of a step is one character, its label the next one. All sizes are types: no buffer can
//! have a wrong length, and `size_of` is the memory that it takes.

use fused_lstm::optimizer::{Adam, clip_by_global_norm};
use fused_lstm::{Classifier, Flat, Lstm, LstmState};

const TEXT: &str = "\
The tide comes in and covers the stones, and the tide goes out and leaves them bare. \
A heron stands at the edge of the water and waits for the fish that the tide has left. \
When the fish does not come the heron waits, and when the fish does come the heron is quick. \
At the end of the day the heron goes home, and the tide comes in and covers the stones. \
The wind is from the west in the morning and from the sea in the evening. \
The boats go out with the wind in the morning and come home with the wind in the evening. ";

/// The characters of the text. Each is one input and one class of the output.
const ALPHABET: &str = " ,.ATWabcdefghiklmnoqrstuvwy";
const C: usize = ALPHABET.len();
const H: usize = 48; // hidden units
const T: usize = 24; // time steps of a training step
const B: usize = 8; // batch rows

type Net = Classifier<Lstm<C, H>, H, C>;

fn class(character: char) -> u32 {
    ALPHABET
        .find(character)
        .expect("a character of the alphabet") as u32
}

/// The input of one character: 1 at its class, 0 elsewhere.
fn one_hot(class: u32) -> [f32; C] {
    let mut x = [0.0; C];
    x[class as usize] = 1.0;
    x
}

/// Repeatable numbers from 0 up to, not including, 1.
fn random(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
    (*seed >> 8) as f32 / (1 << 24) as f32
}

/// Generates a text: each character is drawn from the probabilities that the network gives after the
/// one before. A temperature below 1 favours the more probable ones.
fn sample(net: &Net, start: char, length: usize, temperature: f32, seed: &mut u32) -> String {
    let mut state = LstmState::<1, H>::ZERO;
    let (mut y, mut probabilities) = (Flat::zero(), Flat::zero());
    let mut text = String::from(start);
    let mut last = class(start);
    for _ in 0..length {
        let x = [[one_hot(last)]]; // [T, B, I] = [1, 1, C]
        net.infer::<1, 1>(&x, &mut state, &mut y, &mut probabilities, &mut []);
        let weights = probabilities[0][0].map(|p: f32| p.powf(1.0 / temperature));
        let mut left = random(seed) * weights.iter().sum::<f32>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        last = drawn.unwrap_or(0) as u32;
        text.extend(ALPHABET.chars().nth(last as usize));
    }
    text
}

fn main() -> Result<(), fused_lstm::ArgumentError> {
    let text: Vec<u32> = TEXT.chars().map(class).collect();
    let mut seed = 1;
    let mut net = Net::glorot_uniform(|| random(&mut seed));
    let mut slots = [Net::ZERO; 2]; // Adam's two moments
    let adam = Adam::pytorch(0.01);

    // Each row of the batch reads the text from another position, over and over; the state is carried
    // over from one call to the next.
    let mut state = LstmState::<B, H>::ZERO;
    let (mut cache, mut workspace) = (Flat::zero(), Flat::zero());
    let mut probabilities = [[[0.0; C]; B]; T];
    let mut bits = 0.0;
    for step in 0..300 {
        let at = |t: usize, b: usize| text[(step * T + t + b * text.len() / B) % text.len()];
        let x: [[_; B]; T] = std::array::from_fn(|t| std::array::from_fn(|b| one_hot(at(t, b))));
        let labels = std::array::from_fn(|t| std::array::from_fn(|b| at(t + 1, b)));

        let mut gradients = Net::ZERO; // the call adds to them
        let loss = net.loss_gradient(
            &x,
            &labels,
            &mut state,
            &mut gradients,
            &mut probabilities,
            &mut cache,
            &mut workspace,
        )?;
        clip_by_global_norm(gradients.as_flat_mut(), 1.0)?;
        let slots = slots.as_flat_mut();
        adam.update(
            step as u32 + 1,
            net.as_flat_mut(),
            gradients.as_flat(),
            slots,
        )?;

        bits = loss / std::f32::consts::LN_2;
        if step % 50 == 0 {
            println!("step {step:3}: {bits:.2} bits per character");
        }
    }
    println!("at the end: {bits:.2} bits per character");

    let written = sample(&net, 'T', 120, 0.4, &mut seed);
    println!("{written}");
    let known = written
        .split_whitespace()
        .filter(|word| TEXT.contains(word));
    let (known, words) = (known.count(), written.split_whitespace().count());
    println!("{known} of {words} words are of the text");

    // Guessing costs log2(28) = 4.8 bits.
    assert!(bits < 0.5 && known * 10 >= words * 8);
    Ok(())
}
