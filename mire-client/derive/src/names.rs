//! From Rust's names to stored ones.

/// `MoneyDeposited` → `money-deposited`, `HTTPRequestSent` → `http-request-sent`, `Step2Done` → `step2-done`.
pub(crate) fn kebab_case(name: &str) -> String {
    let chars: Vec<char> = name.trim_start_matches("r#").chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        if c == '_' {
            out.push('-');
            continue;
        }
        let starts_word = c.is_uppercase()
            && i > 0
            && (!chars[i - 1].is_uppercase()
                || chars.get(i + 1).is_some_and(|next| next.is_lowercase()))
            && chars[i - 1] != '_';
        if starts_word {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Why a stored name will not do, if so.
pub(crate) fn objection(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("an event type needs a name")
    } else if name.starts_with('$') {
        Some("names that begin with `$` are the store's own")
    } else if name.chars().any(char::is_control) {
        Some("an event type's name holds no control characters")
    } else if name.len() > 512 {
        Some("an event type's name has at most 512 bytes")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_kebab_case() {
        for (rust, stored) in [
            ("Opened", "opened"),
            ("MoneyDeposited", "money-deposited"),
            ("HTTPRequestSent", "http-request-sent"),
            ("Step2Done", "step2-done"),
            ("X", "x"),
            ("snake_case", "snake-case"),
            ("r#Type", "type"),
        ] {
            assert_eq!(kebab_case(rust), stored);
        }
    }
}
