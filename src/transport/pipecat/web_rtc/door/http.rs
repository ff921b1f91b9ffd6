//! The door's HTTP side. The paths and the shapes are those of Pipecat's development runner (`pipecat/runner/run.py`).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reception::Asker;
use super::{Desk, Refusal, Visitor, WIRE};
use crate::transport::origin;
use crate::transport::web_socket::{ID_HEADERS, shows};

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 1 << 20;
const PAGE: &str = include_str!("page.html");

pub(super) fn router(desk: Arc<Desk>) -> Router {
    let open = Router::new().route("/", get(page)).route("/status", get(status));
    let guarded = Router::new()
        .route("/start", post(start))
        .route("/api/offer", post(offer).patch(trickle))
        .route("/sessions/{session}/api/offer", post(offer_in_session).patch(trickle))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&desk), guard));
    let cors = origin::cors(desk.door.token.is_some());
    open.merge(guarded).layer(cors).with_state(desk)
}

#[derive(Deserialize)]
struct Offer {
    sdp: String,
    #[serde(rename = "type")]
    kind: String,
    pc_id: Option<String>,
    #[serde(default)]
    restart_pc: Option<bool>,
    #[serde(alias = "requestData")]
    request_data: Option<Value>,
}

#[derive(Deserialize)]
struct Trickle {
    pc_id: String,
    candidates: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    /// Empty: there are no more (RFC 8840).
    candidate: String,
}

#[derive(Default, Deserialize)]
struct Start {
    body: Option<Value>,
    transport: Option<String>,
}

type Answered = Result<Json<Value>, Response>;

async fn page() -> Html<&'static str> {
    Html(PAGE)
}

async fn status() -> Json<Value> {
    Json(json!({"status": "ready", "transports": ["webrtc"], "door": WIRE}))
}

/// Nobody comes in without the token, where the door has one, and no stranger's page where it has none.
async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    if let Some(token) = &desk.door.token {
        if !shows(&request, token) {
            return refused(StatusCode::UNAUTHORIZED, "the door's token is missing or wrong");
        }
    } else if let Some(problem) = origin::stranger(request.headers()) {
        return refused(StatusCode::FORBIDDEN, &problem);
    }
    next.run(request).await
}

/// A client that has nothing to say sends no body at all, and calls it JSON.
async fn start(State(desk): State<Arc<Desk>>, asked: Result<Bytes, BytesRejection>) -> Answered {
    let asked = asked.map_err(|rejection| refused(rejection.status(), &rejection.body_text()))?;
    let asked = if asked.is_empty() { Start::default() } else { Json::from_bytes(&asked).map_err(unreadable)?.0 };
    if let Some(transport) = asked.transport.filter(|transport| transport != "webrtc") {
        let problem = format!("the transport {transport:?} is not here: this door takes \"webrtc\"");
        return Err(refused(StatusCode::BAD_REQUEST, &problem));
    }
    let mut session = json!({"sessionId": desk.start(asked.body)});
    if !desk.door.ice.is_empty() {
        session["iceConfig"] = json!({"iceServers": desk.door.ice});
    }
    Ok(Json(session))
}

async fn offer(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Asker(address)): ConnectInfo<Asker>,
    headers: HeaderMap,
    offer: Result<Json<Offer>, JsonRejection>,
) -> Answered {
    let Json(offer) = offer.map_err(unreadable)?;
    answer(&desk, address, &headers, offer, None).await
}

async fn offer_in_session(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Asker(address)): ConnectInfo<Asker>,
    Path(session): Path<String>,
    headers: HeaderMap,
    offer: Result<Json<Offer>, JsonRejection>,
) -> Answered {
    let Json(offer) = offer.map_err(unreadable)?;
    let body = desk.session(&session).map_err(refusal)?;
    answer(&desk, address, &headers, offer, body).await
}

async fn answer(desk: &Desk, address: std::net::SocketAddr, headers: &HeaderMap, offer: Offer, body: Option<Value>) -> Answered {
    if offer.kind != "offer" {
        return Err(refused(StatusCode::BAD_REQUEST, &format!("the type {:?} is not \"offer\"", offer.kind)));
    }
    let (pc_id, sdp) = match offer.pc_id {
        Some(pc_id) => {
            let restart = offer.restart_pc.unwrap_or(false);
            let sdp = desk.offer_again(&pc_id, offer.sdp, restart).await.map_err(refusal)?;
            (pc_id, sdp)
        }
        None => {
            let body = offer.request_data.or(body).filter(|body| !body.is_null());
            let visitor = Visitor { address, ids: ids(headers, body.as_ref()), body };
            desk.take(&offer.sdp, visitor).map_err(refusal)?
        }
    };
    Ok(Json(json!({"sdp": sdp, "type": "answer", "pc_id": pc_id})))
}

async fn trickle(State(desk): State<Arc<Desk>>, told: Result<Json<Trickle>, JsonRejection>) -> Answered {
    let Json(told) = told.map_err(unreadable)?;
    let candidates = told.candidates.into_iter().map(|told| told.candidate).filter(|candidate| !candidate.is_empty());
    desk.trickle(&told.pc_id, candidates.collect()).await.map_err(refusal)?;
    Ok(Json(json!({"status": "success"})))
}

/// The run's, the result's and the scenario's id, from the headers, else from what the bot is told.
fn ids(headers: &HeaderMap, body: Option<&Value>) -> [Option<String>; 3] {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let told = |name: &str| match body?.get(name)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    let names = ["run_id", "result_id", "scenario_id"];
    std::array::from_fn(|at| ID_HEADERS[at].into_iter().find_map(header).or_else(|| told(names[at])))
}

fn refusal(refusal: Refusal) -> Response {
    let status = match refusal {
        Refusal::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::UnknownCall(_) | Refusal::UnknownSession(_) => StatusCode::NOT_FOUND,
        Refusal::Offer(_) | Refusal::NoAudio => StatusCode::BAD_REQUEST,
        Refusal::Over => StatusCode::GONE,
        Refusal::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refused(status, &refusal.to_string())
}

fn unreadable(rejection: JsonRejection) -> Response {
    refused(rejection.status(), &rejection.body_text())
}

fn refused(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({"detail": detail}))).into_response()
}
