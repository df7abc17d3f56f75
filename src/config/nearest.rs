//! What a misspelt name was probably meant to be.

/// The candidate with the fewest edits between it and the text; the first one of several.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(text, candidate);
    candidates.into_iter().min_by_key(distance).unwrap_or_default()
}

/// Is an unknown variable that begins with `RUSHGATE_` meant to be one of these?
///
/// It is if it has the double underscore, or if it is one of them but for that. Anything else belongs to somebody else: a
/// container platform sets `RUSHGATE_SERVICE_HOST` beside a service of our name.
pub(super) fn variable_in_disguise(name: &str, variables: &[String]) -> bool {
    let plain = |name: &str| name.to_uppercase().replace("__", "_");
    name.contains("__") || variables.iter().any(|variable| plain(variable) == plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_nearest() {
        assert_eq!(nearest("inventroy", ["http", "inventory", "queue"]), "inventory");
        assert_eq!(nearest("", ["http"]), "http");
    }

    #[test]
    fn a_variable_of_somebody_else_is_left_alone() {
        let known = ["RUSHGATE__HTTP__LISTEN".to_owned()];
        for (name, ours) in [
            ("RUSHGATE__HTTP__LISTN", true),
            ("RUSHGATE_HTTP_LISTEN", true),
            ("RUSHGATE__HTTP_LISTEN", true),
            ("RUSHGATE_SERVICE_HOST", false),
            ("RUSHGATE_CONFIG", false),
        ] {
            assert_eq!(variable_in_disguise(name, &known), ours, "{name}");
        }
    }
}
