//! `--prepare`: the rooms of a LiveKit payload are made, and the agent is sent into each, so that the payload can be sent at once.

use std::time::Duration;

use livekit_protocol::CreateRoomRequest;
use serde_json::{Map, Value, json};

use super::super::io::{Interruption, say};
use crate::cekura::Mode;
use crate::cekura::payload::room_of;
use crate::error::Failure;
use crate::transport::livekit::chat::text_mode;
use crate::transport::livekit::{Server, ServerError};

/// What the flags say of the rooms.
pub(super) struct Wanted<'a> {
    /// Who is sent into them; none: the agent comes by itself.
    pub(super) agent_name: Option<&'a str>,
    /// What the agent is told.
    pub(super) agent_metadata: Option<&'a Value>,
    /// The rooms' own metadata.
    pub(super) room_metadata: Option<&'a Value>,
    /// How long a room waits for its call.
    pub(super) waits: Duration,
}

/// The rooms that a payload needs.
pub(in super::super) struct Preparation {
    server: Server,
    agent_name: Option<String>,
    room_metadata: String,
    waits: Duration,
    rooms: Vec<PlannedRoom>,
}

struct PlannedRoom {
    name: String,
    /// The entry that it is for, as errors name it.
    entry: String,
    /// What the agent is told there.
    metadata: String,
}

impl Preparation {
    /// The rooms of `body`'s entries: those that their tokens open.
    pub(super) fn of(server: Server, wanted: &Wanted<'_>, mode: Mode, body: &Value) -> Self {
        let entries = body["scenarios"].as_array().into_iter().flatten().enumerate();
        let planned = entries.filter_map(|(at, entry)| {
            let mut told = Map::from_iter([("scenario_id".to_owned(), entry["scenario"].clone())]);
            told.extend(wanted.agent_metadata.and_then(Value::as_object).cloned().unwrap_or_default());
            let metadata = json!(told).to_string();
            Some(PlannedRoom {
                name: room_of(entry["access_token"].as_str()?)?,
                entry: format!("entry {} (scenario {})", at + 1, entry["scenario"]),
                metadata: if mode == Mode::LivekitChat { text_mode(&metadata) } else { metadata },
            })
        });
        let rooms = planned.collect();
        let room_metadata = wanted.room_metadata.map(Value::to_string).unwrap_or_default();
        Self { server, agent_name: wanted.agent_name.map(str::to_owned), room_metadata, waits: wanted.waits, rooms }
    }

    /// Makes the rooms, then does `work`. They are deleted again where not all of them can be made, where `work` fails, and where
    /// with `work` their calls are over.
    pub(in super::super) async fn around<T>(
        this: Option<Self>,
        over: bool,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(preparation) = this else { return work.await };
        preparation.make().await?;
        let done = work.await;
        if done.is_err() || over {
            preparation.delete(&preparation.rooms).await;
        }
        done
    }

    async fn make(&self) -> Result<(), Failure> {
        let names = self.rooms.iter().map(|room| room.name.clone()).collect();
        let there = self.server.list_rooms(names).await.map_err(Failure::infrastructure)?;
        if let Some(room) = there.first() {
            let problem = format!("the room {:?} is at {} already: --prepare makes its own", room.name, self.server.shown());
            return Err(Failure::usage(problem).hint("give another --room, or leave it out"));
        }
        let mut interruption = Interruption::listen()?;
        for (at, room) in self.rooms.iter().enumerate() {
            let made = tokio::select! {
                made = self.make_one(room) => made.map_err(|error| Failure::infrastructure(error_at(room, &error))),
                () = interruption.wait() => Err(Failure::infrastructure(format!("interrupted at {}", room.entry))),
            };
            if let Err(failure) = made {
                // The one that failed may be there all the same.
                self.delete(&self.rooms[..=at]).await;
                return Err(failure.hint(format!("nothing is prepared: the {at} rooms that were made are deleted again")));
            }
        }
        let (rooms, server, waits) = (self.rooms.len(), self.server.shown(), self.waits.as_secs());
        say(&format!("rooms made at {server}: {rooms}; each waits {waits} s for its call"));
        Ok(())
    }

    async fn make_one(&self, room: &PlannedRoom) -> Result<(), ServerError> {
        // Agents do not count: a room with nobody else in it is empty.
        let empty_timeout = u32::try_from(self.waits.as_secs()).unwrap_or(u32::MAX);
        let (name, metadata) = (room.name.clone(), self.room_metadata.clone());
        self.server.create_room(CreateRoomRequest { name, metadata, empty_timeout, ..Default::default() }).await?;
        if let Some(agent) = &self.agent_name {
            self.server.dispatch(&room.name, agent, &room.metadata).await?;
        }
        Ok(())
    }

    /// Deletes rooms; one that is still there afterwards is told of.
    async fn delete(&self, rooms: &[PlannedRoom]) {
        for room in rooms {
            if let Err(error) = self.server.delete_room(&room.name).await {
                say(&format!("the room {:?} is still there: {error}", room.name));
            }
        }
    }
}

fn error_at(room: &PlannedRoom, error: &ServerError) -> String {
    format!("{}, room {:?}: {error}", room.entry, room.name)
}
