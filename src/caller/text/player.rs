//! Plays a script in writing. Owns no clock: it is told the time since the call's start.

use std::collections::VecDeque;
use std::time::Duration;

use crate::call::{EndReason, LegEvent};
use crate::caller::course::{Course, Next};
use crate::caller::player::{Answer, Request};
use crate::caller::suite::{Line, Script, Step, placeholders};

/// The script's state. Each message of the agent is a turn.
#[derive(Debug)]
pub(super) struct TextPlayer {
    lines: Vec<Line>,
    course: Course,
    /// Waits this long before it answers.
    pause: Duration,
    patience: Duration,
    state: State,
    steps: VecDeque<Step>,
    /// What the agent has written since the caller last did.
    replies: VecDeque<String>,
    /// The last reply that no rule was for, since the caller last wrote.
    unmatched: Option<String>,
    /// The agent has written since the script was last moved along.
    stirred: bool,
    events: VecDeque<LegEvent>,
    requests: VecDeque<Request>,
    done_told: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The call's first moment.
    Begin,
    /// The agent is to write.
    Listening {
        since: Duration,
    },
    Thinking {
        until: Duration,
        line: usize,
    },
    NextStep,
    Pausing {
        until: Duration,
        hold: bool,
    },
    /// What was asked for has not come.
    Asking,
    Over,
}

impl TextPlayer {
    pub(super) fn new(script: &Script, course: Course, pause: Duration, patience: Duration) -> Self {
        Self {
            lines: script.all_lines().cloned().collect(),
            course,
            pause,
            patience,
            state: State::Begin,
            steps: VecDeque::new(),
            replies: VecDeque::new(),
            unmatched: None,
            stirred: false,
            events: VecDeque::new(),
            requests: VecDeque::new(),
            done_told: false,
        }
    }

    /// Takes a message of the agent.
    pub(super) fn reply(&mut self, text: &str) {
        self.replies.push_back(text.to_owned());
        self.stirred = true;
    }

    pub(super) fn take_event(&mut self) -> Option<LegEvent> {
        self.events.pop_front()
    }

    pub(super) fn take_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Takes what the last request came to.
    pub(super) fn answer(&mut self, answer: Answer) {
        if !matches!(self.state, State::Asking) {
            return;
        }
        self.state = State::NextStep;
        match answer {
            Answer::Called | Answer::Spoken(_) => {}
            Answer::Filled(text) if text.trim().is_empty() => {
                let detail = "a message has no words: the values that its functions gave are empty";
                self.finish(EndReason::CallerFailed, detail.to_owned());
            }
            Answer::Filled(text) => self.write(text),
            Answer::Failed(why) => self.finish(EndReason::CallerFailed, why),
        }
    }

    /// When [`Self::advance`] is due next, if nothing comes before.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        match self.state {
            State::Begin | State::NextStep => Some(Duration::ZERO),
            State::Listening { since } => Some(since + self.patience),
            State::Thinking { until, .. } | State::Pausing { until, .. } => Some(until),
            State::Asking | State::Over => None,
        }
    }

    /// Moves through the script as far as it goes at `now`.
    pub(super) fn advance(&mut self, now: Duration) {
        // Only what the call finds itself in is stirred by a message, not what it then goes on to.
        let mut stirred = std::mem::take(&mut self.stirred);
        loop {
            let was_stirred = std::mem::take(&mut stirred);
            match self.state {
                State::Begin => match self.course.opening() {
                    Some(line) => self.begin_line(line),
                    None => self.state = State::Listening { since: now },
                },
                State::Listening { since } => {
                    // The patience begins anew with whatever the agent writes.
                    let since = if was_stirred { now } else { since };
                    self.state = State::Listening { since };
                    if !self.take_turns(now) {
                        return self.wait_on(now, since);
                    }
                }
                State::Thinking { until, line } if now >= until => self.begin_line(line),
                // A message into a pause is no answer yet, but it ends the pause, as it does in speech.
                State::Pausing { until, hold } if now >= until || (was_stirred && !hold) => self.state = State::NextStep,
                State::NextStep => self.next_step(now),
                State::Thinking { .. } | State::Pausing { .. } | State::Asking | State::Over => return,
            }
        }
    }

    /// Takes the agent's messages as turns, one by one. False: none of them leads on.
    fn take_turns(&mut self, now: Duration) -> bool {
        while let Some(reply) = self.replies.pop_front() {
            match self.course.after(&reply) {
                Next::Line(line) if self.pause.is_zero() => self.begin_line(line),
                Next::Line(line) => self.state = State::Thinking { until: now + self.pause, line },
                Next::Finished => self.finish(EndReason::ScriptFinished, String::new()),
                Next::Endless => self.finish(EndReason::UnexpectedReply, Course::circle()),
                Next::Unmatched => {
                    self.unmatched = Some(reply);
                    continue;
                }
            }
            return true;
        }
        false
    }

    fn wait_on(&mut self, now: Duration, since: Duration) {
        if now < since + self.patience {
            return;
        }
        let waited = self.patience.as_secs_f64();
        match self.unmatched.take() {
            None => self.finish(EndReason::AgentSilent, format!("the agent wrote nothing for {waited} s")),
            Some(_) if self.course.done() => self.finish(EndReason::ScriptFinished, String::new()),
            Some(reply) => self.finish(EndReason::UnexpectedReply, format!("no condition is for what the agent wrote: {reply:?}")),
        }
    }

    fn begin_line(&mut self, number: usize) {
        self.course.say(number);
        let line = &self.lines[number];
        self.events.push_back(LegEvent::ScriptLine { condition: line.condition, text: line.words() });
        self.steps = messages(&line.steps);
        self.state = State::NextStep;
    }

    fn next_step(&mut self, now: Duration) {
        self.state = match self.steps.pop_front() {
            Some(Step::Say { text, delivery }) if !placeholders(&text).is_empty() => {
                self.requests.push_back(Request::Speak { text, delivery });
                State::Asking
            }
            Some(Step::Say { text, .. }) => {
                self.write(text);
                State::NextStep
            }
            Some(Step::Silence(time)) => State::Pausing { until: now + time, hold: false },
            Some(Step::Hold(time)) => State::Pausing { until: now + time, hold: true },
            Some(Step::Function(name)) => {
                self.requests.push_back(Request::Call(name));
                State::Asking
            }
            Some(Step::Message(data)) => {
                self.events.push_back(LegEvent::Data(data));
                State::NextStep
            }
            Some(Step::EndCall) => {
                self.tell_done();
                return self.finish(EndReason::ScriptFinished, String::new());
            }
            // A script with such a step is refused.
            Some(
                Step::Clip { .. } | Step::Dtmf(_) | Step::Noise { .. } | Step::Beep | Step::Background(_) | Step::PacketLoss(_),
            ) => State::NextStep,
            None => {
                if self.course.done() {
                    self.tell_done();
                }
                State::Listening { since: now }
            }
        };
    }

    fn write(&mut self, text: String) {
        self.replies.clear();
        self.unmatched = None;
        self.events.push_back(LegEvent::Text(text));
    }

    fn tell_done(&mut self) {
        if !std::mem::replace(&mut self.done_told, true) {
            self.events.push_back(LegEvent::ScriptDone);
        }
    }

    fn finish(&mut self, reason: EndReason, detail: String) {
        self.state = State::Over;
        self.events.push_back(LegEvent::Hangup { reason, detail });
    }
}

/// A line's steps with all that is written in one go as one message, however it would be said.
fn messages(steps: &[Step]) -> VecDeque<Step> {
    let mut joined: VecDeque<Step> = VecDeque::new();
    for step in steps {
        match (joined.back_mut(), step) {
            (Some(Step::Say { text: before, .. }), Step::Say { text, .. }) => {
                before.push(' ');
                before.push_str(text);
            }
            _ => joined.push_back(step.clone()),
        }
    }
    joined
}
