//! Policies whose code fails.

use mpio::policy::{self, Candidates, IoSummary, LeastQueue, MakePolicy, Observation, Placement, Policy};

use crate::rig::{Rig, assert_says, builder};
use crate::script::{Script, medium};
use crate::scripted::Scripted;

/// Where a policy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Make,
    Placement,
    Select,
    Observe,
    PathsChanged,
    Drop,
    /// It selects an index that no path has.
    NoPath,
    /// It selects an index that no table has.
    NoIndex,
}

struct Faulty(Fault);

impl Fault {
    fn strike(self, at: Self) {
        if self == at {
            // Without the hook, which would print it.
            std::panic::resume_unwind(Box::new("scripted"));
        }
    }
}

impl Policy for Faulty {
    fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        self.0.strike(Fault::Select);
        match self.0 {
            Fault::NoPath => 40,
            Fault::NoIndex => usize::MAX,
            _ => candidates.next_from(0).unwrap_or(0),
        }
    }

    fn placement(&self) -> Placement {
        self.0.strike(Fault::Placement);
        Placement::WithRoom
    }

    fn observe(&mut self, _observations: &[Observation]) {
        self.0.strike(Fault::Observe);
    }

    fn paths_changed(&mut self, _candidates: &Candidates<'_>) {
        self.0.strike(Fault::PathsChanged);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.0.strike(Fault::Drop);
    }
}

fn faulty(fault: Fault) -> impl MakePolicy {
    policy::make("faulty", move |_seed| {
        fault.strike(Fault::Make);
        Box::new(Faulty(fault))
    })
}

#[test]
fn a_policy_that_fails_is_replaced_and_the_volume_says_so() {
    for (fault, reason) in [
        (Fault::Make, "the policy panicked"),
        (Fault::Placement, "the policy panicked"),
        (Fault::Select, "the policy panicked"),
        (Fault::Observe, "the policy panicked"),
        (Fault::PathsChanged, "the policy panicked"),
        (Fault::NoPath, "the policy selected a path that is not eligible"),
        (Fault::NoIndex, "the policy selected a path that is not eligible"),
    ] {
        let medium = medium();
        let scripts = ["a", "b"].map(|node| Script::new("lun", node, &medium));
        let paths =
            scripts.iter().fold(builder(), |builder, script| builder.path(Scripted::new("path", script)));
        let mut rig = Rig::new(paths.policy(faulty(fault)));
        rig.serves();
        assert_says(&rig.event(&["least-queue took over in queue 0"]), &[reason]);
        rig.forget_events();
        // A policy that works can take over at any time, and one that fails again.
        rig.volume.set_policy(LeastQueue::new()).unwrap();
        rig.serves();
        assert!(!rig.was_told("took over"));
        rig.volume.set_policy(faulty(fault)).unwrap();
        rig.until("another take-over", |rig| {
            rig.serves();
            rig.was_told(reason).then_some(())
        });
        rig.finish(&scripts.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_policy_whose_destructor_panics_does_not_take_the_queue_with_it() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::new(builder().policy(faulty(Fault::Drop)).path(Scripted::new("only", &script)));
    rig.serves();
    rig.volume.set_policy(faulty(Fault::Drop)).unwrap();
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn an_unknown_policy_name_is_answered_with_those_there_are() {
    let text = policy::by_name("fastest").err().unwrap().to_string();
    assert_says(&text, &["no policy is called \"fastest\"; there are failover, round-robin, least-queue"]);
}
