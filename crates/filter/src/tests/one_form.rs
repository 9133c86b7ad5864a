//! Filters that say the same.

use std::collections::BTreeSet;

use super::{filter, text_of};
use crate::Filter;

#[test]
fn filters_that_say_the_same_are_one() {
    for same in [
        vec![
            "n = 1 AND b",
            "b AND n = 1",
            "(b) AND (n = 1) AND (b)",
            "b = TRUE AND 1 = n",
            "b <> FALSE AND n = 1.0",
        ],
        vec![
            "n IN (1, 2)",
            "n IN (2, 1, 2)",
            "n = 1 OR n = 2",
            "n = 2 OR (n IN (1))",
            "NOT (n <> 1 AND n <> 2)",
        ],
        vec![
            "n NOT IN (1, 2)",
            "NOT n IN (2, 1)",
            "n <> 1 AND n <> 2",
            "NOT (n = 1 OR n = 2)",
        ],
        vec![
            "n = 1",
            "n IN (1)",
            "n IN (1, 1)",
            "NOT n <> 1",
            "n = 1 AND TRUE",
            "n = 1 OR FALSE",
        ],
        vec![
            "n BETWEEN 1 AND 2",
            "n >= 1 AND n <= 2",
            "NOT (n < 1 OR n > 2)",
            "NOT n NOT BETWEEN 1 AND 2",
        ],
        vec!["NOT n > 1", "n <= 1", "1 >= n", "NOT NOT NOT n > 1"],
        vec!["n > -1", "n>-1", "-1<n", "NOT n<=-1"],
        vec!["n <> -1", "n<>-1", "n!=-1", "NOT n=-1"],
        vec!["n >= -1", "n>=-1", "NOT n<-1"],
        vec!["NOT n IS NULL", "n IS NOT NULL"],
        vec!["1 < n", "n > 1"],
        vec!["1 <= n", "n >= 1"],
        vec!["1 > n", "n < 1"],
        vec!["1 <> n", "n <> 1"],
        vec!["t LIKE 'x'", "t = 'x'", "t LIKE '\\x'", "t IN ('x')"],
        vec!["t LIKE '%%_'", "t LIKE '_%'"],
        vec!["num = 1", "num = 1.00", "num = 10e-1", "num = '1'"],
        vec![
            "f8 = 0.1",
            "f8 = 1e-1",
            "f8 = '0.1'",
            "f8 = 0.1000000000000000055511151231257827",
        ],
        vec!["f8 = 0", "f8 = -0.0"],
        vec![
            "tz = '2026-11-20'",
            "tz = '2026-11-20T00:00Z'",
            "tz = '2026-11-20 01:00+01'",
        ],
        vec![
            "u = '67E5504410B1426F9247BB680E5FE0C8'",
            "u = '{67e55044-10b1-426f-9247-bb680e5fe0c8}'",
        ],
        vec!["NOT b", "b = FALSE", "b < TRUE", "b <> TRUE", "b <= FALSE"],
        vec![
            "n = NULL",
            "NULL",
            "NOT NULL",
            "n IN (NULL)",
            "n BETWEEN NULL AND NULL",
        ],
        vec!["TRUE", "n = 1 OR TRUE", "NOT FALSE"],
        vec!["FALSE", "n = 1 AND FALSE"],
        vec![
            "(n = 1 OR t = 'x') OR b",
            "n = 1 OR (t = 'x' OR b)",
            "b OR t = 'x' OR n = 1",
        ],
    ] {
        let ids: BTreeSet<String> = same.iter().map(|text| text_of(&filter(text))).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        // The text of the one form is a filter, the same one.
        let id = ids.into_iter().next().expect("one");
        assert_eq!(text_of(&filter(&id)), id);
    }
    for (one, two) in [
        ("n = 1", "n = 2"),
        ("n = 1", "id = 1"),
        ("n = 1 AND b OR t = 'x'", "n = 1 AND (b OR t = 'x')"),
        ("t = 'A'", "t = 'a'"),
        ("n IN (1, NULL)", "n = 1"),
    ] {
        assert_ne!(filter(one), filter(two));
    }
    assert_eq!(Filter::everything(), filter("TRUE"));
}
