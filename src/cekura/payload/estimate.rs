//! How many runs a body asks for, which is how many calls it pays for.

use std::collections::BTreeSet;

use serde_json::Value;

/// How many runs Cekura makes of a body that fits ([`super::check`] finds nothing): scenarios × frequency × personalities ×
/// test profiles (the API reference's rule); of a suite, each scenario's own frequency × the body's. None where only Cekura
/// knows: a selection by tag, folder or `"all"`, or a body that does not fit. For `"scenarios": N` it is the upper bound.
#[must_use]
pub fn estimate_runs(body: &Value) -> Option<u64> {
    if let Some(spec) = body.get("spec") {
        return runs_of_suite(spec)?.checked_mul(frequency(body)?);
    }
    let scenarios = match body.get("scenarios")? {
        Value::Array(ids) => ids.len() as u64,
        other => other.as_u64()?,
    };
    scenarios
        .checked_mul(frequency(body)?)?
        .checked_mul(overrides(body, "personality_ids", "personality_id"))?
        .checked_mul(overrides(body, "test_profile_ids", "test_profile_id"))
}

/// Each scenario is run as often as it says itself, else as its suite's defaults say.
fn runs_of_suite(spec: &Value) -> Option<u64> {
    let default = frequency(spec.get("defaults").unwrap_or(&Value::Null))?;
    let scenarios = spec.get("scenarios")?.as_array()?;
    scenarios.iter().try_fold(0, |runs: u64, scenario| match scenario.get("frequency") {
        Some(_) => runs.checked_add(frequency(scenario)?),
        None => runs.checked_add(default),
    })
}

/// Not given is once.
fn frequency(of: &Value) -> Option<u64> {
    match of.get("frequency") {
        None | Some(Value::Null) => Some(1),
        Some(value) => value.as_u64(),
    }
}

/// The single form is merged into the list.
fn overrides(body: &Value, list: &str, single: &str) -> u64 {
    let listed = body.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64);
    let ids: BTreeSet<u64> = listed.chain(body.get(single).and_then(Value::as_u64)).collect();
    ids.len().max(1) as u64
}
