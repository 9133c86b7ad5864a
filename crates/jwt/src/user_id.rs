//! One spelling for each user.

/// Returns the user of a `sub`. A UUID in any spelling that PostgreSQL reads as the same one (upper case, braces,
/// hyphens elsewhere) becomes the usual spelling: otherwise one user would be several for whatever compares texts,
/// such as limits for each user.
pub(crate) fn canonical(sub: &str) -> String {
    match uuid_digits(sub) {
        Some(digits) => {
            let (a, b, c, d, e) = (
                &digits[..8],
                &digits[8..12],
                &digits[12..16],
                &digits[16..20],
                &digits[20..],
            );
            format!("{a}-{b}-{c}-{d}-{e}")
        }
        None => sub.to_owned(),
    }
}

/// The 32 digits of a UUID, in lower case: PostgreSQL allows a hyphen after each four, and braces around all.
fn uuid_digits(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('{')
        .map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let mut digits = String::with_capacity(32);
    let mut hyphen_may_follow = false;
    for character in inner.chars() {
        if character == '-' {
            if !hyphen_may_follow {
                return None;
            }
            hyphen_may_follow = false;
            continue;
        }
        if !character.is_ascii_hexdigit() || digits.len() == 32 {
            return None;
        }
        digits.push(character.to_ascii_lowercase());
        hyphen_may_follow = digits.len().is_multiple_of(4) && digits.len() < 32;
    }
    (digits.len() == 32 && !inner.ends_with('-')).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

    #[test]
    fn every_spelling_of_a_uuid_is_one_user() {
        for spelling in [
            USER,
            "67E55044-10B1-426F-9247-BB680E5FE0C8",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
            "67e5504410b1426f9247bb680e5fe0c8",
            "67e5-5044-10b1-426f-9247-bb68-0e5f-e0c8",
            "{67E5504410b1-426f9247-bb680e5fe0c8}",
        ] {
            assert_eq!(canonical(spelling), USER, "{spelling}");
        }
    }

    #[test]
    fn any_other_text_stays_as_it_is() {
        for text in [
            "ann",
            "auth0|67e55044",
            "67e55044-10b1-426f-9247-bb680e5fe0c",
            "67e55044-10b1-426f-9247-bb680e5fe0c8-",
            "-67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e55044--10b1-426f-9247-bb680e5fe0c8",
            "6-7e55044-10b1-426f-9247-bb680e5fe0c8",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e55044-10b1-426f-9247-bb680e5fe0c8}",
            "urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e55044-10b1-426f-9247-bb680e5fe0c80",
            "{}",
            "é7e55044-10b1-426f-9247-bb680e5fe0c8",
        ] {
            assert_eq!(canonical(text), text);
        }
    }
}
