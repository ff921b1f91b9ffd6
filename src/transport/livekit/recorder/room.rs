//! The recording of one room: from joining it until it ends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use livekit_protocol::AgentDispatch;
use livekit_protocol::agent::agent_session_message::Message;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::super::session::{self, AgentSession};
use super::super::{
    Data, Disconnect, Grants, JoinError, Participant, ParticipantKind, Room, RoomEvent, RoomOptions, Server, Track,
};
use super::seats::{Seats, file_name, kind_name};
use super::{FinishedRoom, RoomProblem, ties};
use crate::audio::Rate;
use crate::call::{CallControl, CallEnd, CallIds, CallTime, EndReason, Event, LegEvent, LoggedEvent, MarkSource, Side, Tape};
use crate::record::{CallInfo, PartyInfo, Recorder, RoomInfo, RoomTrack, TrackId};
use crate::transport::livekit::ServerError;
use crate::transport::webrtc::{PlacedBy, PlacedRun, RoomClock, RtpAudio, SenderReport, Timeline, TimelineCounts};

/// What is recorded, and WebRTC's own rate.
const RATE: Rate = Rate::HZ_48000;
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long joining may take.
const JOIN_TIME: Duration = Duration::from_secs(15);
/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the token is valid; the server renews it while we are in the room.
const TOKEN_VALID: Duration = Duration::from_secs(600);
/// Lost packets are told of so often.
const LOSS_EVERY: Duration = Duration::from_secs(1);
/// How often the server is asked for the room's run while it is not known: at first, and after [`SOON`].
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_LATER: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(60);
/// What the identity of a recorder begins with.
const IDENTITY: &str = "trunkline-recorder";
const STATE: &str = "lk.agent.state";
const TRANSCRIPTION: &str = "lk.transcription";
const SESSION: &str = "lk.agent.session";

/// What a room's recording must know beforehand.
pub(super) struct Plan {
    pub(super) server: Server,
    pub(super) name: String,
    /// The server's id of the room that was found.
    pub(super) sid: String,
    pub(super) agent: Option<String>,
    pub(super) ids: CallIds,
    pub(super) folder: PathBuf,
}

type Looking = Pin<Box<dyn Future<Output = Result<Vec<AgentDispatch>, ServerError>> + Send>>;

/// A room that is being recorded.
pub(super) struct RoomRecording {
    plan: Plan,
    room: Room,
    recorder: Recorder,
    began: DateTime<Utc>,
    start: Instant,
    clock: RoomClock,
    seats: Seats,
    tracks: HashMap<String, LiveTrack>,
    session: AgentSession,
    /// The agent tells its session: what it says need not be taken from transcriptions.
    tells: bool,
    looking: Option<Looking>,
    next_look: Instant,
    losses_told: Instant,
    reconnecting: Option<CallTime>,
    end: Option<CallEnd>,
    over: bool,
}

/// A track that is being recorded.
struct LiveTrack {
    id: TrackId,
    timeline: Timeline,
    side: Option<Side>,
    /// Its place among the room's tracks.
    number: usize,
    told: TimelineCounts,
}

impl RoomRecording {
    /// Joins the room, hidden, and makes the folder.
    pub(super) async fn begin(plan: Plan) -> Result<Self, RoomProblem> {
        let identity = format!("{IDENTITY}-{}", Uuid::new_v4().simple());
        let grants = Grants { hidden: true, recorder: true, listens_only: true, ..Grants::default() };
        let token = plan.server.room_token(&plan.name, &identity, TOKEN_VALID, &grants)?;
        let join = Room::join(plan.server.url(), &token, RoomOptions::default());
        let joined = tokio::time::timeout(JOIN_TIME, join).await;
        let mut room = joined.map_err(|_| JoinError::TimedOut(JOIN_TIME.as_secs()))??;
        if room.sid() != plan.sid && !room.sid().is_empty() {
            room.leave();
            farewell(&mut room).await;
            return Err(RoomProblem::Gone);
        }
        let (start, began) = (Instant::now(), Utc::now());
        let via = format!("LiveKit room {} at {}", plan.name, plan.server.shown());
        let party = || PartyInfo { rate: Some(RATE), via: via.clone() };
        let mut info = CallInfo::new(plan.ids.clone(), party(), party());
        info.started_at = began;
        info.room = Some(RoomInfo {
            name: plan.name.clone(),
            sid: plan.sid.clone(),
            server: plan.server.shown(),
            metadata: room.metadata().to_owned(),
            ..RoomInfo::default()
        });
        let folder = plan.folder.clone();
        let work = tokio::task::spawn_blocking(move || Recorder::begin(&folder, info));
        let mut recorder = work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        recorder.started(began);
        let seats = Seats::new(plan.agent.clone());
        let mut recording = Self {
            plan,
            room,
            recorder,
            began,
            start,
            clock: RoomClock::default(),
            seats,
            tracks: HashMap::new(),
            session: AgentSession::default(),
            tells: false,
            looking: None,
            next_look: start,
            losses_told: start,
            reconnecting: None,
            end: None,
            over: false,
        };
        recording.log(None, Event::Started { wall: began });
        Ok(recording)
    }

    /// Records until the room ends, or `control` is cancelled; then the folder is finished.
    pub(super) async fn carry_out(mut self, control: CallControl) -> FinishedRoom {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = std::pin::pin!(control.cancelled());
        while !self.over {
            tokio::select! {
                event = std::future::poll_fn(|cx| self.room.poll_event(cx)) => self.take(event),
                _ = tick.tick() => self.tick(),
                found = looked(&mut self.looking) => self.looked(found),
                () = &mut stopped => self.stop("the recording was stopped").await,
            }
        }
        self.finish().await
    }

    fn now(&self) -> CallTime {
        CallTime::after(self.start.elapsed())
    }

    fn log(&mut self, side: Option<Side>, event: Event) {
        let now = self.now();
        self.recorder.event(now, &LoggedEvent { at_ms: now.millis(), side, event });
    }

    /// Of a participant: `{"livekit": kind, "identity": …, …}`.
    fn note(&mut self, kind: &str, identity: &str, more: Value) {
        let mut data = json!({"livekit": kind, "identity": identity});
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        self.log(self.seats.side_of(identity), Event::Data { data });
    }

    fn change(&mut self, change: impl FnOnce(&mut CallInfo)) {
        let now = self.now();
        self.recorder.tell(now, change);
    }

    fn change_room(&mut self, change: impl FnOnce(&mut RoomInfo)) {
        self.change(|info| change(info.room.get_or_insert_default()));
    }

    fn take(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Rtp { track, arrived, packet } => self.take_audio(&track, arrived, packet),
            RoomEvent::SenderReport { track, report } => self.take_report(&track, report),
            RoomEvent::Joined(participant) => self.joined(&participant),
            RoomEvent::Left { identity, reason } => {
                self.note("left", &identity, json!({"reason": reason.to_string()}));
                self.seats.left(&identity);
            }
            RoomEvent::Published { identity, track } => self.published(&identity, &track),
            RoomEvent::Unpublished { identity, track } => self.unpublished(&identity, &track),
            RoomEvent::Muted { identity, track, muted } => {
                self.note(if muted { "muted" } else { "unmuted" }, &identity, json!({ "track": track }));
            }
            RoomEvent::Subscribed { identity, track } => self.note("subscribed", &identity, json!({"track": *track})),
            RoomEvent::Attributes { identity, changed } => {
                if let (Some(state), Some(Side::Agent)) = (changed.get(STATE), self.seats.side_of(&identity)) {
                    self.tell_session(|session, out| _ = session.attribute(state, out));
                }
                self.note("attributes", &identity, json!({ "changed": changed }));
            }
            RoomEvent::Metadata { identity } => {
                if let Some(participant) = self.room.participant(&identity) {
                    let told = json!({"name": participant.name, "metadata": participant.metadata});
                    self.note("metadata", &identity, told);
                }
            }
            RoomEvent::RoomMetadata(metadata) => {
                self.change_room(|room| room.metadata = metadata);
            }
            RoomEvent::Data { from, data } => self.take_data(&from, data),
            RoomEvent::BadData { from, error } => {
                self.log(
                    self.seats.side_of(&from),
                    Event::Fault { code: "BAD_DATA".to_owned(), detail: format!("{from}: {error}") },
                );
            }
            RoomEvent::Reconnecting { reason } => self.reconnecting(reason),
            RoomEvent::Reconnected { anew } => self.reconnected(anew),
            RoomEvent::Disconnected { reason, detail } => self.disconnected(reason, &detail),
            RoomEvent::Connected | RoomEvent::DataReady | RoomEvent::Speakers(_) | RoomEvent::MicrophoneReady { .. } => {}
        }
    }

    fn joined(&mut self, participant: &Participant) {
        self.seats.joined(participant);
        self.seat_told();
        let Participant { identity, sid, name, kind, metadata, attributes, .. } = participant;
        let told = json!({"sid": sid, "name": name, "kind": kind_name(*kind), "metadata": metadata, "attributes": attributes});
        self.note("joined", identity, told);
        if *kind == ParticipantKind::Agent {
            self.next_look = Instant::now();
            if let Some(state) = attributes.get(STATE).filter(|_| self.seats.side_of(identity) == Some(Side::Agent)) {
                self.tell_session(|session, out| _ = session.attribute(state, out));
            }
        }
    }

    /// Who is on which side goes into `call.json`.
    fn seat_told(&mut self) {
        let via = |identity: &str| format!("LiveKit room {} at {}: {identity}", self.plan.name, self.plan.server.shown());
        let [caller, agent] = Side::BOTH.map(|side| self.seats.identity(side).map(via));
        let info = self.recorder.info();
        let changed = |told: &Option<String>, known: &String| told.as_ref().is_some_and(|told| told != known);
        if changed(&caller, &info.caller_via) || changed(&agent, &info.agent_via) {
            self.change(|info| {
                info.caller_via = caller.unwrap_or_else(|| info.caller_via.clone());
                info.agent_via = agent.unwrap_or_else(|| info.agent_via.clone());
            });
        }
    }

    fn published(&mut self, identity: &str, track: &Track) {
        let Some(participant) = self.room.participant(identity).filter(|_| track.audio).cloned() else {
            return self.note("published", identity, json!({"track": track.sid, "name": track.name, "audio": track.audio}));
        };
        let side = self.seats.published(&participant, track);
        self.seat_told();
        let timeline = match Timeline::new(RATE, self.start) {
            Ok(timeline) => timeline,
            Err(error) => return self.log(side, Event::Fault { code: "OPUS".to_owned(), detail: error.to_string() }),
        };
        let now = self.now();
        let (id, file) = match side {
            Some(side) => (side.into(), side.name().to_owned()),
            None => {
                let name = self.free_name(&file_name(identity, &track.sid));
                (self.recorder.add_track(now, &name, RATE), name)
            }
        };
        let told = json!({"track": track.sid, "name": track.name, "audio": true, "muted": track.muted, "file": file});
        self.note("published", identity, told);
        let entry = RoomTrack {
            sid: track.sid.clone(),
            name: track.name.clone(),
            identity: identity.to_owned(),
            kind: kind_name(participant.kind).to_owned(),
            file,
            from_ms: now.millis(),
            ..RoomTrack::default()
        };
        let number = self.recorder.info().room.as_ref().map_or(0, |room| room.tracks.len());
        self.change_room(|room| room.tracks.push(entry));
        let live = LiveTrack { id, timeline, side, number, told: TimelineCounts::default() };
        if let Some(before) = self.tracks.insert(track.sid.clone(), live) {
            self.end_track(before);
        }
    }

    /// Two names of a server's own may look the same once they are fit for a file.
    fn free_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.recorder.info().more_tracks.iter().any(|track| track.name == name);
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }

    fn unpublished(&mut self, identity: &str, track: &Track) {
        self.seats.unpublished(&track.sid);
        self.note("unpublished", identity, json!({"track": track.sid, "name": track.name}));
        if let Some(live) = self.tracks.remove(&track.sid) {
            self.end_track(live);
        }
    }

    fn take_audio(&mut self, track: &str, arrived: Instant, packet: RtpAudio) {
        let now = CallTime::after(self.start.elapsed());
        let Some(live) = self.tracks.get_mut(track) else { return };
        live.timeline.push(arrived, packet);
        live.write_placed(now, &mut self.clock, &mut self.recorder);
    }

    fn take_report(&mut self, track: &str, report: SenderReport) {
        if let Some(live) = self.tracks.get_mut(track) {
            live.timeline.report(&mut self.clock, report);
        }
    }

    /// Writes what still waits of a track, and how it was.
    fn end_track(&mut self, mut live: LiveTrack) {
        let now = self.now();
        while let Some(run) = live.timeline.finish(&mut self.clock) {
            live.write(now, &run, &mut self.recorder);
        }
        live.tell_losses(now, &mut self.recorder);
        let (counts, placed_by) = (live.timeline.counts(), live.timeline.placed_by());
        self.change_room(|room| {
            let Some(entry) = room.tracks.get_mut(live.number) else { return };
            entry.until_ms = Some(now.millis());
            entry.placed_by = placed_by.map(|by| placed_by_name(by).to_owned());
            (entry.received, entry.lost, entry.late, entry.malformed) =
                (counts.packets.received, counts.packets.lost, counts.packets.late, counts.packets.malformed);
            (entry.recovered_ms, entry.concealed_ms) = (counts.recovered_ms, counts.concealed_ms);
            (entry.moves, entry.moved_ms, entry.off_ms) = (counts.moves, counts.moved_ms, counts.off_ms);
        });
    }

    fn take_data(&mut self, from: &str, data: Data) {
        let side = self.seats.side_of(from);
        match data {
            Data::Bytes { topic, bytes, .. } if topic == SESSION && side == Some(Side::Agent) => self.take_session(from, &bytes),
            Data::Text { topic, text, attributes } if topic == TRANSCRIPTION => {
                let is_final = attributes.get("lk.transcription_final").is_none_or(|told| told == "true");
                match side {
                    _ if text.is_empty() || !is_final => {}
                    Some(Side::Agent) if self.tells => {}
                    Some(Side::Agent) => self.log(side, Event::Text { text }),
                    _ => self.note("transcription", from, json!({ "text": text })),
                }
            }
            Data::Text { topic, text, .. } => self.note("text_stream", from, json!({"topic": topic, "text": text})),
            Data::Bytes { topic, bytes, .. } => self.note("byte_stream", from, json!({"topic": topic, "bytes": bytes.len()})),
            Data::Packet { topic, payload } => {
                let text = || Value::from(String::from_utf8_lossy(&payload));
                let value: Value = serde_json::from_slice(&payload).unwrap_or_else(|_| text());
                self.note("packet", from, json!({"topic": topic, "data": value}));
            }
            Data::Dtmf(digit) => self.log(side, Event::Dtmf { digit }),
            Data::RpcRequest { .. } | Data::RpcResponse { .. } => {}
        }
    }

    fn take_session(&mut self, from: &str, bytes: &[u8]) {
        match session::decode(bytes).map(|read| read.message) {
            Ok(Some(Message::Event(event))) => {
                self.tells = true;
                self.tell_session(|session, out| _ = session.event(&event, out));
            }
            Ok(Some(Message::Response(response))) => self.tell_session(|session, out| session.response(&response, out)),
            Ok(_) => {}
            Err(error) => {
                let detail = format!("{from}: {error}");
                self.log(Some(Side::Agent), Event::Fault { code: "BAD_SESSION".to_owned(), detail });
            }
        }
    }

    fn tell_session(&mut self, take: impl FnOnce(&mut AgentSession, &mut Vec<LegEvent>)) {
        let mut told = Vec::new();
        take(&mut self.session, &mut told);
        let sample = self.now().in_track(RATE).get();
        told.into_iter().filter_map(|event| logged(event, sample)).for_each(|event| self.log(Some(Side::Agent), event));
    }

    fn reconnecting(&mut self, reason: String) {
        self.reconnecting.get_or_insert(CallTime::after(self.start.elapsed()));
        self.log(None, Event::Fault { code: "LIVEKIT_RECONNECTING".to_owned(), detail: reason });
    }

    fn reconnected(&mut self, anew: bool) {
        let now = self.now();
        let gap_ms = self.reconnecting.take().map_or(0.0, |since| now.millis() - since.millis());
        if anew {
            // Another server may have another clock.
            self.clock = RoomClock::default();
        }
        self.log(None, Event::Data { data: json!({"livekit": "reconnected", "anew": anew, "gap_ms": gap_ms}) });
    }

    fn disconnected(&mut self, reason: Disconnect, detail: &str) {
        let ended = match reason {
            Disconnect::RoomDeleted | Disconnect::RoomGone | Disconnect::RoomClosed => EndReason::HungUp,
            Disconnect::Left | Disconnect::Removed => EndReason::Cancelled,
            _ => EndReason::ConnectionLost,
        };
        let detail = if detail.is_empty() { reason.to_string() } else { format!("{reason}: {detail}") };
        self.end.get_or_insert(CallEnd { by: None, reason: ended, detail });
        self.over = true;
    }

    /// Leaves the room.
    async fn stop(&mut self, why: &str) {
        self.end.get_or_insert(CallEnd { by: None, reason: EndReason::Cancelled, detail: why.to_owned() });
        self.room.leave();
        farewell(&mut self.room).await;
        self.over = true;
    }

    fn tick(&mut self) {
        let now = self.now();
        for live in self.tracks.values_mut() {
            live.write_placed(now, &mut self.clock, &mut self.recorder);
        }
        if self.losses_told.elapsed() >= LOSS_EVERY {
            self.losses_told = Instant::now();
            self.tracks.values_mut().for_each(|live| live.tell_losses(now, &mut self.recorder));
        }
        self.recorder.keep_up(now);
        if let Some(error) = self.recorder.take_error() {
            tracing::error!(room = self.plan.name, "the recording ends: {error}");
            self.end.get_or_insert(CallEnd { by: None, reason: EndReason::Cancelled, detail: error });
            self.room.leave();
        }
        if self.looking.is_none() && Instant::now() >= self.next_look {
            let (server, name) = (self.plan.server.clone(), self.plan.name.clone());
            self.looking = Some(Box::pin(async move { server.dispatches(&name).await }));
        }
    }

    /// The room's dispatches have come.
    fn looked(&mut self, found: Result<Vec<AgentDispatch>, ServerError>) {
        self.looking = None;
        match found {
            Ok(dispatches) => {
                let known = self.recorder.info().room.as_ref().map(|room| room.dispatches.as_slice()).unwrap_or_default();
                let told = dispatches.iter().filter_map(ties::told);
                let more: Vec<_> = told.filter(|told| known.iter().all(|known| known.id != told.id)).collect();
                if !more.is_empty() {
                    self.change_room(|room| room.dispatches.extend(more));
                }
                let mut ids = self.recorder.info().ids.clone();
                ties::fill_in(&mut ids, &dispatches, self.plan.agent.as_deref());
                if ids != self.recorder.info().ids {
                    self.change(|info| info.ids = ids);
                }
            }
            Err(error) => tracing::debug!(room = self.plan.name, "its dispatches are not known: {error}"),
        }
        let tied = self.recorder.info().ids.run_id.is_some();
        let wait = if tied || self.start.elapsed() > SOON { LOOK_LATER } else { LOOK_EVERY };
        self.next_look = Instant::now() + wait;
    }

    async fn finish(mut self) -> FinishedRoom {
        let live: Vec<_> = self.tracks.drain().map(|(_, live)| live).collect();
        live.into_iter().for_each(|live| self.end_track(live));
        let end = CallEnd { by: None, reason: EndReason::Cancelled, detail: String::new() };
        let end = self.end.take().unwrap_or(end);
        self.log(None, Event::Ended(end.clone()));
        let now = self.now();
        let Self { plan: Plan { name, sid, folder, .. }, recorder, began, .. } = self;
        let ids = recorder.info().ids.clone();
        let recording = recorder.finish(now, end.clone()).await;
        FinishedRoom { name, sid, ids, began, folder, end, duration: now.elapsed(), recording }
    }
}

impl LiveTrack {
    fn write_placed(&mut self, now: CallTime, clock: &mut RoomClock, recorder: &mut Recorder) {
        while let Some(run) = self.timeline.pop(clock, Instant::now()) {
            self.write(now, &run, recorder);
        }
    }

    fn write(&self, now: CallTime, run: &PlacedRun, recorder: &mut Recorder) {
        recorder.track_audio(now, self.id, run.at, &run.samples);
    }

    /// What was lost on a side's track since it was last told; of the others `call.json` tells.
    fn tell_losses(&mut self, now: CallTime, recorder: &mut Recorder) {
        let counts = self.timeline.counts();
        let frames = counts.packets.lost.saturating_sub(self.told.packets.lost);
        if let Some(side) = self.side.filter(|_| frames > 0) {
            let made_ms = counts.concealed_ms + counts.recovered_ms - self.told.concealed_ms - self.told.recovered_ms;
            let concealed = ((made_ms / 20.0).max(0.0) as u64).min(frames);
            let event = Event::Lost { frames, concealed };
            recorder.event(now, &LoggedEvent { at_ms: now.millis(), side: Some(side), event });
        }
        self.told = counts;
    }
}

/// Waits for the answer, if one was asked for.
async fn looked(looking: &mut Option<Looking>) -> Result<Vec<AgentDispatch>, ServerError> {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}

/// Lets what is still to be said go out.
async fn farewell(room: &mut Room) {
    let gone = async {
        while !room.is_over() {
            drop(std::future::poll_fn(|cx| room.poll_event(cx)).await);
        }
    };
    // Whoever does not answer is left without it.
    drop(tokio::time::timeout(FAREWELL, gone).await);
}

const fn placed_by_name(by: PlacedBy) -> &'static str {
    match by {
        PlacedBy::Arrival => "arrival",
        PlacedBy::SenderReport => "sender_report",
    }
}

/// What an agent tells of its session, as the log has it.
fn logged(event: LegEvent, sample: u64) -> Option<Event> {
    let source = MarkSource::Signalled;
    Some(match event {
        LegEvent::SpeechStarted(_) => Event::SpeechStarted { source, sample, interruption: None },
        LegEvent::SpeechStopped(_) => Event::SpeechStopped { source, sample, interrupted: false },
        LegEvent::Text(text) | LegEvent::Transcript(text) => Event::Text { text },
        LegEvent::Data(data) | LegEvent::Note(data) => Event::Data { data },
        LegEvent::Metadata(metadata) => Event::Metadata { metadata },
        LegEvent::FunctionCall(call) => Event::FunctionCall(call),
        LegEvent::FunctionResult(result) => Event::FunctionResult(result),
        LegEvent::Fault { code, detail } => Event::Fault { code, detail },
        _ => return None,
    })
}
