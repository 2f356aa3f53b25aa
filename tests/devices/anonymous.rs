//! A path that does not say which device it leads to.

use mpio::path::{ControlSink, Description, Identity, Incarnation, OpenQueue, Path, QueueIndex};
use mpio::{Cause, Error};

/// The path within, without its identity: for two ways to one storage that the kernel takes for two devices.
pub(crate) struct Anonymous<P>(pub(crate) P);

impl<P: Path> Path for Anonymous<P> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        let mut description = self.0.connect(incarnation)?;
        description.identity = Identity::none();
        Ok(description)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        self.0.open_queue(queue)
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        self.0.fence(through, sink)
    }

    fn probe(&mut self, sink: ControlSink) {
        self.0.probe(sink);
    }
}
