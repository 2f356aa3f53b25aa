//! What cannot be served, and what is said of it.

use mpio::frontend::fuse::{Buffers, Options, Server};
use mpio::{Limits, Volume};

use crate::medium::Medium;
use crate::rig::{Plan, Rig, can_serve, queues};

fn refusal(plan: Plan, options: &Options) -> String {
    Rig::try_new(plan, options).err().unwrap().to_string()
}

#[test]
fn volumes_that_no_loop_device_can_show_are_refused() {
    if !can_serve() {
        return;
    }
    let said = refusal(Plan { block_size: 8192, ..Plan::default() }, &Options::new());
    assert!(said.contains("8192 bytes are more than a page"), "{said}");
    let limits = Limits::new(2048);
    let said = refusal(Plan { limits, ..Plan::default() }, &Options::new());
    assert!(
        said.contains("2048 bytes, in 256 pages (fs.fuse.max_pages_limit), are less than the 4096"),
        "{said}"
    );
}

#[test]
fn a_server_needs_queues_and_memory() {
    let said =
        Server::start(Vec::new(), Buffers::new(1, 1).unwrap(), &Options::new()).unwrap_err().to_string();
    assert!(said.contains("at least one"), "{said}");
    let volumes = [512, 4096].map(|block_size| {
        let medium = Medium::new(block_size, 64, Limits::new(1 << 20));
        Volume::builder().path(medium).build().unwrap()
    });
    let mixed = volumes.iter().flat_map(queues).collect();
    let said = Server::start(mixed, Buffers::new(2, 1).unwrap(), &Options::new()).unwrap_err().to_string();
    assert!(said.contains("not of one volume"), "{said}");
    assert!(Buffers::new(0, 1).is_err() && Buffers::new(1, 0).is_err());
}

#[test]
fn a_device_that_is_none_is_refused() {
    if !can_serve() {
        return;
    }
    for name in ["/dev/sda", "loop7", "/dev/loop", "/dev/loop-1", "/dev/loop99999999999", ""] {
        let said = refusal(Plan::default(), &Options::new().device(name));
        assert!(said.contains("is not of the form /dev/loop7"), "{said}");
    }
}

#[test]
fn a_device_that_stays_in_use_is_refused_by_name() {
    let Some(first) = Rig::required(Plan::default()) else { return };
    let said = refusal(Plan::default(), &Options::new().device(first.device()));
    assert!(said.contains(&first.node()) && said.contains("in use"), "{said}");
    first.server.stop(crate::medium::PATIENCE).unwrap();
}
