//! Scenarios on devices of the kernel's that this machine need not have: NVMe, SCSI with ALUA, fabrics. Each topic is a guest in QEMU,
//! booted once, whose console says how each scenario went. `tests/guest/run` builds what they need and starts this.
//!
//! To add a scenario: a function of its name in `TOPIC/scenarios`, called at the end of that file, and a test below.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

#[path = "../../src/testing_support.rs"]
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
mod testing_support;

use testing_support::{run, skip};

/// What a guest said, or why there is none.
type Console = Result<String, String>;

/// A scenario for each line: its topic, its name.
macro_rules! scenarios {
    ($($topic:ident: $name:ident;)*) => { $(
        #[test]
        fn $name() {
            went_well(stringify!($topic), stringify!($name));
        }
    )* };
}

scenarios! {
    nvme: a_controller_that_is_removed_is_missed_by_nobody_and_comes_back_by_itself;
    nvme: with_no_path_left_it_ends_when_it_is_told_to;
    scsi: a_disk_that_is_deleted_or_offline_is_missed_by_nobody_and_comes_back_by_itself;
    scsi: a_unit_is_found_with_all_its_ways;
    scsi: a_way_that_comes_is_added_by_itself;
    scsi: another_name_of_a_disk_in_use_is_refused;
    alua: a_path_whose_access_state_changes_is_followed;
    tcp: a_namespace_whose_access_state_changes_is_followed;
    tcp: a_port_that_is_cut_is_missed_by_nobody_and_comes_back_by_itself;
    kills: a_start_that_is_killed_leaves_nothing;
    kills: an_end_that_is_killed_leaves_nothing;
    peers: it_stands_beside_its_peers;
}

fn went_well(topic: &'static str, name: &str) {
    let needed =
        "qemu-system-x86_64 busybox modprobe cpio xz fio socat sg_turs dmsetup mkfs.ext4 losetup jq strip";
    let is_lacking = |program: &&str| {
        !run("sh", &["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program} >/dev/null")])
    };
    if let Some(program) = needed.split(' ').find(is_lacking) {
        return skip(&format!("there is no {program}, which the guest is made with"));
    }
    let console = console(topic);
    let text = console.as_ref().as_ref().unwrap_or_else(|problem| panic!("no guest for {topic}: {problem}"));
    let begin = format!("=== scenario {name}");
    let part: Vec<&str> = text.lines().skip_while(|line| *line != begin).collect();
    let end = part.iter().position(|line| line.starts_with("=== ok") || line.starts_with("=== failed"));
    let told = part.get(..end.map_or(part.len(), |end| end + 1)).unwrap_or_default().join("\n");
    let is_well = end.is_some_and(|end| part[end] == format!("=== ok {name}"));
    let last = text.lines().rev().take(30).collect::<Vec<_>>();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    for row in part.iter().filter_map(|line| line.trim_start().strip_prefix("table| ")) {
        println!("{row}");
    }
    assert!(is_well, "{told}\n\nthe guest's last lines:\n{last}");
}

/// The console of the guest for a topic, which is booted when it is first asked for. One runs at a time.
fn console(topic: &'static str) -> Arc<Console> {
    static GUESTS: Mutex<BTreeMap<&str, Arc<OnceLock<Arc<Console>>>>> = Mutex::new(BTreeMap::new());
    static TURN: Mutex<()> = Mutex::new(());
    let guest = Arc::clone(GUESTS.lock().unwrap_or_else(PoisonError::into_inner).entry(topic).or_default());
    let boot = || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(booted(topic))
    };
    Arc::clone(guest.get_or_init(boot))
}

fn booted(topic: &str) -> Console {
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/boot");
    let output = Command::new(boot).arg(topic).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
    let console = text(&output.stdout);
    // It is kept for whoever wants to read all of it.
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/guest/{topic}.log"));
    std::fs::write(&kept, &console).map_err(|error| format!("{}: {error}", kept.display()))?;
    if console.contains("=== scenario") {
        Ok(console)
    } else {
        Err(format!("{console}\n{}", text(&output.stderr)))
    }
}
