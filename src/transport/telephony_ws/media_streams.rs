//! What the dialects share that put all into JSON text, audio as base64 in it: a `start`, then `media`, `dtmf` and marks, then a `stop`.
//! Each spells it in its own way.

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::dialect::{BadMessage, CallDetails, Dialect, Format, Incoming, Outgoing, Received, Role, Start};
use super::json::{audio, digit, digits, field, number, object, payload, string};
use super::order::Order;

/// How a provider spells it.
pub(super) struct Spelling {
    /// Where each message carries the stream's id.
    pub(super) stream: &'static str,
    /// Where the start carries it.
    pub(super) stream_of_start: &'static str,
    /// Whether a bot's messages carry it too.
    pub(super) bot_names_stream: Naming,
    /// The provider's sound comes in order; else `media.chunk` tells it.
    pub(super) in_order: bool,
    /// The fewest bytes of a bot's sound that the provider plays without a gap.
    pub(super) least: usize,
    /// Where each message of the provider carries its number.
    pub(super) sequence: &'static str,
    /// Numbers are written as numbers, not as strings.
    pub(super) numbers: bool,
    pub(super) words: Words,
    /// The provider's messages before its first sound.
    pub(super) begin: fn(&CallDetails, Format) -> Vec<Value>,
    /// The provider's last message.
    pub(super) stop: fn(&CallDetails) -> Option<Value>,
    /// The stream's id.
    pub(super) stream_id: fn(&CallDetails) -> String,
    /// The parameters in a start.
    pub(super) parameters: fn(&Map<String, Value>) -> Map<String, Value>,
    /// The form of the audio, as a start says it.
    pub(super) format: fn(&Map<String, Value>) -> Result<Format, BadMessage>,
    /// The `media` of a bot's sound.
    pub(super) media: fn(Format, String) -> Value,
    /// The `dtmf` of the provider's digit.
    pub(super) dtmf: fn(char, u64) -> Value,
}

/// Whether something is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// It must be.
    Always,
    /// It may be, and we write it.
    Often,
    /// It is not.
    Never,
}

/// The events beside the provider's sound.
pub(super) struct Words {
    /// A bot's: sound, a mark, a clear.
    pub(super) play: &'static str,
    pub(super) mark: &'static str,
    pub(super) clear: &'static str,
    /// A bot's: a key that the provider is to press. What is pressed stands in `dtmf`.
    pub(super) press: Option<&'static str>,
    /// The provider's answer to a mark.
    pub(super) played: &'static str,
    /// The provider's answer to a clear.
    pub(super) cleared: Option<&'static str>,
    /// Where a mark's name stands.
    pub(super) name: &'static str,
}

impl Words {
    /// Twilio's, which most providers have taken over.
    pub(super) const TWILIO: Self =
        Self { play: "media", mark: "mark", clear: "clear", press: None, played: "mark", cleared: None, name: "mark.name" };
}

/// One call in such a dialect.
pub(super) struct MediaStreams {
    spelling: &'static Spelling,
    role: Role,
    format: Format,
    /// The stream's id, once it has begun.
    stream: Option<String>,
    /// What we, as the provider, say of the call.
    call: Option<CallDetails>,
    sequence: u64,
    chunk: u64,
    samples: u64,
    /// As the bot, where the provider's sound may come out of order.
    order: Option<Order>,
}

impl MediaStreams {
    pub(super) fn new(spelling: &'static Spelling, role: Role, format: Format) -> Self {
        let order = (role == Role::Bot && !spelling.in_order).then(Order::default);
        Self { spelling, role, format, stream: None, call: None, sequence: 0, chunk: 0, samples: 0, order }
    }

    /// The message is of this stream, which has begun.
    fn is_ours(&self, event: &str, message: &Map<String, Value>) -> Result<(), BadMessage> {
        let ours = self.stream.as_ref().ok_or_else(|| BadMessage::Early(event.to_owned()))?;
        let named = self.role == Role::Bot || self.spelling.bot_names_stream == Naming::Always;
        match field(message, self.spelling.stream).and_then(Value::as_str) {
            Some(theirs) if theirs == ours => Ok(()),
            Some(theirs) => Err(BadMessage::Stream { theirs: theirs.to_owned(), ours: ours.clone() }),
            None if named => Err(BadMessage::Field(self.spelling.stream, "string")),
            None => Ok(()),
        }
    }

    /// A message of the provider.
    fn of_provider(&mut self, message: Map<String, Value>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        let event = string(&message, "event")?.to_owned();
        match event.as_str() {
            "connected" => return Ok(()),
            "start" => return self.start(message).map(|start| told.push(start)),
            _ => {}
        }
        // What the bot's side of the call said, where a stream carries both.
        let of_bot = event == "media" && field(&message, "media.track").and_then(Value::as_str) == Some("outbound");
        let meant = match event.as_str() {
            "media" if of_bot => None,
            "media" => Some(Incoming::Audio(audio(&message, "media.payload", self.format)?)),
            "dtmf" => Some(Incoming::Dtmf(digit(&message, "dtmf.digit")?)),
            "stop" => Some(Incoming::Stop("the provider's stream stopped".to_owned())),
            "error" => Some(Incoming::Data(Value::Object(message.clone()))),
            event if event == self.spelling.words.played => {
                Some(Incoming::Played(string(&message, self.spelling.words.name)?.to_owned()))
            }
            event if self.spelling.words.cleared == Some(event) => None,
            other => return Err(BadMessage::Unknown(other.to_owned())),
        };
        self.is_ours(&event, &message)?;
        match (meant, &mut self.order) {
            (Some(Incoming::Audio(samples)), Some(order)) => match number(&message, "media.chunk") {
                Some(chunk) => order.take(chunk, samples, told),
                None => told.push(Incoming::Audio(samples)),
            },
            (meant, Some(order)) => {
                // Of two tracks it is not known whether they are counted together.
                if of_bot || matches!(meant, Some(Incoming::Stop(_))) {
                    order.end(told);
                    self.order = None;
                }
                told.extend(meant);
            }
            (meant, None) => told.extend(meant),
        }
        Ok(())
    }

    fn start(&mut self, message: Map<String, Value>) -> Result<Incoming, BadMessage> {
        if self.stream.is_some() {
            return Err(BadMessage::Twice);
        }
        field(&message, "start").and_then(Value::as_object).ok_or(BadMessage::Field("start", "object"))?;
        let stream = string(&message, self.spelling.stream_of_start)?.to_owned();
        self.format = (self.spelling.format)(&message)?;
        self.stream = Some(stream);
        let parameters = (self.spelling.parameters)(&message);
        Ok(Incoming::Start(Start::new(Value::Object(message), &parameters)))
    }

    /// A message of a bot.
    fn of_bot(&self, message: &Map<String, Value>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        let event = string(message, "event")?;
        let meant = match event {
            event if event == self.spelling.words.play => Incoming::Audio(audio(message, "media.payload", self.format)?),
            event if event == self.spelling.words.mark => Incoming::Mark(string(message, self.spelling.words.name)?.to_owned()),
            event if event == self.spelling.words.clear => Incoming::Clear,
            event if self.spelling.words.press == Some(event) => {
                let keys = digits(message, "dtmf")?;
                self.is_ours(event, message)?;
                told.extend(keys.into_iter().map(Incoming::Dtmf));
                return Ok(());
            }
            other => return Err(BadMessage::Unknown(other.to_owned())),
        };
        self.is_ours(event, message)?;
        told.push(meant);
        Ok(())
    }

    fn numeral(&self, number: u64) -> Value {
        if self.spelling.numbers { number.into() } else { number.to_string().into() }
    }

    /// A message of the provider, with its number and the stream's id.
    fn numbered(&mut self, event: &str, more: impl IntoIterator<Item = (&'static str, Value)>) -> Message {
        self.sequence += 1;
        let mut message = Map::new();
        message.insert("event".to_owned(), event.into());
        message.insert(self.spelling.sequence.to_owned(), self.numeral(self.sequence));
        message.insert(self.spelling.stream.to_owned(), self.stream.clone().into());
        message.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Message::text(Value::Object(message).to_string())
    }

    /// A message of a bot.
    fn plain(&self, event: &str, more: Option<(&'static str, Value)>) -> Message {
        let mut message = Map::new();
        message.insert("event".to_owned(), event.into());
        if self.spelling.bot_names_stream != Naming::Never {
            message.insert(self.spelling.stream.to_owned(), self.stream.clone().into());
        }
        message.extend(more.map(|(name, value)| (name.to_owned(), value)));
        Message::text(Value::Object(message).to_string())
    }

    /// A mark's name where it belongs.
    fn named(&self, name: &str) -> (&'static str, Value) {
        match self.spelling.words.name.split_once('.') {
            Some((outer, inner)) => (outer, json!({ inner: name })),
            None => (self.spelling.words.name, name.into()),
        }
    }

    fn begin(&mut self, call: &CallDetails) -> Vec<Message> {
        self.stream = Some((self.spelling.stream_id)(call));
        self.call = Some(call.clone());
        let said = (self.spelling.begin)(call, self.format);
        // The start is the first message that has a number.
        self.sequence = 1;
        said.into_iter().map(|message| Message::text(message.to_string())).collect()
    }

    fn say(&mut self, said: Outgoing<'_>) -> Option<Message> {
        let spelling = self.spelling;
        match (self.role, said) {
            (Role::Provider, Outgoing::Audio(samples)) => {
                self.chunk += 1;
                let began = self.call.as_ref().filter(|_| spelling.numbers).map_or(0, |call| call.began_ms);
                let timestamp = began + self.format.rate.duration_of(self.samples).as_millis() as u64;
                self.samples += samples.len() as u64;
                let media = json!({
                    "track": "inbound",
                    "chunk": self.numeral(self.chunk),
                    "timestamp": timestamp.to_string(),
                    "payload": payload(samples, self.format),
                });
                Some(self.numbered("media", [("media", media)]))
            }
            (Role::Provider, Outgoing::Dtmf(digit)) => {
                let timestamp = self.format.rate.duration_of(self.samples).as_millis() as u64;
                Some(self.numbered("dtmf", [("dtmf", (spelling.dtmf)(digit, timestamp))]))
            }
            (Role::Provider, Outgoing::Played(name)) => {
                let name = self.named(name);
                Some(self.numbered(spelling.words.played, [name]))
            }
            (Role::Provider, Outgoing::Stop) => {
                let stop = (spelling.stop)(self.call.as_ref()?)?;
                Some(self.numbered("stop", [("stop", stop)]))
            }
            (Role::Bot, Outgoing::Audio(samples)) => {
                let media = (spelling.media)(self.format, payload(samples, self.format));
                Some(self.plain(spelling.words.play, Some(("media", media))))
            }
            (Role::Bot, Outgoing::Mark(name)) => Some(self.plain(spelling.words.mark, Some(self.named(name)))),
            (Role::Bot, Outgoing::Dtmf(digit)) => {
                spelling.words.press.map(|press| self.plain(press, Some(("dtmf", digit.to_string().into()))))
            }
            (Role::Bot, Outgoing::Clear) => Some(self.plain(spelling.words.clear, None)),
            _ => None,
        }
    }
}

impl Dialect for MediaStreams {
    fn format(&self) -> Format {
        self.format
    }

    fn read(&mut self, message: Received<'_>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        let text = match message {
            Received::Text(text) => text,
            Received::Binary(bytes) => return Err(BadMessage::Binary(bytes.len())),
        };
        let message = object(text)?;
        match self.role {
            Role::Bot => self.of_provider(message, told)?,
            Role::Provider => {
                self.of_bot(&message, told)?;
                if let (Some(Incoming::Clear), Some(cleared)) = (told.last(), self.spelling.words.cleared) {
                    told.push(Incoming::Answer(self.numbered(cleared, [])));
                }
            }
        }
        Ok(())
    }

    fn least(&self) -> usize {
        if self.role == Role::Bot { self.spelling.least.div_ceil(self.format.bytes_of_sample()) } else { 0 }
    }

    fn presses_keys(&self) -> bool {
        self.spelling.words.press.is_some()
    }

    fn write(&mut self, said: Outgoing<'_>, messages: &mut Vec<Message>) {
        match said {
            Outgoing::Begin(call) => messages.extend(self.begin(call)),
            said => messages.extend(self.say(said)),
        }
    }
}
