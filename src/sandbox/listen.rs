//! Listening to a run's call while it goes on: a page, the sound as an endless WAV, and the events. All come from the recording
//! that is being written, so that what is heard is what is recorded.

use std::convert::Infallible;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures_util::stream;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::aside;
use super::links::{Links, Purpose};
use super::runner::Runner;
use super::store::StoredRun;
use crate::audio::{Rate, push_s16le};
use crate::call::{Event, LoggedEvent};
use crate::record::{AGENT_WAV, CALL_JSON, CALLER_WAV, CallInfo, EVENTS_JSONL, STEREO_WAV};

/// How far behind the call one listens: the recording is written in batches of less than this.
const BEHIND: Duration = Duration::from_millis(500);
/// How often what has been written is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// The length of a WAV's header as the recorder writes it: RIFF, fmt of PCM, data.
const HEADER: u64 = 44;
/// Bytes of a recording that are read at a time.
const PIECE: usize = 64 << 10;
const PAGE: &str = include_str!("listen.html");

/// What a listener asks for.
pub(super) async fn answer(runner: &Arc<Runner>, links: &Links, rest: &[&str], token: &str) -> Option<Response> {
    let run: u64 = rest.first()?.parse().ok()?;
    let admits = |purpose| links.admits(purpose, run, token);
    match rest {
        [_, "page"] if admits(Purpose::Listen) => page(&runner.store.run(run).ok()??),
        [_, "audio.wav"] if admits(Purpose::Listen) => audio(runner, &runner.store.run(run).ok()??),
        [_, "events"] if admits(Purpose::Listen) => events(runner, links, &runner.store.run(run).ok()??),
        _ => None,
    }
}

/// The stereo file of a call that is over, or the part of it that a browser that seeks asks for.
pub(super) async fn recording(runner: &Runner, run: u64, range: Option<&str>) -> Option<Response> {
    let path = runner.store.run(run).ok()??.recording?.join(STEREO_WAV);
    let mut file = tokio::fs::File::open(path).await.ok()?;
    let length = file.metadata().await.ok()?.len();
    let part = range.and_then(|range| parse_range(range, length));
    let (from, to) = part.unwrap_or((0, length.saturating_sub(1)));
    file.seek(SeekFrom::Start(from)).await.ok()?;
    let count = if length == 0 { 0 } else { to - from + 1 };
    let pieces = stream::unfold(file.take(count), |mut file| async {
        let mut piece = Vec::with_capacity(PIECE);
        match (&mut file).take(PIECE as u64).read_to_end(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Bytes::from(piece)), file)),
            Err(error) => Some((Err(error), file)),
        }
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    if part.is_some() {
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&format!("bytes {from}-{to}/{length}")).ok()?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Some(response)
}

/// A single `bytes=FROM-TO` (RFC 9110 section 14.1.2), both ends within the file.
fn parse_range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let last = length.checked_sub(1)?;
    let (from, to) = match (from.trim(), to.trim()) {
        ("", count) => (length.saturating_sub(count.parse().ok()?), last),
        (from, "") => (from.parse().ok()?, last),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.min(last)),
    };
    (from <= to).then_some((from, to))
}

fn page(run: &StoredRun) -> Option<Response> {
    let voice = run.recording.as_ref().is_some_and(|folder| folder.join(CALLER_WAV).exists());
    let escaped = run.scenario_name.replace('&', "&amp;").replace('<', "&lt;");
    // The scenario's name comes last: what it holds is replaced by nothing.
    let html = PAGE.replace("VOICE", if voice { "true" } else { "false" }).replace("RUN_ID", &run.id.to_string());
    let html = html.replace("SCENARIO", &escaped);
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; media-src 'self'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Some((headers, html).into_response())
}

fn streamed(kind: &'static str, pieces: impl stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store"), (BUFFERING, "no")];
    (headers, Body::from_stream(pieces)).into_response()
}

/// Proxies are not to gather what is live.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Both tracks, left caller and right agent, from now on.
fn audio(runner: &Arc<Runner>, run: &StoredRun) -> Option<Response> {
    let folder = run.recording.clone()?;
    let info: CallInfo = serde_json::from_slice(&aside(|| std::fs::read(folder.join(CALL_JSON))).ok()?).ok()?;
    let (caller, agent) = info.caller.zip(info.agent)?;
    let rate = caller.rate;
    if rate != agent.rate {
        return Some((StatusCode::NOT_IMPLEMENTED, "the two sides have different rates").into_response());
    }
    let started = started(&folder)?;
    let position = move |at: DateTime<Utc>| {
        let elapsed = (at - started).to_std().unwrap_or_default().saturating_sub(BEHIND);
        rate.samples_in(elapsed)
    };
    let listener = Listener { folder, rate, at: position(Utc::now()), header_sent: false };
    let (runner, run) = (Arc::clone(runner), run.id);
    let pieces = stream::unfold((listener, false), move |(mut listener, over)| {
        let runner = Arc::clone(&runner);
        async move {
            if over {
                return None;
            }
            tokio::time::sleep(EVERY).await;
            let ended = !runner.goes_on(run);
            let to = if ended { listener.written() } else { position(Utc::now()) };
            let work = tokio::task::spawn_blocking(move || (listener.piece(to), listener));
            let (piece, listener) = work.await.ok()?;
            let over = ended && listener.at >= to;
            Some((Ok(piece), (listener, over)))
        }
    });
    Some(streamed("audio/wav", pieces))
}

/// Sample 0's wall time: the first event tells it.
fn started(folder: &Path) -> Option<DateTime<Utc>> {
    let events = aside(|| std::fs::read_to_string(folder.join(EVENTS_JSONL))).ok()?;
    let first: LoggedEvent = serde_json::from_str(events.lines().next()?).ok()?;
    match first.event {
        Event::Started { wall } => Some(wall),
        _ => None,
    }
}

/// One who listens, and how far it is.
struct Listener {
    folder: PathBuf,
    rate: Rate,
    at: u64,
    header_sent: bool,
}

impl Listener {
    /// What lies between here and `to`. What has not been written is silence, as in the recording.
    fn piece(&mut self, to: u64) -> Bytes {
        let mut bytes = Vec::new();
        if !std::mem::replace(&mut self.header_sent, true) {
            bytes.extend(endless_wav(self.rate));
        }
        // Who has missed much gets it in pieces of a second.
        let count = (to.saturating_sub(self.at) as usize).min(self.rate.hz() as usize);
        let (caller, agent) = (self.read(CALLER_WAV, count), self.read(AGENT_WAV, count));
        let both: Vec<i16> = caller.into_iter().zip(agent).flat_map(|(left, right)| [left, right]).collect();
        push_s16le(&both, &mut bytes);
        self.at += count as u64;
        Bytes::from(bytes)
    }

    /// Samples in the longer of the two files.
    fn written(&self) -> u64 {
        let samples =
            |file: &str| std::fs::metadata(self.folder.join(file)).map_or(0, |meta| meta.len().saturating_sub(HEADER) / 2);
        samples(CALLER_WAV).max(samples(AGENT_WAV))
    }

    fn read(&self, file: &str, count: usize) -> Vec<i16> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(self.folder.join(file)).and_then(|mut file| {
            file.seek(SeekFrom::Start(HEADER + self.at * 2))?;
            file.take(count as u64 * 2).read_to_end(&mut bytes)
        });
        if let Err(error) = read {
            tracing::debug!("a listener cannot read {file}: {error}");
        }
        bytes.resize(count * 2, 0);
        bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    }
}

/// The header of a stereo s16le WAV whose length is not known: as long as a WAV can be.
fn endless_wav(rate: Rate) -> Vec<u8> {
    let (hz, longest) = (rate.hz(), u32::MAX - 36);
    let mut header = Vec::with_capacity(HEADER as usize);
    header.extend(b"RIFF");
    header.extend(u32::MAX.to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16_u32.to_le_bytes());
    header.extend([1, 0, 2, 0]);
    header.extend(hz.to_le_bytes());
    header.extend((hz * 4).to_le_bytes());
    header.extend([4, 0, 16, 0]);
    header.extend(b"data");
    header.extend(longest.to_le_bytes());
    header
}

/// The call's events as they are written, as server-sent events; at the end `over`, with the recording's address.
fn events(runner: &Arc<Runner>, links: &Links, run: &StoredRun) -> Option<Response> {
    let path = run.recording.clone()?.join(EVENTS_JSONL);
    let (runner, id, recording) = (Arc::clone(runner), run.id, links.recording_path(run.id));
    let pieces = stream::unfold((Tail { path, read: 0 }, false), move |(mut tail, over)| {
        let (runner, recording) = (Arc::clone(&runner), recording.clone());
        async move {
            if over {
                return None;
            }
            loop {
                let ended = !runner.goes_on(id);
                let mut text: String = aside(|| tail.lines()).iter().map(|line| format!("data: {line}\n\n")).collect();
                if ended {
                    let there = tail.path.with_file_name(STEREO_WAV).exists().then_some(&recording);
                    text.push_str(&format!("event: over\ndata: {}\n\n", json!({"recording": there})));
                }
                if !text.is_empty() {
                    return Some((Ok(Bytes::from(text)), (tail, ended)));
                }
                tokio::time::sleep(EVERY).await;
            }
        }
    });
    Some(streamed("text/event-stream", pieces))
}

/// Whole lines of a file that grows.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    fn lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if read.is_err() || whole == 0 {
            return Vec::new();
        }
        self.read += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }
}
