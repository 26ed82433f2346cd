//! Which level is chosen. Nothing here forces one.

use fused_lstm::Level;

#[test]
fn the_best_available_level_is_chosen() {
    assert_eq!(Some(Level::current()), Level::available().last());
    // Emulated machines say what they are.
    if let Ok(expected) = std::env::var("FUSED_LSTM_EXPECTED_LEVEL") {
        assert_eq!(Level::current().name(), expected);
    }
}
