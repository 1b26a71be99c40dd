//! The TOML file: a flat list of settings, each kept with the line it stands on.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::settings::nearest;
use super::{ConfigError, Origin, Setting};

/// One line of a file.
pub(super) struct Written {
    pub(super) setting: &'static Setting,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Reads a file; keys must be settings, each once.
pub(super) fn read(path: &Path) -> Result<Vec<Written>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let origin_at = |offset: usize| Origin::File(path.to_owned(), line_of(offset));

    let table = DeTable::parse(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        ConfigError::Syntax { origin: origin_at(offset), reason: error.message().to_owned() }
    })?;
    let mut written = Vec::new();
    for (key, value) in table.get_ref() {
        let origin = origin_at(key.span().start);
        let name: &str = key.get_ref();
        let Some(setting) = Setting::named(name) else {
            return Err(ConfigError::UnknownKey { origin, key: name.to_owned(), hint: nearest(name) });
        };
        let value = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Boolean(yes) => yes.to_string(),
            other => {
                let reason = "a string or a number is expected".to_owned();
                let value = format!("(a {})", other.type_str());
                return Err(ConfigError::BadValue { origin, key: setting.key, value, reason });
            }
        };
        written.push(Written { setting, value, origin });
    }
    Ok(written)
}
