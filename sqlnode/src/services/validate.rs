//! What is accepted from clients: names, passwords, identifiers. Every refusal says what to do instead.

use rockpool_proto::limits::{DISPLAY_NAME_CHARS_MAX, LOGIN_NAME_CHARS_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};

use crate::database::{Refusal, RefusalKind};

fn invalid(text: String) -> Refusal {
    Refusal::new(RefusalKind::Invalid, text)
}

/// Characters that are not seen but change what is: marks that turn the direction of writing, joiners and fillers of no
/// width. With them one name can be made to look like another.
fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn name(what: &str, text: &str, chars_max: usize) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Err(invalid(format!("The {what} is empty. Give it at least one visible character.")));
    }
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(invalid(format!("The {what} has {chars} characters. Use at most {chars_max}.")));
    }
    if text.chars().any(|c| c.is_control() || is_deceptive(c)) {
        return Err(invalid(format!(
            "The {what} holds control characters or marks that change the direction of writing. Leave them out."
        )));
    }
    Ok(text.to_owned())
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
    /// Without differences of case.
    pub key: String,
}

/// A login name, trimmed.
pub fn login_name(text: &str) -> Result<LoginName, Refusal> {
    let name = name("login name", text, LOGIN_NAME_CHARS_MAX)?;
    if name.chars().any(char::is_whitespace) {
        return Err(invalid("The login name holds a space. Use letters, digits, dots, dashes and the like.".into()));
    }
    let key = name.to_lowercase();
    Ok(LoginName { name, key })
}

/// A password for a new account: long enough, and not longer than what is hashed.
pub fn new_password(text: &str) -> Result<(), Refusal> {
    if text.chars().count() < PASSWORD_CHARS_MIN {
        return Err(invalid(format!("The password is too short. Use at least {PASSWORD_CHARS_MIN} characters.")));
    }
    password(text)
}

/// A password to be compared.
pub fn password(text: &str) -> Result<(), Refusal> {
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(invalid(format!("The password is too long. Use at most {PASSWORD_BYTES_MAX} bytes.")));
    }
    Ok(())
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
        for bad in ["", "   ", "a\nb", "a\u{0}b", "a\u{202e}b", "a\u{200b}b", "\u{feff}", &"x".repeat(51)] {
            let refusal = display_name("pool's name", bad).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Invalid);
            assert!(refusal.text.contains("pool's name"), "{bad:?}");
        }
    }

    #[test]
    fn login_names_are_unique_whatever_their_case() {
        assert_eq!(login_name(" Ann ").unwrap(), LoginName { name: "Ann".into(), key: "ann".into() });
        assert_eq!(login_name("ÄNN").unwrap().key, "änn");
        assert!(login_name("ann lee").is_err());
    }

    #[test]
    fn passwords_have_bounds() {
        assert!(new_password("1234567").is_err());
        assert!(new_password("12345678").is_ok());
        assert!(new_password(&"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
        assert!(password("short").is_ok(), "an old password may be shorter than new ones have to be");
    }
}
