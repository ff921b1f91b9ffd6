//! The REST calls that a scenario declares in `functions[]`: their shape, checked, and what is taken from an answer.
//!
//! Shape and limits are those of Cekura's page on structured tests.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::spelling::known_keys;

/// How long a call may take where the file does not say, and the longest that it may say.
const TIMEOUT_S: u64 = 10;
const LONGEST_TIMEOUT_S: u64 = 30;
const LONGEST_NAME: usize = 64;
const KEYS: &[&str] = &["name", "type", "auto_run", "config"];
const CONFIG_KEYS: &[&str] = &["method", "url", "headers", "query_params", "body", "timeout_seconds", "response_mapping"];

/// A REST call that the caller makes. Texts still hold their `{{…}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name in tags and placeholders.
    pub name: String,
    /// Made at the call's start, beside it; else only by its tag.
    pub auto_run: bool,
    /// POST instead of GET.
    pub post: bool,
    /// `http` or `https`.
    pub url: String,
    /// Header lines: a secret, most often.
    pub headers: Headers,
    /// Query parameters.
    pub query: Vec<(String, String)>,
    /// The body of a POST: a text as it is, anything else as JSON.
    pub body: Option<Value>,
    /// The longest time for the answer.
    pub timeout: Duration,
    /// What is taken from the answer.
    pub outputs: Vec<Output>,
}

/// Header lines whose values no log may show.
#[derive(Clone, PartialEq)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A value of the answer: `{{function.NAME.KEY}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its key.
    pub key: String,
    path: Vec<Segment>,
    /// Its value where the answer has none, or there is no answer.
    pub default: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Key(String),
    /// From the end when negative.
    Index(i64),
}

impl Output {
    /// Its value in `answer`, else its default.
    #[must_use]
    pub fn of(&self, answer: &Value) -> Option<String> {
        let step = |value: &Value, segment: &Segment| match segment {
            Segment::Key(key) => value.get(key).cloned(),
            Segment::Index(index) => {
                let list = value.as_array()?;
                let from_end = |index: i64| list.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
                let at = if *index < 0 { from_end(*index)? } else { usize::try_from(*index).ok()? };
                list.get(at).cloned()
            }
        };
        let found = self.path.iter().try_fold(answer.clone(), |value, segment| step(&value, segment));
        found.filter(|value| !value.is_null()).map(|value| as_text(&value)).or_else(|| self.default.clone())
    }
}

/// A value as it is said: a text without its quotes, anything else as JSON.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Function {
    /// Reads an entry of `functions[]`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(json: &Value) -> Result<Self, String> {
        let object = json.as_object().ok_or("a function is a JSON object")?;
        known_keys(object, KEYS)?;
        let name = object.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
            return Err(format!("a function's \"name\" is 1 to {LONGEST_NAME} letters, digits, _ and -, not {name:?}"));
        }
        let of = |problem: String| format!("function {name:?}: {problem}");
        if object.get("type").and_then(Value::as_str) != Some("rest_api") {
            return Err(of("\"type\" must be \"rest_api\"".to_owned()));
        }
        let auto_run = match object.get("auto_run") {
            None => true,
            Some(value) => value.as_bool().ok_or_else(|| of("\"auto_run\" must be true or false".to_owned()))?,
        };
        let config =
            object.get("config").and_then(Value::as_object).ok_or_else(|| of("\"config\" must be an object".to_owned()))?;
        Self::configured(&name, auto_run, config).map_err(of)
    }

    fn configured(name: &str, auto_run: bool, config: &Map<String, Value>) -> Result<Self, String> {
        known_keys(config, CONFIG_KEYS)?;
        let post = match config.get("method").and_then(Value::as_str) {
            Some("GET") => false,
            Some("POST") => true,
            _ => return Err("\"method\" must be \"GET\" or \"POST\"".to_owned()),
        };
        let url = config.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("\"url\" must begin with http:// or https://".to_owned());
        }
        let body = config.get("body").filter(|body| !body.is_null()).cloned();
        if body.is_some() && !post {
            return Err("only a POST has a \"body\"".to_owned());
        }
        let seconds = config.get("timeout_seconds").map_or(Some(TIMEOUT_S), Value::as_u64);
        let seconds = seconds.filter(|seconds| (1..=LONGEST_TIMEOUT_S).contains(seconds));
        let seconds = seconds.ok_or(format!("\"timeout_seconds\" must be a whole number from 1 to {LONGEST_TIMEOUT_S}"))?;
        Ok(Self {
            name: name.to_owned(),
            auto_run,
            post,
            url,
            headers: Headers(pairs(config, "headers")?),
            query: pairs(config, "query_params")?,
            body,
            timeout: Duration::from_secs(seconds),
            outputs: outputs(config.get("response_mapping"))?,
        })
    }
}

fn pairs(config: &Map<String, Value>, key: &str) -> Result<Vec<(String, String)>, String> {
    let Some(value) = config.get(key).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let object = value.as_object().ok_or(format!("{key:?} must be an object"))?;
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(_) | Value::Number(_) => Ok((name.clone(), as_text(value))),
        _ => Err(format!("{key:?}: {name:?} must be a text or a number")),
    };
    object.iter().map(pair).collect()
}

fn outputs(mapping: Option<&Value>) -> Result<Vec<Output>, String> {
    let Some(mapping) = mapping.filter(|mapping| !mapping.is_null()) else { return Ok(Vec::new()) };
    let object = mapping.as_object().ok_or("\"response_mapping\" must be an object")?;
    let output = |(key, value): (&String, &Value)| {
        let (path, default) = match value {
            Value::String(path) => (Some(path.as_str()), None),
            Value::Object(entry) => {
                known_keys(entry, &["path", "default"])?;
                (entry.get("path").and_then(Value::as_str), entry.get("default").filter(|default| !default.is_null()))
            }
            _ => (None, None),
        };
        let path = path.ok_or(format!("\"response_mapping\": {key:?} must be a path, or {{\"path\": …, \"default\": …}}"))?;
        let path = segments(path).ok_or(format!(
            "\"response_mapping\": {key:?}: {path:?} is no path such as $.data.status, $.items[0] or $.meta[\"order-id\"]"
        ))?;
        Ok(Output { key: key.clone(), path, default: default.map(as_text) })
    };
    object.iter().map(output).collect()
}

/// Dotted keys, indices and keys in brackets: one exact value, no wildcards.
fn segments(path: &str) -> Option<Vec<Segment>> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut segments = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (segment, after) = match quote {
                Some(quote) => {
                    let (key, after) = inner[1..].split_once(quote)?;
                    (Segment::Key(key.to_owned()), after.strip_prefix(']')?)
                }
                None => {
                    let (index, after) = inner.split_once(']')?;
                    (Segment::Index(index.trim().parse().ok()?), after)
                }
            };
            segments.push(segment);
            rest = after;
        } else {
            let inner = rest.strip_prefix('.')?;
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            let key = &inner[..end];
            if key.is_empty() || key.contains(['*', '?', '@', ' ']) {
                return None;
            }
            segments.push(Segment::Key(key.to_owned()));
            rest = &inner[end..];
        }
    }
    Some(segments)
}
