//! What stands between `{{` and `}}` in a text, and what is put in its place.

use serde_json::Value;

/// The text with a value for each `{{name}}`. What a value holds is not read again.
///
/// # Errors
/// The first name that has no value, or one that is not closed.
pub(crate) fn fill<'t>(text: &'t str, value: &mut dyn FnMut(&'t str) -> Result<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            return Err(format!("{{{{{after}: the closing }}}} is missing"));
        };
        filled.push_str(before);
        filled.push_str(&value(name.trim())?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Every text of a JSON value as `fill` gives it; keys stay as they are.
///
/// # Errors
/// The first that `fill` gives.
pub(crate) fn fill_json<E>(json: &Value, fill: &mut dyn FnMut(&str) -> Result<String, E>) -> Result<Value, E> {
    Ok(match json {
        Value::String(text) => Value::String(fill(text)?),
        Value::Array(list) => Value::Array(list.iter().map(|item| fill_json(item, fill)).collect::<Result<_, _>>()?),
        Value::Object(object) => {
            let field = |(key, value): (&String, &Value)| Ok((key.clone(), fill_json(value, fill)?));
            Value::Object(object.iter().map(field).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

/// The names in a text, in order.
///
/// # Errors
/// One that is not closed.
pub(super) fn names(text: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    fill(text, &mut |name| {
        names.push(name);
        Ok(String::new())
    })?;
    Ok(names)
}

/// The function and the key of a name that stands for what a function gives.
pub(crate) fn function_and_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("function.")?.split_once('.')
}

/// The `{{function.name.key}}` in a text, as name and key.
pub(crate) fn placeholders(text: &str) -> Vec<(&str, &str)> {
    names(text).unwrap_or_default().into_iter().filter_map(function_and_key).collect()
}
