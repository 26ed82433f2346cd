//! The tutorials as recipes: the settings of the echo job, in TOML.

use crate::Error;
use crate::settings::{Preset, Settings};
use std::path::Path;
use toml::{Table, Value};

/// The settings' keys with `-` for `_`, or the other way round.
fn renamed(table: Table, from: &str, to: &str) -> Table {
    let each = table.into_iter();
    each.map(|(key, value)| (key.replace(from, to), value))
        .collect()
}

/// The settings as a recipe.
///
/// ```
/// use fused_lstm_driver::recipe::{echo_settings, echo_to_toml};
/// use fused_lstm_driver::settings::{Preset, Settings};
///
/// let settings = Settings::preset(Preset::EchoSingle);
/// let text = echo_to_toml(&settings);
/// assert!(text.starts_with("job = \"echo\"\npreset = \"echo-single\"\n"));
/// assert_eq!(echo_settings("recipe.toml".as_ref(), &text)?, Some(settings));
/// assert_eq!(echo_settings("recipe.toml".as_ref(), "job = \"text\"")?, None);
/// # Ok::<(), fused_lstm_driver::Error>(())
/// ```
pub fn echo_to_toml(settings: &Settings) -> String {
    let table = Table::try_from(settings).unwrap_or_default();
    let text = toml::to_string(&renamed(table, "_", "-")).unwrap_or_default();
    // The preset, which the others stand upon, comes first.
    let (first, rest): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("preset"));
    let lines = ["job = \"echo\""].into_iter().chain(first).chain(rest);
    lines.map(|line| format!("{line}\n")).collect()
}

/// The settings of a recipe, if its job is the echo. What it does not say is the preset's.
pub fn echo_settings(path: &Path, text: &str) -> Result<Option<Settings>, Error> {
    // What is no TOML is refused where other jobs are read.
    let Ok(mut table) = toml::from_str::<Table>(text) else {
        return Ok(None);
    };
    if table.remove("job") != Some(Value::String("echo".into())) {
        return Ok(None);
    }
    let refuse = |e: toml::de::Error| Error::file(path, e.message());
    let preset = match table.get("preset") {
        Some(preset) => preset.clone().try_into().map_err(refuse)?,
        None => Preset::Echo,
    };
    let mut whole = Table::try_from(Settings::preset(preset)).unwrap_or_default();
    whole.extend(renamed(table, "-", "_"));
    whole.try_into().map(Some).map_err(refuse)
}
