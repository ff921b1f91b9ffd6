//! Reads a chat completion: one JSON document, or a stream of server-sent events that are gathered into one. Owns no socket.

use serde_json::Value;

use super::protocol::shortened;
use crate::call::FunctionCall;

/// The longest piece of an answer that an error shows, in characters.
const SHOWN: usize = 200;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Completion {
    pub(super) content: String,
    pub(super) calls: Vec<FunctionCall>,
    /// As the server counts, where it says.
    pub(super) usage: Value,
}

/// Takes an answer in, piece by piece.
pub(super) struct Reader {
    streamed: bool,
    bytes: Vec<u8>,
    gathered: Completion,
    /// The stream has said that it is whole.
    whole: bool,
    /// Nothing follows.
    done: bool,
}

impl Reader {
    pub(super) fn new(streamed: bool) -> Self {
        Self { streamed, bytes: Vec::new(), gathered: Completion::default(), whole: false, done: false }
    }

    /// The stream has ended, whatever its connection does.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// True: some of the answer itself has come.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.bytes.extend_from_slice(bytes);
        if !self.streamed {
            return Ok(true);
        }
        while !self.done
            && let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n')
        {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            self.line(&line)?;
        }
        Ok(!self.gathered.content.is_empty() || !self.gathered.calls.is_empty())
    }

    /// One line of the stream; the data of an event is in one line here.
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
            // A server that cannot stream answers with the document itself.
            return if line.trim_ascii_start().starts_with(b"{") { Err("the answer is not a stream".to_owned()) } else { Ok(()) };
        };
        if data == b"[DONE]" {
            (self.whole, self.done) = (true, true);
            return Ok(());
        }
        let chunk = parse(data)?;
        if let Some(usage) = chunk.get("usage").filter(|usage| !usage.is_null()) {
            self.gathered.usage = usage.clone();
        }
        let Some(choice) = chunk.pointer("/choices/0") else { return Ok(()) };
        self.whole |= choice["finish_reason"].is_string();
        let delta = &choice["delta"];
        self.gathered.content.push_str(delta["content"].as_str().unwrap_or_default());
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            self.piece_of_call(piece);
        }
        Ok(())
    }

    /// A call comes in pieces: the first has its id and name, which some servers repeat, each a part of its arguments.
    fn piece_of_call(&mut self, piece: &Value) {
        let calls = &mut self.gathered.calls;
        let place = piece["index"].as_u64().map_or(calls.len(), |index| index as usize).min(calls.len());
        if place == calls.len() {
            calls.push(FunctionCall { id: String::new(), name: String::new(), arguments: Value::String(String::new()) });
        }
        let call = &mut calls[place];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if call.id.is_empty() {
            call.id = text(&piece["id"]);
        }
        if call.name.is_empty() {
            call.name = text(&piece["function"]["name"]);
        }
        if let Value::String(arguments) = &mut call.arguments {
            arguments.push_str(&text(&piece["function"]["arguments"]));
        }
    }

    pub(super) fn finish(mut self) -> Result<Completion, String> {
        if self.streamed {
            let rest = std::mem::take(&mut self.bytes);
            if !self.done {
                self.line(&rest)?;
            }
            return if self.whole { Ok(self.gathered) } else { Err("the stream was cut off before its end".to_owned()) };
        }
        let answer = parse(&self.bytes)?;
        let message = answer.pointer("/choices/0/message").ok_or("the answer has no choices[0].message")?;
        let content = message["content"].as_str().or_else(|| message["refusal"].as_str()).unwrap_or_default().to_owned();
        let calls = message["tool_calls"].as_array().into_iter().flatten().filter_map(call).collect();
        Ok(Completion { content, calls, usage: answer["usage"].clone() })
    }
}

fn call(call: &Value) -> Option<FunctionCall> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let arguments = call["function"]["arguments"].clone();
    Some(FunctionCall { id: text(&call["id"])?, name: text(&call["function"]["name"])?, arguments })
}

/// A document of the server; one that holds an error is one.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    let document: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("the answer is not JSON ({error}): {}", shown(bytes)))?;
    if document.get("error").is_some_and(|error| !error.is_null()) {
        return Err(format!("it reports: {}", complaint(bytes)));
    }
    Ok(document)
}

/// What an error's body says, in one line, whatever its shape.
pub(super) fn complaint(body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = ["/error/message", "/error", "/message", "/detail"].iter().find_map(|place| document.pointer(place)?.as_str());
    said.map_or_else(|| shown(body), |said| shown(said.as_bytes()))
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "an empty body".to_owned() } else { shortened(&line, SHOWN) }
}
