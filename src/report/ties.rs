//! Which recorded call belongs to which run.

use chrono::{DateTime, Utc};

use crate::call::CallIds;

/// A run's call begins within this many seconds of the time at which the API says that the run was carried out.
const NEAR_S: i64 = 30;

/// A recorded call.
#[derive(Debug, Clone)]
pub struct TiedCall<'a> {
    /// Its ids, as far as its caller told them.
    pub ids: &'a CallIds,
    /// When it began.
    pub began: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
}

/// A run.
#[derive(Debug, Clone)]
pub struct TiedRun {
    /// Its id.
    pub id: String,
    /// Its result's id.
    pub result_id: String,
    /// When it was carried out, if the API says so.
    pub executed_at: Option<DateTime<Utc>>,
}

/// How a call was tied to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TiedBy {
    /// The caller told its run's id.
    Header,
    /// The run's own conversation was fetched from the API by its id.
    Direct,
    /// No other run and no other call fit: there is one of each left, or their times leave no doubt.
    Order,
}

impl TiedBy {
    /// `header`, `direct`, or `inferred` for what goes by order and time.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Direct => "direct",
            Self::Order => "inferred",
        }
    }
}

/// For each run the index of its call and how it is known; `told` is how it is where a call has its run's id. A call that fits
/// two runs is tied to none: a wrong recording is worse than a missing one.
#[must_use]
pub fn tie(runs: &[TiedRun], calls: &[TiedCall<'_>], told: TiedBy) -> Vec<Option<(usize, TiedBy)>> {
    let foreign = |call: &TiedCall<'_>, run: &TiedRun| call.ids.result_id.as_ref().is_some_and(|id| *id != run.result_id);
    let own = |run: &TiedRun| calls.iter().position(|call| call.ids.run_id.as_ref() == Some(&run.id) && !foreign(call, run));
    let mut ties: Vec<_> = runs.iter().map(|run| own(run).map(|call| (call, told))).collect();
    let open_runs: Vec<usize> = (0..runs.len()).filter(|run| ties[*run].is_none()).collect();
    let mut open_calls: Vec<usize> = (0..calls.len()).filter(|call| calls[*call].ids.run_id.is_none()).collect();
    open_calls.sort_by_key(|call| calls[*call].began);
    if open_runs.len() != open_calls.len() || open_runs.is_empty() {
        return ties;
    }
    if let ([run], [call]) = (&open_runs[..], &open_calls[..]) {
        ties[*run] = Some((*call, TiedBy::Order));
        return ties;
    }
    let times: Option<Vec<_>> = open_runs.iter().map(|run| runs[*run].executed_at.map(|at| (at, *run))).collect();
    let Some(mut times) = times else { return ties };
    times.sort();
    let one_after_the_other = open_calls.windows(2).all(|pair| calls[pair[0]].ended <= calls[pair[1]].began);
    let near = times.iter().zip(&open_calls).all(|((at, _), call)| (calls[*call].began - *at).num_seconds().abs() <= NEAR_S);
    if one_after_the_other && near {
        for ((_, run), call) in times.into_iter().zip(open_calls) {
            ties[run] = Some((call, TiedBy::Order));
        }
    }
    ties
}
