//! Finds the tags in an action's text; what they mean is not decided here.

use super::tags::TagProblem;

/// A tag as it stands in the text.
pub(super) struct Tag<'a> {
    pub(super) whole: &'a str,
    /// The byte of the text at which it begins.
    pub(super) start: usize,
    pub(super) name: &'a str,
    pub(super) attributes: Vec<(&'a str, &'a str)>,
    /// `</name>`
    pub(super) closing: bool,
    /// `<name/>`
    pub(super) empty: bool,
}

/// The tag with which `rest`, the text from the byte `start` on, begins, and its length. None where it begins with an ordinary
/// character: `<` not followed by a letter or a slash is one.
///
/// # Errors
/// A tag that is not finished.
pub(super) fn tag_at(rest: &str, start: usize) -> Result<Option<(Tag<'_>, usize)>, String> {
    let begins = |inner: &str| inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if !rest.strip_prefix('<').is_some_and(begins) {
        return Ok(None);
    }
    let end = end_of_tag(rest).ok_or_else(|| rest.chars().take(20).collect::<String>())?;
    let whole = &rest[..=end];
    let body = whole[1..end].trim();
    let closing = body.starts_with('/');
    let empty = body.ends_with('/');
    let body = body.trim_matches('/').trim();
    let (name, attributes) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let tag = Tag { whole, start, name, attributes: attributes_of(attributes), closing, empty };
    Ok(Some((tag, end + 1)))
}

/// A problem of the tag that stands at the byte `at` of `action`.
pub(super) fn problem_at(action: &str, at: usize, tag: &str, problem: &str) -> TagProblem {
    TagProblem { tag: tag.to_owned(), at: action[..at].chars().count() + 1, problem: problem.to_owned() }
}

/// Where the tag's `>` stands; one inside quotes does not end it.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// `name="value"` or `name='value'`; what is neither keeps its text as a name, so that it is told of.
fn attributes_of(mut text: &str) -> Vec<(&str, &str)> {
    let mut attributes = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return attributes;
        }
        let parts = text.split_once('=').and_then(|(name, rest)| {
            let rest = rest.trim_start();
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, rest) = rest[1..].split_once(quote)?;
            Some((name.trim(), value, rest))
        });
        match parts {
            Some((name, value, rest)) => {
                attributes.push((name, value));
                text = rest;
            }
            None => {
                attributes.push((text.trim(), ""));
                return attributes;
            }
        }
    }
}
