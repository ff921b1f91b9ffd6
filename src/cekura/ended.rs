//! A call's end in the API's words.

use crate::call::{CallEnd, EndReason, Side};

/// The API's word for a call's end (guide, "Call end reasons"): its Testing Agent is the caller, its Main Agent the agent.
pub(crate) fn call_ended_reason(end: &CallEnd) -> &'static str {
    match (end.reason, end.by) {
        (EndReason::ScriptFinished | EndReason::UnexpectedReply, _) | (EndReason::HungUp, Some(Side::Caller)) => {
            "Testing agent-ended-call"
        }
        (EndReason::HungUp | EndReason::AgentHungUp, _) => "Main agent-ended-call",
        (EndReason::AgentSilent, _) | (EndReason::IdleTimeout, Some(Side::Agent)) => "Main agent-silence-timed-out",
        (EndReason::MaxDuration, _) => "exceeded-max-duration",
        (EndReason::Cancelled, _) => "run-cancelled-by-user",
        (EndReason::PacingSlipped | EndReason::CallerFailed, _)
        | (EndReason::ConnectionLost | EndReason::ProtocolError, Some(Side::Caller)) => "Testing agent-pipeline-error",
        (EndReason::ConnectionLost | EndReason::ProtocolError | EndReason::IdleTimeout, _) => "call-failed-unknown-error",
    }
}
