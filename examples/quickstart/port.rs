//! A path of one's own, control half: a port of the array.
//!
//! Together with `lane.rs` this is all that it takes to bring a kind of storage to a volume.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use mpio::path::{
    Cache, CacheScope, ControlSink, Description, FenceGrade, FenceSupport, Identity, Incarnation, OpenQueue,
    Path, QueueIndex,
};
use mpio::{BlockCount, Cause, Error, Extent, Lba, Limits};

use crate::array::{Array, LONGEST};
use crate::lane::OpenLane;

/// One way into the array.
pub(crate) struct ArrayPort {
    name: String,
    array: Arc<Array>,
    /// The present connection.
    link: Option<Arc<Link>>,
}

impl ArrayPort {
    /// A port that is called `name` in messages.
    pub(crate) fn new(name: String, array: Arc<Array>) -> Self {
        Self { name, array, link: None }
    }

    fn test(&self) -> io::Result<()> {
        let block = Extent::new(Lba::new(0), BlockCount::new(1)).map_err(io::Error::from)?;
        let mut bytes = vec![0; self.array.geometry().block_size() as usize];
        self.array.read(block, &mut bytes)
    }
}

impl Path for ArrayPort {
    fn name(&self) -> String {
        self.name.clone()
    }

    /// A new connection ends the one before it, as a host's new login at a storage port does.
    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        if let Some(earlier) = self.link.replace(Arc::new(Link::new(incarnation))) {
            earlier.cut();
        }
        let geometry = self.array.geometry();
        // A path to a real device would tell its serial number or UUID here. This one has none to tell: whoever adds
        // it to a volume has to vouch for it (`PathOptions::assert_same`).
        let mut description =
            Description::new(Identity::none(), geometry, Limits::new(LONGEST * geometry.block_size()));
        // Completed writes are in the page cache, which is the same behind every port.
        description.cache = Cache::Shared(CacheScope("page cache".to_owned()));
        description.fence = FenceSupport::Proven;
        Ok(description)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        let Some(link) = &self.link else {
            let problem = "has no connection to open a queue on; connect first".to_owned();
            return Err(Error::Path { path: self.name.clone(), problem });
        };
        Ok(Box::new(OpenLane {
            name: format!("{}, queue {}", self.name, queue.0),
            array: Arc::clone(&self.array),
            link: Arc::clone(link),
        }))
    }

    /// Earlier connections than the present one were cut when the next was made.
    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        if let Some(link) = self.link.take_if(|link| link.incarnation <= through) {
            link.cut();
        }
        sink.fenced(through, FenceGrade::Proven);
        Ok(())
    }

    fn probe(&mut self, sink: ControlSink) {
        sink.probed(match (&self.link, self.test()) {
            (None, _) => Err(Cause::NotConnected),
            (Some(_), Ok(())) => Ok(()),
            (Some(_), Err(error)) => Err(error.raw_os_error().map_or(Cause::Aborted, Cause::Errno)),
        });
    }
}

/// One connection: the right to change what is on the array, which can be taken away for good.
pub(crate) struct Link {
    incarnation: Incarnation,
    open: RwLock<bool>,
}

impl Link {
    fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, open: RwLock::new(true) }
    }

    /// Does `io`, unless the link was cut.
    pub(crate) fn carry<T>(&self, io: impl FnOnce() -> T) -> Option<T> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.then(io)
    }

    /// Waits for what is being carried. After that the link never carries anything again: that is what makes it a
    /// fence.
    fn cut(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}
