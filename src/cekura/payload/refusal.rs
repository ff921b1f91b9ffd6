//! What the API says of a body that it does not take. It is more lenient than [`super::check`]: numbers may be texts, null is as
//! good as nothing, and keys that it does not know are ignored.

use serde_json::{Map, Value, json};

use super::Mode;
use super::check::check_field;
use super::field::{Field, Kind};
use super::fix::unquote;

/// The body as the API reads it: without unknown keys and nulls, numbers as numbers.
pub(crate) fn as_read(mode: Mode, body: &Map<String, Value>) -> Map<String, Value> {
    mode.fields().filter_map(|field| Some((field.name.to_owned(), read(field, body.get(field.name)?)?))).collect()
}

/// The API's error map, field by field, for a body as [`as_read`] gives it; empty when it takes the body.
pub(crate) fn refusals(mode: Mode, body: &Map<String, Value>) -> Map<String, Value> {
    let mut errors = Map::new();
    for field in mode.fields() {
        let Some(value) = body.get(field.name) else {
            if field.required {
                errors.insert(field.name.to_owned(), json!(["This field is required."]));
            }
            continue;
        };
        let mut found = Vec::new();
        check_field("$", field, value, &mut found);
        let whole = format!("$.{}", field.name);
        let message = |misfit: super::Misfit| {
            let place = misfit.path.strip_prefix(&whole).unwrap_or(&misfit.path).to_owned();
            format!("{place} {}; expected {}.", misfit.problem, misfit.expected).trim_start().to_owned()
        };
        if !found.is_empty() {
            errors.insert(field.name.to_owned(), found.into_iter().map(message).collect());
        }
    }
    errors
}

fn read(field: &Field, value: &Value) -> Option<Value> {
    let mut value = value.clone();
    match &field.kind {
        Kind::Id | Kind::Count | Kind::UpTo(_) => unquote(&mut value),
        Kind::Ids | Kind::Scenarios => unquote_ids(&mut value),
        Kind::Text { .. } if value.is_number() => value = value.to_string().into(),
        Kind::Entries(members) => {
            for entry in value.as_array_mut().into_iter().flatten() {
                if let Value::Object(entry) = entry {
                    *entry = known(members, entry);
                }
            }
        }
        Kind::Object(members) => {
            if let Value::Object(object) = &mut value {
                *object = known(members, object);
            }
        }
        _ => {}
    }
    (!value.is_null()).then_some(value)
}

fn known(members: &'static [Field], object: &Map<String, Value>) -> Map<String, Value> {
    members.iter().filter_map(|member| Some((member.name.to_owned(), read(member, object.get(member.name)?)?))).collect()
}

/// Quoted numbers as numbers; an object stays what it is, which is a misfit.
fn unquote_ids(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(unquote),
        other => unquote(other),
    }
}
