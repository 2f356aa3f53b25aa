//! From a choice of policy to one instance of it for each queue.

use std::sync::Arc;

use crate::error::Error;
use crate::policy::{AdaptiveLatency, Failover, LeastQueue, Policy, RoundRobin};

/// Makes one instance of a policy for each queue. Each policy of this crate makes copies of itself with its settings;
/// [`make`] turns a closure into one.
pub trait MakePolicy: Send + Sync + 'static {
    /// A new instance. `seed` is different for each queue: for whatever the policy leaves to chance.
    fn make(&self, seed: u64) -> Box<dyn Policy>;

    /// What the policy is called in reports.
    fn name(&self) -> String;
}

impl MakePolicy for Arc<dyn MakePolicy> {
    fn make(&self, seed: u64) -> Box<dyn Policy> {
        (**self).make(seed)
    }

    fn name(&self) -> String {
        (**self).name()
    }
}

/// A [`MakePolicy`] that is called `name` and makes what `make` returns.
///
/// ```
/// use mpio::policy::{self, Candidates, IoSummary, MakePolicy, Policy};
///
/// struct First;
///
/// impl Policy for First {
///     fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
///         candidates.next_from(0).unwrap_or(0)
///     }
/// }
///
/// let first = policy::make("first", |_seed| Box::new(First));
/// assert_eq!(first.name(), "first");
/// ```
pub fn make<F>(name: impl Into<String>, make: F) -> impl MakePolicy
where
    F: Fn(u64) -> Box<dyn Policy> + Send + Sync + 'static,
{
    Made { name: name.into(), make }
}

struct Made<F> {
    name: String,
    make: F,
}

impl<F> MakePolicy for Made<F>
where
    F: Fn(u64) -> Box<dyn Policy> + Send + Sync + 'static,
{
    fn make(&self, seed: u64) -> Box<dyn Policy> {
        (self.make)(seed)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// The names that [`by_name`] knows.
pub const NAMES: &[&str] = &["failover", "round-robin", "least-queue", "adaptive-latency"];

/// The policy of that name, with its default settings, for configuration files and command lines. `adaptive` is
/// short for `adaptive-latency`.
///
/// # Errors
/// [`Error::Setting`] for any other name; it lists [`NAMES`].
///
/// ```
/// use mpio::policy::{self, MakePolicy};
///
/// assert_eq!(policy::by_name("least-queue")?.name(), "least-queue");
/// assert!(policy::by_name("fastest").is_err());
/// # Ok::<(), mpio::Error>(())
/// ```
pub fn by_name(name: &str) -> Result<Arc<dyn MakePolicy>, Error> {
    Ok(match name {
        "failover" => Arc::new(Failover::new()),
        "round-robin" => Arc::new(RoundRobin::new()),
        "least-queue" => Arc::new(LeastQueue::new()),
        "adaptive-latency" | "adaptive" => Arc::new(AdaptiveLatency::new()),
        _ => {
            let names = NAMES.join(", ");
            return Err(Error::setting("policy", format!("no policy is called {name:?}; there are {names}")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_that_of_a_policy() {
        for &name in NAMES {
            assert_eq!(by_name(name).unwrap().name(), name);
        }
        assert_eq!(by_name("adaptive").unwrap().name(), "adaptive-latency");
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_exist() {
        let Err(error) = by_name("queue-length") else { panic!("accepted") };
        assert_eq!(
            error.to_string(),
            "policy: no policy is called \"queue-length\"; there are failover, round-robin, least-queue, adaptive-latency"
        );
    }
}
