//! "Did you mean": the known key nearest to an unknown one.

/// Below this likeness a suggestion would mislead. A key of the right name in another section reaches 0.75.
const LIKE_ENOUGH: f64 = 0.72;

/// Returns the known key most like `key`, if one is like enough.
///
/// The last part of a key says more than the section it stands in, so it weighs three times as much.
pub(super) fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let (section, name) = split(key);
    known
        .iter()
        .filter(|candidate| *candidate != key)
        .map(|candidate| {
            let (its_section, its_name) = split(candidate);
            let like = strsim::normalized_damerau_levenshtein;
            (0.75 * like(name, its_name) + 0.25 * like(section, its_section), candidate.as_str())
        })
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Returns the known environment variable most like `name`, if one is like enough.
pub(super) fn nearest_variable<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}
