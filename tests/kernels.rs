//! The tests of the kernels, in one program: layers whose sizes are types are then compiled once for
//! all of them. Each module says what it holds; a name before `--` selects one of them.

mod bits;
mod chain;
mod goldens;
mod gradients;
mod loss;
mod narrow;
mod optimizer;
mod oracle;
mod refusals;
mod replay;
mod silence;
