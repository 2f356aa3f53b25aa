//! The kernel's list of FUSE connections.

use std::fs;

use crate::testing_support::{TempDir, run, skip};

/// That list, mounted in a place of its own.
pub(crate) struct Connections(TempDir);

impl Connections {
    pub(crate) fn required() -> Option<Self> {
        let dir = TempDir::new();
        if !run("mount", &["-t", "fusectl", "none", &dir.path().display().to_string()]) {
            skip("fusectl cannot be mounted (needs root)");
            return None;
        }
        Some(Self(dir))
    }

    pub(crate) fn abort(&self, connection: u64) {
        fs::write(self.0.path().join(connection.to_string()).join("abort"), "1").unwrap();
    }

    pub(crate) fn has(&self, connection: u64) -> bool {
        self.0.path().join(connection.to_string()).exists()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        run("umount", &[&self.0.path().display().to_string()]);
    }
}
