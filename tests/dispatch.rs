//! Which level is chosen. Nothing here forces one.

use fused_lstm::Level;

#[test]
fn the_best_available_level_is_chosen() {
    let available: Vec<_> = Level::available().map(Level::name).collect();
    println!("levels of this machine: {}", available.join(", "));
    assert_eq!(Some(&Level::current().name()), available.last());
    // Emulated machines say what they are.
    if let Ok(expected) = std::env::var("FUSED_LSTM_EXPECTED_LEVEL") {
        assert_eq!(Level::current().name(), expected);
    }
}
