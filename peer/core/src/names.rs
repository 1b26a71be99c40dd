//! File names from other devices: which are refused, and how any text of theirs is shown.
//!
//! A name is checked on the device that offers, so that its owner hears of it, and again on each device that receives,
//! because the sender may lie. What is refused here could leave the chosen folder, hide from a person's eye, or mean
//! something else on another system. Names are refused, never changed: a changed name is a second name for one file.

use std::fmt::Write as _;

use rockpool_proto::limits::FILE_NAME_BYTES_MAX;
use unicode_normalization::UnicodeNormalization as _;

/// Why a component of a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("an empty name")]
    Empty,
    /// `.` or `..`.
    #[error("a name that means a folder above or itself")]
    Dots,
    /// `/` or `\`, so also absolute paths and `C:\`.
    #[error("a separator in a name")]
    Separator,
    /// NUL, other control characters, escape sequences.
    #[error("a control character in a name")]
    Control,
    /// Characters that can't be seen or turn the text around.
    #[error("an invisible character, or one that changes the direction of text, in a name")]
    Invisible,
    /// `FILE_NAME_BYTES_MAX`.
    #[error("a name of {0} bytes, more than 255")]
    TooLong(usize),
    /// `:` (streams, drives) and the other characters that Windows forbids.
    #[error("the character {0:?}, which not every system allows in a name")]
    Forbidden(char),
    /// `NUL`, `CON`, `COM1`, with or without an extension.
    #[error("a name that is a device on Windows")]
    Reserved,
    /// Windows drops them, so two names would be one.
    #[error("a name that ends with a dot or a space")]
    TrailingDotOrSpace,
}

/// Checks one component of a path.
pub fn check_component(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots);
    }
    for c in name.chars() {
        match c {
            '/' | '\\' => return Err(NameError::Separator),
            c if c.is_control() => return Err(NameError::Control),
            c if is_invisible(c) => return Err(NameError::Invisible),
            ':' | '*' | '?' | '"' | '<' | '>' | '|' => return Err(NameError::Forbidden(c)),
            _ => {}
        }
    }
    if name.ends_with(['.', ' ']) {
        return Err(NameError::TrailingDotOrSpace);
    }
    if is_reserved(name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Names under which Windows reaches devices, whatever follows the first dot.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        stem => {
            let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
            number.is_some_and(|number| {
                let mut digits = number.chars();
                matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
            })
        }
    }
}

/// Characters that take no room or change how their neighbours are shown.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// Under what key two names are one on some system: case folded, composed.
pub fn collision_key(name: &str) -> String {
    // Lower-casing after upper-casing folds what a single step leaves apart (final sigma, sharp s).
    let folded: String = name.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    folded.nfc().collect()
}

/// Any text from another device, made fit for a terminal: no escape sequences, nothing invisible, no reversed order,
/// one line. What is taken out is shown as `\u{..}`.
pub fn sanitize_for_display(text: &str) -> String {
    sanitize(text, |c| c.is_control())
}

/// The same for a message of several lines: keeps line breaks and tabs.
pub fn sanitize_lines_for_display(text: &str) -> String {
    sanitize(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

fn sanitize(text: &str, is_refused: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        // A tower of combining marks covers the lines around it.
        marks = if unicode_normalization::char::is_combining_mark(c) { marks + 1 } else { 0 };
        if is_refused(c) || (is_invisible(c) && c != '\u{200d}') || marks > 8 {
            write!(shown, "\\u{{{:x}}}", u32::from(c)).expect("writing to a string can't fail");
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, why: NameError) {
        assert_eq!(check_component(name), Err(why), "{name:?}");
    }

    /// croc#593, magic-wormhole 0.23 and 0.24, GSConnect#2163.
    #[test]
    fn names_that_leave_the_folder_are_refused() {
        refused("..", NameError::Dots);
        refused(".", NameError::Dots);
        refused("", NameError::Empty);
        refused("/etc", NameError::Separator);
        refused("a/../../b", NameError::Separator);
        refused("..\\b", NameError::Separator);
        refused("./x", NameError::Separator);
        assert_eq!(check_component("..."), Err(NameError::TrailingDotOrSpace));
        assert_eq!(check_component("..a"), Ok(()));
    }

    /// LocalSend#3263.
    #[test]
    fn nul_and_control_characters_are_refused() {
        refused("a\0b", NameError::Control);
        refused("a\x1b[2Jb", NameError::Control);
        refused("a\nb", NameError::Control);
        refused("a\u{9b}b", NameError::Control);
    }

    /// croc a6cc6104 and 21b92295; magic-wormhole 0.13.
    #[test]
    fn invisible_and_direction_characters_are_refused() {
        for c in ['\u{202e}', '\u{200b}', '\u{2066}', '\u{feff}', '\u{e0041}', '\u{ad}'] {
            refused(&format!("photo{c}gpj.exe"), NameError::Invisible);
        }
    }

    /// floe#310.
    #[test]
    fn names_that_mean_something_else_on_windows_are_refused() {
        for name in ["NUL", "nul.txt", "Con", "com1", "LPT9.tar.gz", "aux .c", "COM²"] {
            refused(name, NameError::Reserved);
        }
        refused("a:b", NameError::Forbidden(':'));
        refused("a.", NameError::TrailingDotOrSpace);
        refused("a ", NameError::TrailingDotOrSpace);
        for name in ["COM", "COM10", "console", "nullable.rs", "conf"] {
            assert_eq!(check_component(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_are_bounded_in_bytes() {
        assert_eq!(check_component(&"a".repeat(255)), Ok(()));
        refused(&"a".repeat(300), NameError::TooLong(300));
        refused(&"ä".repeat(128), NameError::TooLong(256));
    }

    #[test]
    fn ordinary_names_of_many_languages_pass() {
        for name in ["Cargo.toml", ".gitignore", "Übung 3.pdf", "日本語.txt", "файл", "a b", "x'y", "#1", "🎉.png"]
        {
            assert_eq!(check_component(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn collision_keys_fold_case_and_composition() {
        assert_eq!(collision_key("README"), collision_key("readme"));
        assert_eq!(collision_key("a\u{308}"), collision_key("Ä"));
        assert_eq!(collision_key("ﬁle"), collision_key("FILE"));
        assert_eq!(collision_key("straße"), collision_key("STRASSE"));
        assert_ne!(collision_key("a"), collision_key("b"));
    }

    #[test]
    fn what_is_shown_holds_no_escapes() {
        assert_eq!(sanitize_for_display("a\x1b[31mb\u{202e}c\nd"), "a\\u{1b}[31mb\\u{202e}c\\u{a}d");
        assert_eq!(sanitize_lines_for_display("a\nb\tc\r"), "a\nb\tc\\u{d}");
        assert_eq!(sanitize_for_display("grüße 🎉"), "grüße 🎉");
        assert!(sanitize_for_display(&format!("z{}", "\u{301}".repeat(50))).contains("\\u{301}"));
    }
}
