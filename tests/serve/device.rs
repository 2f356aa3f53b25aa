//! The device itself, in the hands of ordinary programs.

use std::fs;
use std::path::Path;

use crate::rig::{Serve, can_serve};
use crate::testing_support::{TempDir, require_loops, run};

const BYTES: u64 = 16 << 20;

fn copy(from: &Path, to: &Path, flags: &[&str]) {
    let (from, to) = (format!("if={}", from.display()), format!("of={}", to.display()));
    assert!(run("dd", &[&[from.as_str(), &to, "bs=256k"], flags].concat()), "dd {from} {to} {flags:?}");
}

#[test]
fn what_is_written_to_the_device_is_what_the_paths_lead_to() {
    if !can_serve() {
        return;
    }
    let Some(loops) = require_loops(2, BYTES) else { return };
    let dir = TempDir::in_memory();
    let noise = dir.path().join("noise");
    copy(Path::new("/dev/urandom"), &noise, &["count=64", "iflag=fullblock"]);
    for queues in ["1", "2"] {
        let [one, other] = [0, 1].map(|index| loops.device(index).to_str().unwrap());
        let serve = Serve::start(&["--path", one, "--path", other, "--queues", queues]);
        assert_eq!(sectors(serve.device()) * 512, BYTES);
        copy(&noise, serve.device(), &["oflag=direct", "conv=fsync"]);
        let back = dir.path().join("back");
        copy(serve.device(), &back, &["iflag=direct"]);
        let [noise_name, back] = [&noise, &back].map(|file| file.to_str().unwrap());
        assert!(run("cmp", &[noise_name, back]), "the device gives back what it was given");
        assert!(run("cmp", &[noise_name, loops.file().to_str().unwrap()]), "the file has it");
        let zeroes = serve.device();
        copy(Path::new("/dev/zero"), zeroes, &["count=64", "conv=fsync"]);
        serve.terminate().with(0);
        assert!(fs::read(loops.file()).unwrap().iter().all(|&byte| byte == 0), "cached writes are out");
    }
}

fn sectors(device: &Path) -> u64 {
    let size = Path::new("/sys/block").join(device.file_name().unwrap()).join("size");
    fs::read_to_string(size).unwrap().trim().parse().unwrap()
}
