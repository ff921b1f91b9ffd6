//! The tags in an action's text.

use std::fmt;
use std::time::Duration;

/// How the tags of the format stand to this caller.
const KNOWN: [(&str, Support); 19] = [
    ("silence", Support::Played),
    ("hold", Support::Played),
    ("endcall", Support::Played),
    ("interruption", Support::Played),
    ("ignore_interruptions", Support::Played),
    ("dtmf", Support::NotYet),
    ("ivr", Support::NotYet),
    ("voicemail", Support::NotYet),
    ("audio", Support::NotYet),
    ("noise", Support::NotYet),
    ("background_noise", Support::NotYet),
    ("network_simulation", Support::NotYet),
    ("volume", Support::NotYet),
    ("speed", Support::NotYet),
    ("spell", Support::NotYet),
    ("voice", Support::NotYet),
    ("client_message", Support::NotYet),
    ("send_sms", Support::NotYet),
    ("function", Support::NotYet),
];
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    Played,
    NotYet,
}

/// A piece of an action, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Words to say.
    Text(String),
    /// `<silence time="2s"/>`
    Silence(Duration),
    /// `<hold time="5s"/>`
    Hold(Duration),
    /// `<interruption time="3s"/>`
    Interruption(Duration),
    /// `<ignore_interruptions>…</ignore_interruptions>`
    IgnoreInterruptions(Vec<Piece>),
    /// `<endcall/>`
    EndCall,
}

/// A tag that cannot be played, or is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagProblem {
    /// The tag, or the text around the problem.
    pub tag: String,
    /// The character of the action at which it begins, counted from 1.
    pub at: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for TagProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag {} at character {}: {}", self.tag, self.at, self.problem)
    }
}

/// Splits an action into its pieces. `<` not followed by a letter or a slash is an ordinary character.
///
/// # Errors
/// Every [`TagProblem`] of the action.
pub fn pieces(action: &str) -> Result<Vec<Piece>, Vec<TagProblem>> {
    let mut reader = Reader { action, at: 0, problems: Vec::new() };
    let pieces = reader.read(None);
    if reader.problems.is_empty() { Ok(pieces) } else { Err(reader.problems) }
}

struct Reader<'a> {
    action: &'a str,
    at: usize,
    problems: Vec<TagProblem>,
}

/// A tag as it stands in the text.
struct Tag<'a> {
    whole: &'a str,
    start: usize,
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
    closing: bool,
    empty: bool,
}

impl<'a> Reader<'a> {
    /// Reads to the end, or to the closing tag of `span`.
    fn read(&mut self, span: Option<&str>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let opened = self.at;
        while self.at < self.action.len() {
            let rest = &self.action[self.at..];
            let Some(tag) = self.tag() else {
                let next = rest.chars().next().expect("something is left");
                text.push(next);
                self.at += next.len_utf8();
                continue;
            };
            push_text(&mut pieces, &mut text);
            if tag.closing {
                if span == Some(tag.name) {
                    return pieces;
                }
                self.problem(&tag, "closes what was not opened");
            } else {
                self.take(&tag, span, &mut pieces);
            }
        }
        push_text(&mut pieces, &mut text);
        if let Some(name) = span {
            let tag = format!("<{name}>");
            self.problems.push(TagProblem { tag, at: self.character(opened), problem: "is not closed".to_owned() });
        }
        pieces
    }

    fn take(&mut self, tag: &Tag<'a>, span: Option<&str>, pieces: &mut Vec<Piece>) {
        let known = KNOWN.iter().find(|(name, _)| *name == tag.name);
        match known.map(|(_, support)| *support) {
            Some(Support::Played) => {}
            Some(Support::NotYet) => return self.problem(tag, "is known, but not played yet"),
            None => {
                let known = KNOWN.iter().map(|(name, _)| *name);
                let nearest = known.max_by(|a, b| strsim::jaro(a, tag.name).total_cmp(&strsim::jaro(b, tag.name)));
                let nearest = nearest.unwrap_or_default();
                return self.problem(tag, &format!("is no tag of the format; the nearest one is <{nearest}>"));
            }
        }
        let inside = tag.name == "ignore_interruptions";
        if inside == tag.empty {
            let right = if inside { "needs text: <ignore_interruptions>…</ignore_interruptions>" } else { "must end with />" };
            return self.problem(tag, right);
        }
        if span.is_some() && (inside || tag.name == "interruption" || tag.name == "endcall") {
            return self.problem(tag, "cannot stand inside <ignore_interruptions>");
        }
        match tag.name {
            "ignore_interruptions" => {
                if self.attributes(tag, &[]).is_some() {
                    let inner = self.read(Some("ignore_interruptions"));
                    pieces.push(Piece::IgnoreInterruptions(inner));
                }
            }
            "endcall" => pieces.extend(self.attributes(tag, &[]).map(|_| Piece::EndCall)),
            "silence" => pieces.extend(self.time(tag).map(Piece::Silence)),
            "hold" => pieces.extend(self.time(tag).map(Piece::Hold)),
            _ => pieces.extend(self.time(tag).map(Piece::Interruption)),
        }
    }

    /// The tag that begins here, if one does.
    fn tag(&mut self) -> Option<Tag<'a>> {
        let rest = &self.action[self.at..];
        let inner = rest.strip_prefix('<')?;
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') {
            return None;
        }
        let Some(end) = end_of_tag(rest) else {
            let tag = rest.chars().take(20).collect();
            let problem = "the tag is not finished: > is missing".to_owned();
            self.problems.push(TagProblem { tag, at: self.character(self.at), problem });
            return None;
        };
        let whole = &rest[..=end];
        let body = whole[1..end].trim();
        let closing = body.starts_with('/');
        let empty = body.ends_with('/');
        let body = body.trim_matches('/').trim();
        let (name, attributes) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
        let start = self.at;
        self.at += end + 1;
        Some(Tag { whole, start, name, attributes: attributes_of(attributes), closing, empty })
    }

    fn time(&mut self, tag: &Tag<'a>) -> Option<Duration> {
        let [time] = self.attributes(tag, &["time"])?[..] else { return None };
        let parsed = parse_time(time).filter(|time| *time <= LONGEST_PAUSE);
        if parsed.is_none() {
            self.problem(tag, &format!("{time:?} is no time: write \"2s\", \"1.5s\" or \"500ms\", an hour at most"));
        }
        parsed
    }

    /// The values of just these attributes.
    fn attributes(&mut self, tag: &Tag<'a>, wanted: &[&str]) -> Option<Vec<&'a str>> {
        for (name, _) in &tag.attributes {
            if !wanted.contains(name) {
                self.problem(tag, &format!("has no attribute {name:?}"));
                return None;
            }
        }
        let mut values = Vec::new();
        for name in wanted {
            let Some((_, value)) = tag.attributes.iter().find(|(given, _)| given == name) else {
                self.problem(tag, &format!("needs the attribute {name}=\"…\""));
                return None;
            };
            values.push(*value);
        }
        Some(values)
    }

    fn problem(&mut self, tag: &Tag<'_>, problem: &str) {
        let (tag, at) = (tag.whole.to_owned(), self.character(tag.start));
        self.problems.push(TagProblem { tag, at, problem: problem.to_owned() });
    }

    fn character(&self, byte: usize) -> usize {
        self.action[..byte].chars().count() + 1
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &mut String) {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !words.is_empty() {
        pieces.push(Piece::Text(words));
    }
    text.clear();
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

fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => return None,
    };
    let number = number.trim();
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value: f64 = if digits { number.parse().ok()? } else { return None };
    Duration::try_from_secs_f64(value * unit).ok()
}
