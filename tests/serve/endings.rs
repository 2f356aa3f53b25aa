//! How it ends, whoever ends it, and that nothing is left.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::rig::{Serve, can_serve, is_attached, until};
use crate::testing_support::{TempDir, run, skip};

const BYTES: u64 = 4 << 20;
const BLOCK: usize = 4096;

/// A file to serve.
struct Backing {
    dir: TempDir,
}

impl Backing {
    fn new() -> Option<Self> {
        can_serve().then(|| {
            let dir = TempDir::in_memory();
            dir.file("file", BYTES);
            Self { dir }
        })
    }

    fn file(&self) -> String {
        self.dir.path().join("file").display().to_string()
    }

    fn serve(&self, more: &[&str]) -> Serve {
        Serve::start(&[&["--path", &self.file()], more].concat())
    }

    /// Nobody holds the claim on it any more.
    fn is_free(&self) -> bool {
        File::open(self.file()).unwrap().try_lock().is_ok()
    }
}

fn open(device: &Path) -> File {
    File::options().read(true).write(true).open(device).unwrap()
}

fn write(file: &File, pattern: u8) {
    file.write_all_at(&[pattern; BLOCK], 0).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn each_way_to_ask_ends_it_in_good_order() {
    let Some(backing) = Backing::new() else { return };
    for way in ["TERM", "INT", "HUP", "quit"] {
        let serve = backing.serve(&[]);
        let (device, socket) = (serve.device().to_owned(), serve.socket().to_owned());
        // Left in the page cache.
        open(&device).write_all_at(&[way.as_bytes()[0]; BLOCK], 0).unwrap();
        if way == "quit" {
            serve.must("quit");
        } else {
            serve.signal(way);
        }
        let over = serve.over();
        assert_eq!(over.code, Some(0), "{way}: {over:#?}");
        assert!(backing.is_free() && !socket.exists(), "{way} leaves nothing");
        until("the device stays", || !is_attached(&device));
        assert!(fs::read(backing.file()).unwrap()[..BLOCK].iter().all(|&byte| byte == way.as_bytes()[0]));
    }
}

#[test]
fn a_device_in_use_is_served_until_it_is_released() {
    let Some(backing) = Backing::new() else { return };
    let mut serve = backing.serve(&[]);
    let user = open(serve.device());
    serve.signal("TERM");
    serve.wait_for(&format!("in use: open in process {}", std::process::id()));
    write(&user, 1);
    assert_eq!(serve.must("stats")["ok"], true);
    assert!(serve.is_running());
    drop(user);
    serve.over().with(0);
}

#[test]
fn a_mounted_device_is_served_until_it_is_unmounted() {
    let Some(backing) = Backing::new() else { return };
    let serve = backing.serve(&[]);
    let place = backing.dir.path().join("mount");
    fs::create_dir(&place).unwrap();
    let place = place.to_str().unwrap();
    if !run("mkfs.ext4", &["-q", "-F", serve.device_name()]) {
        return skip("there is no mkfs.ext4");
    }
    assert!(run("mount", &[serve.device_name(), place]));
    let mounted = Mounted(place);
    assert_eq!(serve.must("quit")["in_use"][0], format!("mounted at {place}"));
    serve.wait_for(&format!("in use: mounted at {place}"));
    fs::write(format!("{place}/file"), "kept").unwrap();
    drop(mounted);
    serve.over().with(0);
    assert!(run("e2fsck", &["-n", "-f", &backing.file()]), "the file system is whole");
}

struct Mounted<'a>(&'a str);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run("umount", &[self.0]);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let Some(backing) = Backing::new() else { return };
    let serve = backing.serve(&[]);
    let user = open(serve.device());
    let device = serve.device().to_owned();
    serve.signal("TERM");
    serve.wait_for("is in use");
    serve.signal("TERM");
    serve.over().with(4);
    assert!(user.read_at(&mut [0; BLOCK], BYTES / 2).is_err(), "I/O fails");
    until("the claim stays", || backing.is_free());
    drop(user);
    until("the device stays", || !is_attached(&device));
}

#[test]
fn of_the_signals_after_quit_the_second_ends_it_at_once() {
    let Some(backing) = Backing::new() else { return };
    let serve = backing.serve(&[]);
    let user = open(serve.device());
    serve.must("quit");
    serve.wait_for("is in use");
    serve.signal("TERM");
    serve.wait_for("it is ending already");
    write(&user, 1);
    serve.signal("TERM");
    serve.over().with(4);
}

#[test]
fn a_second_signal_ends_it_though_a_path_is_silent() {
    let Some(backing) = Backing::new() else { return };
    let serve = backing.serve(&["--timeout", "50ms"]);
    serve.must("stall 0 lost");
    let user = open(serve.device());
    user.write_all_at(&[1; BLOCK], 0).unwrap();
    let syncing = crate::rig::in_background(move || user.sync_all());
    serve.wait_for("suspect: no answer");
    serve.signal("INT");
    serve.wait_for("is in use");
    serve.signal("INT");
    serve.over().with(4);
    assert!(syncing.recv().unwrap().is_err(), "what was under way fails");
}

#[test]
fn a_killed_server_leaves_nothing_and_can_be_started_again() {
    let Some(backing) = Backing::new() else { return };
    let socket = backing.dir.path().join("control");
    let file = backing.file();
    // One that no other test is given meanwhile, nor, in all likelihood, another run of this one.
    let name = format!("/dev/loop{}", 7000 + std::process::id() % 64);
    let name = name.as_str();
    let first = Serve::start_at(&["--path", &file, "--device", name], &socket);
    let device = first.device().to_owned();
    write(&open(&device), 1);
    assert_eq!(first.kill().code, None);
    until("the device stays", || !is_attached(&device));
    assert!(socket.exists(), "it had no time to remove it");

    let second = Serve::start_at(&["--path", &file, "--device", name], &socket);
    assert_eq!(second.device(), device, "the same name again");
    let user = open(&device);
    let mut block = [0; BLOCK];
    user.read_exact_at(&mut block, 0).unwrap();
    assert_eq!(block, [1; BLOCK]);
    // With a user, who keeps the old device.
    second.kill();
    assert!(user.read_at(&mut block, BYTES / 2).is_err(), "I/O on a device whose server is dead fails");
    let third = Serve::start_at(&["--path", &file], &socket);
    assert_ne!(third.device(), device);
    write(&open(third.device()), 2);
    drop(user);
    until("the old device stays", || !is_attached(&device));
    third.terminate().with(0);
}

#[test]
fn two_servers_do_not_touch_each_other() {
    let (Some(one), Some(other)) = (Backing::new(), Backing::new()) else { return };
    let steady = other.serve(&[]);
    let user = open(steady.device());
    for round in 1..4 {
        let brief = one.serve(&[]);
        assert_ne!(brief.device(), steady.device());
        write(&open(brief.device()), round);
        write(&user, round);
        if round % 2 == 0 {
            brief.terminate();
        } else {
            brief.kill();
        }
        write(&user, round + 10);
    }
    one.serve(&[]).terminate();
    drop(user);
    steady.terminate().with(0);
    assert_eq!(fs::read(other.file()).unwrap()[0], 13);
}

#[test]
fn an_aborted_connection_ends_it_as_a_failure() {
    let Some(backing) = Backing::new() else { return };
    let serve = backing.serve(&[]);
    let number = serve.must("stats")["fuse_connection"].to_string();
    let connections = backing.dir.path().join("connections");
    fs::create_dir(&connections).unwrap();
    let place = connections.to_str().unwrap();
    if !run("mount", &["-t", "fusectl", "none", place]) {
        return skip("fusectl cannot be mounted here");
    }
    let _mounted = Mounted(place);
    let abort = connections.join(number).join("abort");
    let device = serve.device().to_owned();
    fs::write(abort, "1").unwrap();
    let over = serve.over();
    over.with(1);
    assert!(over.log.contains("aborted"), "{over:#?}");
    until("the device stays", || !is_attached(&device));
    until("the claim stays", || backing.is_free());
}

#[test]
fn others_cannot_detach_the_device() {
    let Some(backing) = Backing::new() else { return };
    let serve = backing.serve(&[]);
    run("losetup", &["--detach", serve.device_name()]);
    write(&open(serve.device()), 1);
    serve.terminate().with(0);
}

#[test]
fn a_named_device_that_is_in_use_is_refused() {
    let (Some(one), Some(other)) = (Backing::new(), Backing::new()) else { return };
    let serve = one.serve(&[]);
    let file = other.file();
    let second = Serve::launch(&["--path", &file, "--device", serve.device_name()]).over();
    second.with(3);
    assert!(second.log.contains(serve.device_name()));
    write(&open(serve.device()), 1);
    for wrong in ["/dev/null", "/dev/nonexistent/loop1", "/dev/loop99999999999", "loop"] {
        let refused = Serve::launch(&["--path", &file, "--device", wrong]).over();
        assert!(matches!(refused.code, Some(2 | 3)), "{wrong}: {refused:#?}");
    }
    serve.terminate().with(0);
}
