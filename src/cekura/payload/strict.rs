//! Reads JSON without losing any of it: a key that is there twice, of which other readers keep one, is an error, and so is a number
//! with more digits than a 64-bit float keeps.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads a JSON text whole. The members of objects keep their order.
///
/// # Errors
/// The reader's error, with line and column; also for a key that is twice in an object, and for a number that would be changed.
pub fn read_strictly(text: &str) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader)?;
    reader.end()?;
    match text.lines().enumerate().find_map(|(at, line)| Some((at + 1, changed_number(line)?))) {
        Some((line, number)) => {
            Err(de::Error::custom(format!("the number {number} has more digits than are kept, at line {line}")))
        }
        None => Ok(value),
    }
}

/// The first number of a line of JSON that the reader rounds. No text of JSON goes on in a next line.
fn changed_number(line: &str) -> Option<&str> {
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[at..];
        let end = if rest.starts_with('"') {
            text_length(rest)
        } else {
            let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
            let number = &rest[..end];
            let whole = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
            let kept = number.parse::<f64>().is_ok_and(|float| digits(&format!("{float:e}")) == digits(number));
            if !whole && !kept {
                return Some(number);
            }
            end
        };
        rest = &rest[end..];
    }
    None
}

/// The length of the quoted text that begins here.
fn text_length(quoted: &str) -> usize {
    let mut escaped = false;
    let end = quoted.bytes().skip(1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => byte == b'"',
    });
    end.map_or(quoted.len(), |end| end + 2)
}

/// The digits that count: without sign, point, exponent and the zeros at both ends.
fn digits(number: &str) -> String {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if read.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} is there twice")));
            }
            let value = members.next_value_seed(Strict)?;
            read.insert(key, value);
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read_strictly;

    #[test]
    fn what_would_be_lost_is_an_error() {
        let read = read_strictly(
            r#"{"b": 1.50, "a": [-0, 1e3, 18446744073709551615, 0.1, 100000000000000000000000, "1234567890123456789012 \\"]}"#,
        );
        assert_eq!(
            read.unwrap().to_string(),
            r#"{"b":1.5,"a":[-0.0,1000.0,18446744073709551615,0.1,1e+23,"1234567890123456789012 \\"]}"#
        );
        assert_eq!(read_strictly(r#""\u00e9\"5\"""#).unwrap(), json!("é\"5\""));
        for (lossy, expected) in [
            ("{\n\"a\": 12345678901234567890123}", "the number 12345678901234567890123 has more digits than are kept, at line 2"),
            ("[0.12345678901234567891]", "0.12345678901234567891"),
            ("{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}", "the key \"c\" is there twice at line 1 column 26"),
            ("{} x", "trailing characters"),
        ] {
            let error = read_strictly(lossy).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
