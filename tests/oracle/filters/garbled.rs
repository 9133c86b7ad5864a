//! Texts that are almost filters.

use super::random::Random;

/// A text with something out of place, most often not a filter any more.
pub(crate) fn garbled(random: &mut Random, text: &str) -> String {
    const PIECES: &[&str] = &[
        " ",
        "(",
        ")",
        "'",
        "\"",
        "$1",
        "=",
        "<",
        ">",
        "-",
        "--",
        "/*",
        "*/",
        ";",
        ".",
        ",",
        "0",
        "1",
        "e",
        "E",
        "U&",
        "x",
        "b",
        "n",
        "NOT ",
        " AND ",
        " OR ",
        " IN ",
        " IS ",
        "NULL",
        "TRUE",
        "\\",
        "+",
        "!",
        "_",
        "\u{a0}",
        "\u{c}",
        "\r",
        "\n",
        "$$",
        "::",
        "[",
        "é",
        "K",
        "\u{212a}",
        "''",
        "\n'",
        " BETWEEN ",
        " LIKE ",
        "''\n''",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(2) {
        let at = random.below(chars.len() + 1);
        let removed = random.below(3).min(chars.len() - at);
        let piece: Vec<char> = if random.once_in(3) {
            Vec::new()
        } else {
            random.pick(PIECES).chars().collect()
        };
        chars.splice(at..at + removed, piece);
    }
    chars.into_iter().collect()
}
