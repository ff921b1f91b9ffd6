//! The API's error bodies, in all the shapes that they come in, as one line.
//!
//! Seen are `{"field": ["text"]}`, `["text"]`, `{"detail": "text"}`, `{"errors": {"scenarios[0].name": ["text"]}}`, a bare
//! JSON text, an empty body, and a gateway's HTML page.

use serde_json::Value;

/// The longest line that is made of a body, in characters.
const LONGEST: usize = 500;

/// What the body of an error answer says, in one line.
pub(super) fn message(body: &[u8]) -> String {
    let said = one_line(&said(body).join("; "));
    if said.is_empty() { "no reason given".into() } else { said }
}

/// What the body of an error answer says, an error a line.
pub(super) fn details(body: &[u8]) -> Vec<String> {
    said(body).iter().map(|line| one_line(line)).filter(|line| !line.is_empty()).collect()
}

fn said(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match serde_json::from_str::<Value>(text) {
        Ok(value) => {
            let mut lines = Vec::new();
            collect("", &value, &mut lines);
            lines
        }
        Err(_) if text.starts_with('<') => vec![html(text)],
        Err(_) => vec![text.to_owned()],
    }
}

/// Walks over an error body. The keys on the way down are the field's path; wrappers without meaning are left out.
fn collect(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (key, inner) in members {
                let path = match (path, key.as_str()) {
                    (_, "detail" | "errors" | "error" | "message" | "non_field_errors") => path.to_owned(),
                    ("", key) => key.to_owned(),
                    (path, key) => format!("{path}.{key}"),
                };
                collect(&path, inner, lines);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(path, item, lines)),
        Value::String(text) => lines.push(labelled(path, text)),
        other => lines.push(labelled(path, &other.to_string())),
    }
}

fn labelled(path: &str, text: &str) -> String {
    if path.is_empty() { text.to_owned() } else { format!("{path}: {text}") }
}

fn html(text: &str) -> String {
    // The text is cut by the positions in its ASCII-lowercase copy, which has the same byte offsets.
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + "<title>".len()).and_then(|start| {
        let end = start + lower[start..].find("</title>")?;
        Some(text[start..end].trim().to_owned())
    });
    match title {
        Some(title) if !title.is_empty() => format!("an HTML page: {title}"),
        _ => "an HTML page".into(),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn every_envelope_becomes_one_clear_line() {
        let cases: [(&str, &str); 14] = [
            (
                r#"{"scenarios": ["Invalid scenario IDs or scenarios not found"]}"#,
                "scenarios: Invalid scenario IDs or scenarios not found",
            ),
            (
                r#"{"agent_id": ["A valid integer is required."], "name": ["Too long."]}"#,
                "agent_id: A valid integer is required.; name: Too long.",
            ),
            (r#"["Agent does not have a websocket URL"]"#, "Agent does not have a websocket URL"),
            (r#"{"detail": "Insufficient balance for this operation"}"#, "Insufficient balance for this operation"),
            (
                r#"{"errors": {"scenarios[0].instructions": ["Required.", "Too short."]}}"#,
                "scenarios[0].instructions: Required.; scenarios[0].instructions: Too short.",
            ),
            (r#"{"scenarios[0].instructions": ["Required."]}"#, "scenarios[0].instructions: Required."),
            (r#"{"livekit_data": {"url": ["Enter a valid URL."]}}"#, "livekit_data.url: Enter a valid URL."),
            (r#"{"non_field_errors": ["Pick one."]}"#, "Pick one."),
            (r#""run_ids must be comma-separated integers""#, "run_ids must be comma-separated integers"),
            ("run_ids must be\n comma-separated", "run_ids must be comma-separated"),
            ("<html><head><TITLE>502 Bad\nGateway</TITLE></head></html>", "an HTML page: 502 Bad Gateway"),
            ("<html>İ", "an HTML page"),
            ("", "no reason given"),
            (r#"{"detail": null}"#, "no reason given"),
        ];
        for (body, line) in cases {
            assert_eq!(message(body.as_bytes()), line, "{body}");
        }
    }

    #[test]
    fn a_suites_errors_come_with_and_without_a_wrapper_one_a_line() {
        let errors = r#"{"scenarios[0].instructions": ["Required.", "Too short."], "agent_id": ["Unknown."]}"#;
        let lines = ["scenarios[0].instructions: Required.", "scenarios[0].instructions: Too short.", "agent_id: Unknown."];
        assert_eq!(super::details(errors.as_bytes()), lines);
        assert_eq!(super::details(format!("{{\"errors\": {errors}}}").as_bytes()), lines);
        assert!(super::details(b"  ").is_empty());
    }

    #[test]
    fn a_hostile_body_stays_one_short_line() {
        let body = format!("{{\"detail\": \"{}\\u001b[31m\\n{}\"}}", "ä".repeat(4000), "b".repeat(4000));
        let line = message(body.as_bytes());
        assert!(line.chars().count() <= super::LONGEST + 1 && !line.contains('\u{1b}') && !line.contains('\n'));
        assert_eq!(message(&[0xff, 0xfe, b'\n']), "\u{fffd}\u{fffd}");
        // Deeper than the parser goes: reported as text, not as a crash.
        assert!(message("[".repeat(100_000).as_bytes()).starts_with("[["));
    }
}
