//! A loop device over a file in memory.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

pub(crate) struct Loop {
    node: String,
    file: PathBuf,
}

impl Loop {
    /// Direct I/O on a file of `bytes` bytes in `/dev/shm`; the reason if there can be none.
    pub(crate) fn over_tmpfs(bytes: u64) -> Result<Self, String> {
        let file = PathBuf::from(format!("/dev/shm/mpio-bench-{}", std::process::id()));
        let made = File::create(&file).and_then(|made| {
            // Written, so that reads find pages and not holes.
            let zeroes = vec![0x5a_u8; 1 << 20];
            (0..bytes >> 20).try_for_each(|_| std::io::Write::write_all(&mut &made, &zeroes))
        });
        let attempt =
            made.map_err(|error| format!("no file in /dev/shm: {error}")).and_then(|()| attach(&file));
        if attempt.is_err() {
            let _ = std::fs::remove_file(&file);
        }
        Ok(Self { node: attempt?, file })
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }
}

fn attach(file: &std::path::Path) -> Result<String, String> {
    let output = Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(file).output();
    let output = output.map_err(|error| format!("losetup cannot be run: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("no loop device (this needs root): {}", text.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.node]).status();
        let _ = std::fs::remove_file(&self.file);
    }
}
