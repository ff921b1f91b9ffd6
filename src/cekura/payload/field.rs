//! What a body's fields are.

/// A key of the body, or of an object in it, and what it holds.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) required: bool,
}

impl Field {
    pub(super) const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false, required: false }
    }

    pub(super) const fn nullable(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: true, required: false }
    }

    pub(super) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false, required: true }
    }
}

/// What a field holds.
pub(super) enum Kind {
    /// An id: a whole number from 1.
    Id,
    /// A list of ids, not empty.
    Ids,
    /// How often or how many: a whole number from 1.
    Count,
    /// A whole number from 1 to this.
    UpTo(i64),
    /// A text of at most `longest` characters, not empty.
    Text { longest: Option<usize> },
    /// A list of texts.
    Texts { may_be_empty: bool },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A `ws://` or `wss://` address.
    WebSocketUrl,
    /// A `ws://`, `wss://`, `http://` or `https://` address.
    RoomUrl,
    /// A list of scenario ids, a number (the first N of the agent's) or `"all"`.
    Scenarios,
    /// A list of objects with these members, one a run, not empty.
    Entries(&'static [Field]),
    /// An object with these members.
    Object(&'static [Field]),
    /// Any object.
    AnyObject,
    /// An object whose values are texts.
    TextMap,
    /// A LiveKit access token: a JSON Web Token that is valid and opens a room. Never shown.
    RoomToken,
    /// Some other secret text. Never shown.
    Secret,
    /// A test suite in the format of `run_scenarios_json`.
    Suite,
}
