//! Where a caller is in its script: which line comes next, whoever says it and however it is heard.

use super::suite::{Rule, Script, Trigger};

/// How often rules may fire in a call. Above it, agent and caller only set each other off.
const MOST_FIRED: u32 = 500;

/// The lines' order, and what was said of them so far. Lines are numbered as in [`Script::all_lines`].
#[derive(Debug, Clone)]
pub(super) struct Course {
    ways: Vec<Way>,
    said: Vec<bool>,
    /// What was said last; none: nothing, or an empty first message.
    last: Option<usize>,
    /// How often a rule fired.
    fired: u32,
}

/// What leads to a line.
#[derive(Debug, Clone)]
enum Way {
    Opening,
    /// The line before it; none: the agent's first turn.
    After(Option<usize>),
    Reply(Rule),
}

/// What an agent's turn leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This line.
    Line(usize),
    /// Everything is said.
    Finished,
    /// Nothing yet: no rule of what is left to say is for this turn.
    Unmatched,
    /// Rules have fired too often: the call goes round in a circle.
    Endless,
}

impl Course {
    /// `lines` lines, one after the other; with `speaks_first` the first one opens the call.
    pub(super) fn chain(lines: usize, speaks_first: bool) -> Self {
        let way = |at: usize| if at == 0 && speaks_first { Way::Opening } else { Way::After(at.checked_sub(1)) };
        Self { ways: (0..lines).map(way).collect(), said: vec![false; lines], last: None, fired: 0 }
    }

    pub(super) fn of(script: &Script) -> Self {
        let place = |id: u32| script.all_lines().position(|line| line.condition == id);
        let way = |trigger: &Trigger| match trigger {
            Trigger::Opening => Way::Opening,
            Trigger::Follows(id) => Way::After(place(*id)),
            Trigger::Reply(rule) => Way::Reply(rule.clone()),
        };
        let ways: Vec<_> = script.all_lines().map(|line| way(&line.trigger)).collect();
        Self { said: vec![false; ways.len()], ways, last: None, fired: 0 }
    }

    /// The line that opens the call.
    pub(super) fn opening(&self) -> Option<usize> {
        self.ways.iter().position(|way| matches!(way, Way::Opening))
    }

    /// The line that follows what was said last, whatever the agent says between.
    pub(super) fn follow_up(&self) -> Option<usize> {
        self.ways.iter().position(|way| matches!(way, Way::After(before) if *before == self.last))
    }

    /// What a turn of the agent's leads to. Without a follow-up the first matching rule in the file's order decides. A
    /// condition may fire again, as at Cekura; of those with the same text the first that has not fired yet does.
    pub(super) fn after(&self, words: &str) -> Next {
        if let Some(follow_up) = self.follow_up() {
            return Next::Line(follow_up);
        }
        let matching = |way: &Way| matches!(way, Way::Reply(rule) if rule.matches(words));
        let Some(first) = self.ways.iter().position(matching) else {
            return if self.all_said() { Next::Finished } else { Next::Unmatched };
        };
        if self.fired >= MOST_FIRED {
            return Next::Endless;
        }
        let twin = |at: &usize| match (&self.ways[*at], &self.ways[first]) {
            (Way::Reply(rule), Way::Reply(wanted)) => rule == wanted && !self.said[*at],
            _ => false,
        };
        Next::Line((first..self.ways.len()).find(twin).unwrap_or(first))
    }

    /// What is said next depends on the agent's words.
    pub(super) fn needs_words(&self) -> bool {
        self.follow_up().is_none() && self.ways.iter().any(|way| matches!(way, Way::Reply(_)))
    }

    /// The caller says this line.
    pub(super) fn say(&mut self, line: usize) {
        self.said[line] = true;
        self.fired += u32::from(matches!(self.ways[line], Way::Reply(_)));
        self.last = Some(line);
    }

    /// The script is played to its end: nothing follows what was said last. Rules are for what an agent may say, and need not
    /// all fire. But where the first message has no follow-up, or is empty, one of them must have: a greeting alone is no
    /// conversation.
    pub(super) fn done(&self) -> bool {
        let led_on = |line: usize| !matches!(self.ways[line], Way::Opening);
        self.follow_up().is_none() && (self.last.is_some_and(led_on) || self.all_said())
    }

    /// What is said of [`Next::Endless`].
    pub(super) fn circle() -> String {
        format!("conditions have fired {MOST_FIRED} times: the agent and the script set each other off in a circle")
    }

    fn all_said(&self) -> bool {
        self.said.iter().all(|said| *said)
    }
}
