//! The tags in an action's text.
//!
//! Names, limits and places are those of Cekura's page on structured tests. Where its editions differ, the wider one is read.

use std::fmt;
use std::time::Duration;

use super::markup::{Tag, problem_at, tag_at};
use crate::caller::effects::{BEDS, SHOTS};
use crate::spelling::nearest;

/// Every tag of the format, and how it is played.
const KNOWN: [(&str, Form); 19] = [
    ("silence", Form::Empty),
    ("hold", Form::Empty),
    ("endcall", Form::Empty),
    ("interruption", Form::Empty),
    ("ignore_interruptions", Form::Span),
    ("dtmf", Form::Empty),
    ("ivr", Form::Empty),
    ("voicemail", Form::Empty),
    ("audio", Form::Empty),
    ("noise", Form::Empty),
    ("background_noise", Form::Span),
    ("network_simulation", Form::Empty),
    ("volume", Form::Empty),
    ("speed", Form::Empty),
    ("spell", Form::Span),
    ("client_message", Form::Empty),
    ("function", Form::Empty),
    ("voice", Form::Refused("cannot be played: another voice needs another speech command, and a caller has one (--tts)")),
    ("send_sms", Form::Refused("cannot be played: there is no telephone network here that could carry an SMS")),
];
/// What may stand inside a span.
const INSIDE: [(&str, &[&str]); 3] = [
    ("ignore_interruptions", &["silence", "hold", "audio", "noise", "dtmf", "spell", "client_message"]),
    ("background_noise", &["silence", "hold", "noise", "dtmf", "spell", "client_message"]),
    ("spell", &[]),
];
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How loud a background is where its tag does not say.
const BACKGROUND_VOLUME: f64 = 0.3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `<name …/>`
    Empty,
    /// `<name …>…</name>`
    Span,
    Refused(&'static str),
}

/// A piece of an action, in order. Texts in attributes still hold their `{{…}}`.
#[derive(Debug, Clone, PartialEq)]
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
    /// `<dtmf digits="123#"/>`
    Dtmf(String),
    /// `<ivr text="…"/>`
    Ivr(String),
    /// `<voicemail text="…"/>`, or without a greeting.
    Voicemail(Option<String>),
    /// `<audio id="…"/>`
    Audio(String),
    /// `<noise sound="beep" volume="1" time="200"/>`
    Noise {
        /// Its name.
        sound: &'static str,
        /// 0 to 1.
        volume: f64,
        /// Cuts the sound after this time.
        time: Option<Duration>,
    },
    /// `<background_noise sound="coffee-shop" volume="0.3">…</background_noise>`
    BackgroundNoise {
        /// Its name.
        sound: &'static str,
        /// 0 to 1.
        volume: f64,
        /// What is said over it.
        inner: Vec<Piece>,
    },
    /// `<network_simulation packet_loss="5"/>`: percent.
    PacketLoss(f64),
    /// `<volume ratio="1.5"/>`: for `text` alone, or from here to the action's end.
    Volume {
        /// 0 to 2.
        ratio: f64,
        /// These words only.
        text: Option<String>,
    },
    /// `<speed ratio="1.2"/>`: for `text` alone, or from here to the action's end.
    Speed {
        /// 0.1 to 2.
        ratio: f64,
        /// These words only.
        text: Option<String>,
    },
    /// `<spell>ABC123</spell>`
    Spell(String),
    /// `<client_message t="type" d='{"json":1}'/>`
    ClientMessage {
        /// Its type.
        kind: String,
        /// Its data: JSON.
        data: Option<String>,
    },
    /// `<function name="x"/>`
    Function(String),
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

impl<'a> Reader<'a> {
    /// Reads to the end, or to the closing tag of `span`.
    fn read(&mut self, span: Option<&Tag<'a>>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        while self.at < self.action.len() {
            let Some(tag) = self.tag() else {
                let Some(next) = self.action[self.at..].chars().next() else { break };
                text.push(next);
                self.at += next.len_utf8();
                continue;
            };
            push_text(&mut pieces, &mut text);
            if tag.closing {
                if span.is_some_and(|span| span.name == tag.name) {
                    return pieces;
                }
                self.problem(&tag, "closes what was not opened");
            } else if self.fits(&tag, span) {
                pieces.extend(self.piece(&tag));
            }
        }
        push_text(&mut pieces, &mut text);
        if let Some(span) = span {
            self.problem(span, "is not closed");
        }
        pieces
    }

    /// Whether the tag is one that can be played, is written as it must be, and may stand here. What is wrong is told of.
    fn fits(&mut self, tag: &Tag<'a>, span: Option<&Tag<'a>>) -> bool {
        let Some((_, form)) = KNOWN.iter().find(|(name, _)| *name == tag.name) else {
            let nearest = nearest(tag.name, KNOWN.iter().map(|(name, _)| *name)).unwrap_or_default();
            self.problem(tag, &format!("is no tag of the format; the nearest one is <{nearest}>"));
            return false;
        };
        let wrong = match form {
            Form::Refused(why) => Some((*why).to_owned()),
            Form::Empty if !tag.empty => Some("must end with />".to_owned()),
            Form::Span if tag.empty => Some(format!("needs text: <{0}>…</{0}>", tag.name)),
            _ => None,
        };
        let misplaced = span.and_then(|span| {
            let (name, inside) = INSIDE.iter().find(|(name, _)| *name == span.name)?;
            (!inside.contains(&tag.name)).then(|| format!("cannot stand inside <{name}>"))
        });
        let problem = wrong.or(misplaced);
        if let Some(problem) = &problem {
            self.problem(tag, problem);
        }
        problem.is_none()
    }

    fn piece(&mut self, tag: &Tag<'a>) -> Option<Piece> {
        match tag.name {
            "silence" => self.time(tag).map(Piece::Silence),
            "hold" => self.time(tag).map(Piece::Hold),
            "interruption" => self.time(tag).map(Piece::Interruption),
            "endcall" => self.values(tag, &[], &[]).map(|_| Piece::EndCall),
            "ignore_interruptions" => {
                let right = self.values(tag, &[], &[]).is_some();
                let inner = self.read(Some(tag));
                right.then_some(Piece::IgnoreInterruptions(inner))
            }
            "dtmf" => self.values(tag, &["digits"], &[]).map(|values| Piece::Dtmf(values.text(0))),
            "ivr" | "voicemail" if self.action.trim() != tag.whole => {
                self.problem(tag, "must be the whole action: put what follows it into an action_followup");
                None
            }
            "ivr" => self.values(tag, &["text"], &[]).map(|values| Piece::Ivr(values.text(0))),
            "voicemail" => self.values(tag, &[], &["text"]).map(|values| Piece::Voicemail(values.optional(0))),
            "audio" => self.audio(tag),
            "noise" => self.noise(tag),
            "background_noise" => self.background(tag),
            "network_simulation" => self.network(tag),
            "volume" => self.ratio(tag, 0.0).map(|(ratio, text)| Piece::Volume { ratio, text }),
            "speed" => self.ratio(tag, 0.1).map(|(ratio, text)| Piece::Speed { ratio, text }),
            "spell" => self.spell(tag),
            "client_message" => {
                let values = self.values(tag, &["t"], &["d"])?;
                Some(Piece::ClientMessage { kind: values.text(0), data: values.optional(1) })
            }
            "function" => self.values(tag, &["name"], &[]).map(|values| Piece::Function(values.text(0))),
            _ => {
                self.problem(tag, "cannot be played");
                None
            }
        }
    }

    fn audio(&mut self, tag: &Tag<'a>) -> Option<Piece> {
        let id = self.values(tag, &["id"], &[])?.text(0);
        // Cekura's page: letters, digits, _ and -, at most 64. The id is a file's name here, so nothing else may pass.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
            self.problem(tag, "the id is 1 to 64 letters, digits, _ and -: it plays audio/ID.wav beside the suite file");
            return None;
        }
        Some(Piece::Audio(id))
    }

    fn noise(&mut self, tag: &Tag<'a>) -> Option<Piece> {
        let values = self.values(tag, &["sound"], &["volume", "time"])?;
        let sound = self.sound(tag, &values.text(0), SHOTS)?;
        let volume = self.share(tag, values.optional(1).as_deref(), 1.0)?;
        let time = match values.optional(2) {
            None => None,
            Some(time) => {
                let milliseconds = time.trim().parse().ok().map(Duration::from_millis);
                let Some(time) = milliseconds.or_else(|| parse_time(&time)) else {
                    self.problem(tag, &format!("{time:?} is no time: write milliseconds, \"200\""));
                    return None;
                };
                Some(time)
            }
        };
        Some(Piece::Noise { sound, volume, time })
    }

    fn background(&mut self, tag: &Tag<'a>) -> Option<Piece> {
        let values = self.values(tag, &["sound"], &["volume"]);
        let inner = self.read(Some(tag));
        let values = values?;
        let sound = self.sound(tag, &values.text(0), BEDS)?;
        let volume = self.share(tag, values.optional(1).as_deref(), BACKGROUND_VOLUME)?;
        Some(Piece::BackgroundNoise { sound, volume, inner })
    }

    fn network(&mut self, tag: &Tag<'a>) -> Option<Piece> {
        if tag.attributes.iter().any(|(name, _)| matches!(*name, "jitter" | "latency")) {
            self.problem(tag, "jitter and latency are not played, only packet_loss is");
            return None;
        }
        let values = self.values(tag, &["packet_loss"], &[])?;
        let percent = self.number(tag, &values.text(0), 0.0, 100.0)?;
        Some(Piece::PacketLoss(percent))
    }

    fn ratio(&mut self, tag: &Tag<'a>, least: f64) -> Option<(f64, Option<String>)> {
        let values = self.values(tag, &["ratio"], &["text"])?;
        let ratio = self.number(tag, &values.text(0), least, 2.0)?;
        Some((ratio, values.optional(1)))
    }

    fn spell(&mut self, tag: &Tag<'a>) -> Option<Piece> {
        let right = self.values(tag, &[], &[]).is_some();
        let inner = self.read(Some(tag));
        match &inner[..] {
            [Piece::Text(text)] if right => Some(Piece::Spell(text.clone())),
            _ if !right || !self.problems.is_empty() => None,
            _ => {
                self.problem(tag, "has nothing to spell");
                None
            }
        }
    }

    fn sound(&mut self, tag: &Tag<'a>, wanted: &str, known: &'static [&'static str]) -> Option<&'static str> {
        let found = known.iter().find(|name| **name == wanted);
        if found.is_none() {
            let nearest = nearest(wanted, known.iter().copied()).unwrap_or_default();
            self.problem(tag, &format!("{wanted:?} is no sound that can be made here; the nearest one is {nearest:?}"));
        }
        found.copied()
    }

    fn share(&mut self, tag: &Tag<'a>, value: Option<&str>, default: f64) -> Option<f64> {
        value.map_or(Some(default), |value| self.number(tag, value, 0.0, 1.0))
    }

    fn number(&mut self, tag: &Tag<'a>, value: &str, least: f64, most: f64) -> Option<f64> {
        let number = value.trim().parse().ok().filter(|number: &f64| (least..=most).contains(number));
        if number.is_none() {
            self.problem(tag, &format!("{value:?} is no number from {least} to {most}"));
        }
        number
    }

    /// The tag that begins here, if one does.
    fn tag(&mut self) -> Option<Tag<'a>> {
        match tag_at(&self.action[self.at..], self.at) {
            Ok(found) => {
                let (tag, length) = found?;
                self.at += length;
                Some(tag)
            }
            Err(begin) => {
                self.problems.push(problem_at(self.action, self.at, &begin, "the tag is not finished: > is missing"));
                // All that follows is inside it.
                self.at = self.action.len();
                None
            }
        }
    }

    fn time(&mut self, tag: &Tag<'a>) -> Option<Duration> {
        let time = self.values(tag, &["time"], &[])?.text(0);
        let parsed = parse_time(&time).filter(|time| *time <= LONGEST_PAUSE);
        if parsed.is_none() {
            self.problem(tag, &format!("{time:?} is no time: write \"2s\", \"1.5s\" or \"500ms\", an hour at most"));
        }
        parsed
    }

    /// The values of these attributes, first the needed ones, then the optional ones; there may be no others.
    fn values(&mut self, tag: &Tag<'a>, needed: &[&str], optional: &[&str]) -> Option<Values> {
        if let Some((name, _)) = tag.attributes.iter().find(|(name, _)| !needed.contains(name) && !optional.contains(name)) {
            self.problem(tag, &format!("has no attribute {name:?}"));
            return None;
        }
        let value = |wanted: &&str| tag.attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| (*value).to_owned());
        if let Some(name) = needed.iter().find(|name| value(name).is_none()) {
            self.problem(tag, &format!("needs the attribute {name}=\"…\""));
            return None;
        }
        Some(Values(needed.iter().chain(optional).map(value).collect()))
    }

    fn problem(&mut self, tag: &Tag<'_>, problem: &str) {
        self.problems.push(problem_at(self.action, tag.start, tag.whole, problem));
    }
}

/// The values of a tag's attributes.
struct Values(Vec<Option<String>>);

impl Values {
    fn text(&self, at: usize) -> String {
        self.optional(at).unwrap_or_default()
    }

    fn optional(&self, at: usize) -> Option<String> {
        self.0.get(at).cloned().flatten()
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &mut String) {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !words.is_empty() {
        pieces.push(Piece::Text(words));
    }
    text.clear();
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
