//! The messages of each telephony provider's dialect, from both sides.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio_tungstenite::tungstenite::Message;
use trunkline::transport::telephony_ws::{CallDetails, Dialect, Outgoing, Provider, Received, Role};
use uuid::Uuid;

fn read(dialect: &mut dyn Dialect, message: Received<'_>) {
    let mut told = Vec::new();
    if let Err(problem) = dialect.read(message, &mut told) {
        assert!(!problem.to_string().is_empty() && !problem.code().is_empty());
    }
}

fuzz_target!(|data: &[u8]| {
    let [which, how, rest @ ..] = data else { return };
    let provider = Provider::ALL[usize::from(*which) % Provider::ALL.len()];
    let format = provider.formats()[usize::from(how >> 2) % provider.formats().len()];
    let role = if how & 1 == 0 { Role::Bot } else { Role::Provider };
    let mut dialect = provider.dialect(role, format);
    if how & 2 == 2 {
        let (stream, call) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let details = CallDetails { stream, call, began_ms: 0, parameters: serde_json::Map::new() };
        let mut messages = Vec::new();
        match role {
            Role::Provider => dialect.write(Outgoing::Begin(&details), &mut messages),
            Role::Bot => provider.dialect(Role::Provider, format).write(Outgoing::Begin(&details), &mut messages),
        }
        for message in messages.iter().filter(|_| role == Role::Bot) {
            if let Message::Text(text) = message {
                read(&mut *dialect, Received::Text(text));
            }
        }
    }
    for line in rest.split(|byte| *byte == b'\n') {
        match line {
            [0, binary @ ..] => read(&mut *dialect, Received::Binary(binary)),
            text => read(&mut *dialect, Received::Text(&String::from_utf8_lossy(text))),
        }
    }
    let mut messages = Vec::new();
    for said in [Outgoing::Audio(&[1; 160]), Outgoing::Mark("m"), Outgoing::Played("m"), Outgoing::Clear, Outgoing::Stop] {
        dialect.write(said, &mut messages);
    }
});
