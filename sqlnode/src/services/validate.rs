//! What is accepted from clients: names, passwords, identifiers. Every refusal says what to do instead.

use rockpool_proto::limits::{DISPLAY_NAME_CHARS_MAX, LOGIN_NAME_CHARS_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

use crate::database::{Refusal, RefusalKind};

/// Characters of a name that are looked at: far more than any may have, far fewer than fit in a message.
const CHARS_LOOKED_AT_MAX: usize = 1_000;

fn invalid(text: String) -> Refusal {
    Refusal::new(RefusalKind::Invalid, text)
}

/// Characters that are not seen but change what is: marks that turn the direction of writing, fillers and separators of no
/// width, characters that nobody has defined. With them one name can be made to look like another, or like nothing.
fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}'
    )
}

/// Joiners, and the choice between the forms of one character. Some scripts and many pictures can't do without; in a name
/// that is typed to log in, they could make two names of what looks like one.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

fn name(what: &str, text: &str, chars_max: usize) -> Result<String, Refusal> {
    // Composed, so that what looks the same is the same, whatever keyboard it comes from.
    let text: String = text.trim().nfc().take(CHARS_LOOKED_AT_MAX).collect();
    let visible = |c: char| !c.is_whitespace() && !is_joiner(c) && !is_combining_mark(c);
    let chars = text.chars().count();
    if chars > chars_max {
        let found = if chars < CHARS_LOOKED_AT_MAX { chars.to_string() } else { format!("over {chars}") };
        return Err(invalid(format!("The {what} has {found} characters. Use at most {chars_max}.")));
    }
    if text.chars().any(|c| c.is_control() || is_deceptive(c)) {
        return Err(invalid(format!(
            "The {what} holds invisible or control characters, or marks that change the direction of writing. Leave them out."
        )));
    }
    if !text.chars().any(visible) {
        return Err(invalid(format!("The {what} is empty. Give it at least one visible character.")));
    }
    Ok(text)
}

/// A display name, a device's name or a pool's name, trimmed. `what` names it in the refusal.
pub fn display_name(what: &str, text: &str) -> Result<String, Refusal> {
    name(what, text, DISPLAY_NAME_CHARS_MAX)
}

/// A login name, and the key under which it is unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginName {
    /// As it was written.
    pub name: String,
    /// Without differences of case, composition and compatible forms.
    pub key: String,
}

/// A login name, trimmed.
pub fn login_name(text: &str) -> Result<LoginName, Refusal> {
    let name = name("login name", text, LOGIN_NAME_CHARS_MAX)?;
    if name.chars().any(char::is_whitespace) {
        return Err(invalid("The login name holds a space. Use letters, digits, dots, dashes and the like.".into()));
    }
    if name.chars().any(is_joiner) {
        return Err(invalid("The login name holds invisible characters. Leave them out.".into()));
    }
    // Lower-casing after upper-casing folds what a single step leaves apart (final sigma, sharp s).
    let folded: String = name.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    let key = folded.nfkc().collect();
    Ok(LoginName { name, key })
}

/// A password for a new account: long enough, and not longer than what is hashed. Composed, like [`password`].
pub fn new_password(text: &str) -> Result<Zeroizing<String>, Refusal> {
    let password = password(text)?;
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(invalid(format!("The password is too short. Use at least {PASSWORD_CHARS_MIN} characters.")));
    }
    Ok(password)
}

/// A password to be compared. Composed, because keyboards differ in how they write the same letters (RFC 8265).
pub fn password(text: &str) -> Result<Zeroizing<String>, Refusal> {
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(invalid(format!("The password is too long. Use at most {PASSWORD_BYTES_MAX} bytes.")));
    }
    Ok(Zeroizing::new(text.nfc().collect()))
}

/// An identifier or key of a fixed length.
pub fn bytes<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| invalid(format!("The {what} has {} bytes where {N} are expected.", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_deceptive_ones_refused() {
        assert_eq!(display_name("pool's name", "  Küche 7  ").unwrap(), "Küche 7");
        assert!(display_name("pool's name", &"x".repeat(50)).is_ok());
        assert_eq!(display_name("pool's name", "Ku\u{308}che").unwrap(), "Küche", "composed");
        assert_eq!(display_name("pool's name", &"u\u{308}".repeat(50)).unwrap().chars().count(), 50);
        assert!(display_name("pool's name", "👩\u{200d}🚀 ❤\u{fe0f}").is_ok(), "pictures of several characters");
        let bad =
            ["", "   ", "a\nb", "a\u{0}b", "a\u{202e}b", "a\u{200b}b", "\u{feff}", "\u{3164}", "\u{2800}\u{2800}"];
        let long = ["x".repeat(51), "x".repeat(200_000)];
        let marks = ["\u{308}", "\u{200d}", "a\u{ad}b", "a\u{e0001}b", "\u{e000}"];
        for bad in bad.into_iter().chain(long.iter().map(String::as_str)).chain(marks) {
            let refusal = display_name("pool's name", bad).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Invalid);
            assert!(refusal.text.contains("pool's name"), "{bad:?}");
        }
    }

    #[test]
    fn login_names_are_unique_whatever_their_case() {
        assert_eq!(login_name(" Ann ").unwrap(), LoginName { name: "Ann".into(), key: "ann".into() });
        assert_eq!(login_name("ÄNN").unwrap().key, "änn");
        for (one, same) in
            [("änn", "a\u{308}NN"), ("strauß", "STRAUSS"), ("ann", "ａｎｎ"), ("ΌΔΟΣ", "όδος"), ("fir", "ﬁr")]
        {
            assert_eq!(login_name(one).unwrap().key, login_name(same).unwrap().key, "{one} and {same}");
        }
        assert!(login_name("an\u{200d}n").is_err());
        assert!(login_name("ann lee").is_err());
    }

    #[test]
    fn passwords_have_bounds() {
        assert!(new_password("1234567").is_err());
        assert!(new_password("12345678").is_ok());
        assert!(new_password(&"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
        assert_eq!(*password("Ku\u{308}chenfee").unwrap(), "Küchenfee", "whatever the keyboard");
        assert!(password("short").is_ok(), "an old password may be shorter than new ones have to be");
    }
}
