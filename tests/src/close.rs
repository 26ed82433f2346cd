//! Numbers that may differ a little.

/// Asserts that every pair differs by at most `tolerance`, and gives the largest
/// difference.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) -> f32 {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let mut largest = 0.0f32;
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        let difference = (got - want).abs();
        assert!(
            difference <= tolerance,
            "{what}[{k}]: {got} is {difference:e} from {want}, allowed {tolerance:e}"
        );
        largest = largest.max(difference);
    }
    largest
}
