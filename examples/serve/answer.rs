//! Answers of the control socket: one JSON object each.

use std::time::Duration;

use mpio::path::{Cache, CacheScope, FenceSupport};
use mpio::{Fate, Health, PathStatus, Status, Tick};
use serde_json::{Value, json};

use crate::paths::Paths;

/// What was asked for is done, and this object is said of it.
pub(crate) fn done(said: &Value) -> String {
    // The verdict comes first, whatever the order of the rest.
    match said.to_string().as_str() {
        "{}" => r#"{"ok":true}"#.to_owned(),
        said => said.replacen('{', r#"{"ok":true,"#, 1),
    }
}

/// It is not done.
pub(crate) fn refused(problem: &str) -> String {
    format!(r#"{{"ok":false,"error":{}}}"#, json!(problem))
}

/// Everything that is known of each path.
pub(crate) fn paths(status: &Status, paths: &Paths) -> Value {
    status.paths.iter().map(|path| one_path(path, paths)).collect()
}

fn one_path(path: &PathStatus, paths: &Paths) -> Value {
    let number = path.id.serial();
    json!({
        "path": number,
        "name": path.name,
        "health": match path.health {
            Health::Up => "up",
            Health::Suspect => "suspect",
            Health::Down => "down",
        },
        "why_down": path.why_down,
        "held_back_ms": path.held_back_until.map(|until| whole(until.since(Tick::now()).as_millis())),
        "access": path.access.to_string(),
        "incarnation": path.incarnation.get(),
        "leaving": path.leaving,
        "transport": path.transport,
        "place": path.place,
        "identity": path.identity.identifiers().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cache": match &path.cache {
            Cache::None => json!(null),
            Cache::Shared(CacheScope(scope)) => json!(scope),
            _ => json!("its own"),
        },
        "fence": fence(path.fence),
        "fence_derivation": path.fence_derivation,
        "unfenced_ms": path.unfenced_since.map(|since| whole(Tick::now().since(since).as_millis())),
        "in_flight": path.in_flight(),
        "completed": path.completed(),
        "bytes": path.bytes(),
        "failed": failed(|fate| path.failed(fate)),
        "latency_us": {
            "p50": micros(path.latency(500)),
            "p90": micros(path.latency(900)),
            "p99": micros(path.latency(990)),
            "p999": micros(path.latency(999)),
            "max": micros(path.latency(1000)),
        },
        "faults": paths.injected(number),
    })
}

/// The sums over all paths that there are now.
pub(crate) fn sums(status: &Status) -> Value {
    let sum = |count: &dyn Fn(&PathStatus) -> u64| status.paths.iter().map(count).sum::<u64>();
    json!({
        "in_flight": sum(&|path| path.in_flight().into()),
        "completed": sum(&PathStatus::completed),
        "bytes": sum(&PathStatus::bytes),
        "failed": failed(|fate| sum(&|path| path.failed(fate))),
    })
}

fn failed(count: impl Fn(Fate) -> u64) -> Value {
    json!({
        "not_sent": count(Fate::NotSent),
        "refused": count(Fate::Refused),
        "unknown": count(Fate::Unknown),
        "congested": count(Fate::Congested),
        "final": count(Fate::Final),
    })
}

fn fence(support: FenceSupport) -> Value {
    match support {
        FenceSupport::Proven => json!({ "grade": "proven" }),
        FenceSupport::Assumed(quiet) => json!({ "grade": "assumed", "after_ms": whole(quiet.as_millis()) }),
        FenceSupport::Answered => json!({ "grade": "proven", "by": "answers" }),
        FenceSupport::Resend => json!({ "grade": "none", "then": "resend" }),
        FenceSupport::None => json!({ "grade": "none", "then": "hold" }),
        _ => json!({ "grade": support.to_string() }),
    }
}

fn micros(span: Option<Duration>) -> Value {
    span.map_or(Value::Null, |span| json!(whole(span.as_micros())))
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
