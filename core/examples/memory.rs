//! Prints the bytes of everything that the echo system needs, for one row and for
//! the tutorial's five: `cargo run -p fused-lstm --example memory`.

use fused_lstm::{Buffers, Classifier, ClassifierWorkspace, Flat, Lstm, Stack};

type Layers = Stack<Stack<Lstm<1, 4>, Lstm<4, 4>>, Lstm<4, 4>>;
type Echo = Classifier<Layers, 4, 2>;

/// Every buffer is a type, so its bytes are known before anything runs.
const fn bytes<T: Flat>() -> usize {
    size_of::<T>()
}

fn table<const T: usize, const B: usize>() {
    type State<const B: usize> = <Layers as Buffers>::State<B>;
    type Cache<const T: usize, const B: usize> = <Layers as Buffers>::Cache<T, B>;
    type Scratch<const B: usize> = <Layers as Buffers>::Scratch<1, B>;
    type LayersWorkspace<const T: usize, const B: usize> = <Layers as Buffers>::Workspace<T, B>;
    type Workspace<const T: usize, const B: usize> =
        ClassifierWorkspace<LayersWorkspace<T, B>, T, B, 4, 2>;

    let inference = bytes::<Echo>() + bytes::<State<B>>() + bytes::<Scratch<B>>();
    let rows = [
        ("weights", bytes::<Echo>()),
        ("state", bytes::<State<B>>()),
        ("scratch of a step", bytes::<Scratch<B>>()),
        ("inference, all of it", inference),
        ("gradients", bytes::<Echo>()),
        ("optimizer (Adagrad)", bytes::<Echo>()),
        ("cache", bytes::<Cache<T, B>>()),
        ("workspace", bytes::<Workspace<T, B>>()),
        ("probabilities", bytes::<[[[f32; 2]; B]; T]>()),
    ];
    println!("echo: 3 layers of 4 units, 2 classes, T = {T}, B = {B}");
    for (what, bytes) in rows {
        println!("  {what:22} {bytes:6} bytes");
    }
    let training: usize = rows.iter().map(|row| row.1).sum::<usize>() - inference;
    let training = training - bytes::<Scratch<B>>();
    println!("  {:22} {training:6} bytes", "training, all of it");
}

fn main() {
    table::<15, 1>();
    table::<15, 5>();
}
