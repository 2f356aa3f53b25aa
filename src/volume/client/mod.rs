//! A client of a served queue, for many threads and tasks at once.

mod desk;
mod door;
mod ends;
mod intake;
#[cfg(all(test, loom))]
mod loom_models;
mod op;
mod pieces;
mod response;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod transfer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::block::{Extent, Geometry, Limits};
use crate::buffer::{Buffer, Pool};
use crate::error::Error;
use crate::io::{Cookie, Durability, Request, Unmap};
use crate::time::Tick;

use super::dispatcher::Served;
use desk::Desk;
use door::ClientDoor;
use pieces::Pieces;
pub use response::Response;
use transfer::Transfer;

/// Most requests of a client at once.
const MAX_DEPTH: u32 = 65_536;
/// Buffers of its own: many more than places, so that threads wait for places, which cost no thread a wake-up to pass on.
const PIECES: u32 = 256;
/// Most bytes in one.
const PIECE: u32 = 128 << 10;

/// A handle through which any number of threads and tasks use a queue that a [`Dispatcher`](crate::Dispatcher) serves.
/// Cloning gives another handle to the same; all share its places.
///
/// Requests with buffers of one's own give a [`Response`], which is a future under any executor, and can be waited for by
/// a thread. [`read_at`](Self::read_at) and [`write_at`](Self::write_at) block, and copy from and to any slice.
///
/// Every request ends exactly once, also when the volume is closed or the dispatcher ends. When all places are taken,
/// requests wait, and are taken in the order in which they were sent; a request that has ended makes room at once, whether
/// or not anyone looks. Nothing is allocated for a request that succeeds.
///
/// Wakers are called on the dispatcher's thread, which goes on with nothing else meanwhile: they may send requests, and must
/// not block, least of all with a call of this client.
///
/// # Blocking
/// ```
/// # use std::time::Duration;
/// # use mpio::path::BlockDevice;
/// # use mpio::{BlockCount, Dispatcher, Durability, Extent, Lba, Pool, QueueIndex, Volume};
/// # let file = std::env::temp_dir().join(format!("mpio-client-{}", std::process::id()));
/// # std::fs::File::create(&file)?.set_len(1 << 20)?;
/// # let volume = Volume::builder().path(BlockDevice::new(file.clone())).build()?;
/// # let queue = volume.take_queue(QueueIndex(0)).expect("nobody took it");
/// let client = Dispatcher::start()?.serve(queue)?.client(64)?;
///
/// client.write_at(&[0x5a; 8192], 4096, Durability::Cached)?;
/// client.flush().wait().result?;
/// let mut data = [0; 4096];
/// client.read_at(&mut data, 8192)?;
/// assert!(data.iter().all(|&byte| byte == 0x5a));
/// # std::fs::remove_file(file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Asynchronous
/// ```
/// # use mpio::path::BlockDevice;
/// # use mpio::{BlockCount, Client, Dispatcher, Durability, Extent, Lba, Pool, QueueIndex, Volume};
/// async fn copy(client: &Client, pool: &Pool, from: Extent, to: Extent) -> Result<(), mpio::Error> {
///     let buffer = pool.take(pool.size()).expect("one is free");
///     let read = client.read(from, buffer).await;
///     read.result?;
///     let buffer = read.memory.into_buffer().expect("a read that succeeded gives it back");
///     client.write(to, buffer, Durability::Fua).await.result
/// }
/// # let file = std::env::temp_dir().join(format!("mpio-client-async-{}", std::process::id()));
/// # std::fs::File::create(&file)?.set_len(1 << 20)?;
/// # let volume = Volume::builder().path(BlockDevice::new(file.clone())).build()?;
/// # let queue = volume.take_queue(QueueIndex(0)).expect("nobody took it");
/// # let client = Dispatcher::start()?.serve(queue)?.client(64)?;
/// # let pool = Pool::new(4096, 1)?;
/// # let blocks = BlockCount::new(4096 / client.geometry().block_size());
/// # let (from, to) = (Extent::new(Lba::new(0), blocks)?, Extent::new(Lba::new(64), blocks)?);
/// # let mut copying = std::pin::pin!(copy(&client, &pool, from, to));
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # loop {
/// #     if let std::task::Poll::Ready(result) = copying.as_mut().poll(&mut context) { break result?; }
/// #     std::thread::yield_now();
/// # }
/// # std::fs::remove_file(file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # When it is dropped
/// Requests that are under way run on, and responses that are held get their ends.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    timeout: Option<Duration>,
}

/// Told apart from what responses and the door hold: with the last one nothing comes any more.
struct Inner {
    desk: Arc<Desk>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.desk.leave();
    }
}

impl Client {
    pub(super) fn open(served: &Served, depth: u32) -> Result<Self, Error> {
        check_depth(depth)?;
        let block = served.geometry().block_size();
        let size = PIECE.min(served.limits().transfer_bytes).max(block);
        let pool = Pool::new(size, PIECES)?;
        Self::open_with_pool(served, depth, &pool)
    }

    pub(super) fn open_with_pool(served: &Served, depth: u32, pool: &Pool) -> Result<Self, Error> {
        check_depth(depth)?;
        let (geometry, limits) = (served.live_geometry(), served.limits());
        let block = geometry.get().block_size();
        let size = pool.size().min(limits.transfer_bytes) / block * block;
        if size == 0 {
            let problem = format!("its buffers of {} bytes hold no block of {block}", pool.size());
            return Err(Error::setting("pool", problem));
        }
        let pieces: Vec<Buffer> = std::iter::from_fn(|| pool.take(size)).collect();
        if pieces.is_empty() {
            return Err(Error::setting("pool", "all its buffers are out, and a client needs at least one"));
        }
        let pieces = Pieces::new(pieces, size);
        let desk = Arc::new(Desk::new((geometry, limits), depth, pieces, Arc::clone(served.bell())));
        let door = ClientDoor::new(Arc::clone(&desk), depth);
        let client = Self { inner: Arc::new(Inner { desk }), timeout: None };
        served.open(Box::new(door))?;
        Ok(client)
    }

    /// A handle to the same whose requests are given up `timeout` after they were made, unless they have a deadline of
    /// their own: they end with [`Error::DeadlineExceeded`].
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), timeout: Some(timeout) }
    }

    /// Block size and capacity, which [`Volume::grow`](crate::Volume::grow) may change.
    pub fn geometry(&self) -> Geometry {
        self.inner.desk.geometry.get()
    }

    /// What one request may ask for.
    pub fn limits(&self) -> Limits {
        self.inner.desk.limits
    }

    /// Sends a request. One that cannot be accepted (malformed, out of range, beyond the limits, closed) ends at once,
    /// with its buffer.
    pub fn submit(&self, mut request: Request) -> Response {
        let desk = &self.inner.desk;
        if let Err(error) = request.check(desk.geometry.get(), &desk.limits) {
            return Response::refuse(request, error);
        }
        request.deadline = request.deadline.or_else(|| self.deadline());
        Response::send(desk, request)
    }

    fn deadline(&self) -> Option<Tick> {
        self.timeout.map(|timeout| Tick::now().after(timeout))
    }

    /// Reads `extent` into `buffer`, which is exactly as long.
    pub fn read(&self, extent: Extent, buffer: Buffer) -> Response {
        self.submit(Request::read(extent, buffer, Cookie(0)))
    }

    /// Writes `buffer` to `extent`, which is exactly as long.
    pub fn write(&self, extent: Extent, buffer: Buffer, durability: Durability) -> Response {
        self.submit(Request::write(extent, buffer, durability, Cookie(0)))
    }

    /// Makes every write that was completed before this durable.
    pub fn flush(&self) -> Response {
        self.submit(Request::flush(Cookie(0)))
    }

    /// Gives up the content of `extent`.
    pub fn discard(&self, extent: Extent) -> Response {
        self.submit(Request::discard(extent, Cookie(0)))
    }

    /// Zeroes `extent`.
    pub fn write_zeroes(&self, extent: Extent, unmap: Unmap) -> Response {
        self.submit(Request::write_zeroes(extent, unmap, Cookie(0)))
    }

    /// Fills `data` from byte `offset` on; blocks until it is done. What is longer than one buffer of the client goes as
    /// several requests, several at a time.
    ///
    /// # Errors
    /// [`Error::Misaligned`] unless both are of whole blocks, [`Error::OutOfRange`]; that of the first request that
    /// failed: the content of `data` is undefined then.
    pub fn read_at(&self, data: &mut [u8], offset: u64) -> Result<(), Error> {
        Transfer::read(&self.inner.desk, data, offset, self.deadline())?.run()
    }

    /// Writes `data` from byte `offset` on; blocks until it is done. What is longer than one buffer of the client goes as
    /// several requests, several at a time, and is not atomic.
    ///
    /// # Errors
    /// [`Error::Misaligned`] unless both are of whole blocks, [`Error::OutOfRange`]; that of the first request that
    /// failed: others may have been done then, and [`Error::fate`] says whether one may have been.
    pub fn write_at(&self, data: &[u8], offset: u64, durability: Durability) -> Result<(), Error> {
        Transfer::write(&self.inner.desk, data, offset, durability, self.deadline())?.run()
    }
}

fn check_depth(depth: u32) -> Result<(), Error> {
    if (1..=MAX_DEPTH).contains(&depth) {
        return Ok(());
    }
    Err(Error::setting("depth", format!("{depth} is not between 1 and {MAX_DEPTH}")))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("geometry", &self.geometry()).finish_non_exhaustive()
    }
}
