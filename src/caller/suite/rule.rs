//! Rules on what an agent says that need no language model.
//!
//! They stand where Cekura's format has a sentence: in a standard condition's text, or in an expected outcome. The file
//! stays valid there, and reads well to its language model.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// The largest compiled pattern, in bytes: no suite file can ask for all memory.
const LARGEST_PATTERN: usize = 1 << 20;

/// A rule on a text: `contains: Tuesday` or `regex: (?i)tues|wednes`.
#[derive(Debug, Clone)]
pub struct Rule {
    written: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    /// Folded words that must stand in the folded text.
    Contains(String),
    Pattern(Regex),
}

/// A text that begins like a rule and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule {written:?} {problem}")]
pub struct BadRule {
    /// The text.
    pub written: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Rule {
    /// Reads a rule; none when the text is no rule but a sentence.
    ///
    /// # Errors
    /// [`BadRule`] when it begins like one and its words are missing or its pattern is broken.
    pub fn parse(text: &str) -> Option<Result<Self, BadRule>> {
        let (name, rest) = text.trim().split_once(':')?;
        let rest = rest.trim();
        let test = match name.trim_end() {
            "contains" => contains(rest),
            "regex" => pattern(rest),
            _ => return None,
        };
        let written = text.trim().to_owned();
        Some(match test {
            Ok(test) => Ok(Self { written, test }),
            Err(problem) => Err(BadRule { written, problem }),
        })
    }

    /// Whether `text` keeps to the rule. `contains` compares after lower-casing and with every run of white space as one
    /// space, also within words; `regex` searches the text as it is (syntax of the crate `regex`).
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.test {
            Test::Contains(words) => fold(text).contains(words),
            Test::Pattern(pattern) => pattern.is_match(text),
        }
    }

    /// The rule as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn contains(words: &str) -> Result<Test, String> {
    let words = fold(words);
    if words.is_empty() { Err("has no words: write \"contains: Tuesday\"".to_owned()) } else { Ok(Test::Contains(words)) }
}

fn pattern(pattern: &str) -> Result<Test, String> {
    if pattern.is_empty() {
        return Err("has no pattern: write \"regex: (?i)tues|wednes\"".to_owned());
    }
    let built = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    built.map(Test::Pattern).map_err(|error| {
        // The crate draws the pattern over several lines; its last one says what is wrong.
        let told = error.to_string();
        format!("is no pattern: {}", told.lines().last().unwrap_or_default().trim_start_matches("error: "))
    })
}

fn fold(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}
