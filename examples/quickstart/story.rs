//! The story: what is done to the paths, and when.

use std::time::Duration;

/// Something that is done to a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Its connection is lost, and no new one can be made.
    Kill,
    /// Its answers take longer.
    Slow(Duration),
    /// It does what it is told and answers nothing.
    Stall,
    /// It works again.
    Restore,
    /// It is taken out of the volume, and a new port put in its place, while the load runs.
    Replace,
}

impl Act {
    /// The act in words, on a port of this name.
    pub(crate) fn on(self, port: &str) -> String {
        match self {
            Self::Kill => format!("{port} is cut off: its connection is lost"),
            Self::Slow(delay) => {
                format!("{port} becomes slow: each answer takes {} ms longer", delay.as_millis())
            }
            Self::Stall => format!("{port} falls silent: it works, but no answer gets through"),
            Self::Restore => format!("{port} is restored"),
            Self::Replace => format!("{port} is taken out for good; a new port takes its place"),
        }
    }
}

/// One turn of the story.
pub(crate) struct Scene {
    /// When, in percent of the run.
    pub(crate) at: u32,
    /// Which of the ports the volume was built with.
    pub(crate) port: usize,
    pub(crate) act: Act,
}

/// When the load ends and everything is read back, in percent of the run.
pub(crate) const END: u32 = 94;

/// A slow answer is some forty times as late as a good one here.
const DELAY: Duration = Duration::from_millis(20);

/// In the order of time.
pub(crate) const SCENES: [Scene; 7] = [
    scene(12, 1, Act::Kill),
    scene(28, 1, Act::Restore),
    scene(36, 2, Act::Slow(DELAY)),
    scene(48, 2, Act::Restore),
    scene(54, 3, Act::Stall),
    scene(74, 3, Act::Restore),
    scene(84, 0, Act::Replace),
];

const fn scene(at: u32, port: usize, act: Act) -> Scene {
    Scene { at, port, act }
}
