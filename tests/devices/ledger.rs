//! Every request of every queue: that each ends once, and that what is read may be there.
//!
//! A request is entered before it is submitted and struck out after its completion was taken from the queue. So in the
//! books it is under way for longer than in truth, and what the books call "before" was before: the history never
//! complains of what was legal.

use std::collections::BTreeMap;
use std::sync::Mutex;

use mpio::sim::History;
use mpio::{Completion, Cookie, Error, Extent, Fate, Memory, Operation};

use crate::stamps::Found;

/// The books of one volume.
pub(crate) struct Ledger {
    books: Mutex<Books>,
}

struct Books {
    history: History,
    /// Requests under way: the queue, what it does and where.
    open: BTreeMap<Cookie, (u16, Operation, Extent)>,
    next: u64,
    tally: BTreeMap<String, u64>,
}

impl Ledger {
    /// Of a volume of `blocks` blocks, all zeroes.
    pub(crate) fn new(blocks: u64) -> Self {
        let history = History::new(blocks);
        let books = Books { history, open: BTreeMap::new(), next: 1, tally: BTreeMap::new() };
        Self { books: Mutex::new(books) }
    }

    /// Enters a request that is about to be submitted to `queue`. A write's stamp is its cookie.
    pub(crate) fn enter(&self, queue: u16, operation: Operation, extent: Extent) -> Cookie {
        let mut books = self.books.lock().unwrap();
        let cookie = Cookie(books.next);
        books.next += 1;
        books.open.insert(cookie, (queue, operation, extent));
        // What a flush makes durable cannot be seen without pulling the plug.
        if operation != Operation::Flush {
            let stamp = if operation.has_data() { cookie.0 } else { 0 };
            books.history.accepted(cookie, operation, extent, stamp);
        }
        cookie
    }

    /// The queue did not take the request.
    pub(crate) fn withdraw(&self, cookie: Cookie, error: Error) {
        assert_eq!(error.fate(), Fate::NotSent, "{error}");
        let mut books = self.books.lock().unwrap();
        books.end(cookie, &Err(error), &Found::default());
    }

    /// Strikes out a request that `queue` completed.
    pub(crate) fn strike(&self, queue: u16, completion: &Completion) {
        let Completion { cookie, result, memory, .. } = completion;
        let entry = self.books.lock().unwrap().open.get(cookie).copied();
        let Some((owner, operation, extent)) = entry else { panic!("{cookie:?} ended twice") };
        assert_eq!(owner, queue, "{cookie:?} ended on another queue");
        let found = match memory {
            Memory::Returned(buffer) if result.is_ok() && operation == Operation::Read => {
                Found::within(buffer, extent.start().get())
            }
            _ => Found::default(),
        };
        self.books.lock().unwrap().end(*cookie, result, &found);
    }

    /// The owner of `queue` dropped it: what it had under way ends as of unknown fate, and nobody hears of it.
    pub(crate) fn forsake(&self, queue: u16) {
        let mut books = self.books.lock().unwrap();
        let owned = books.open.iter().filter(|(_, (owner, ..))| *owner == queue);
        let lost: Vec<Cookie> = owned.map(|(&cookie, _)| cookie).collect();
        for cookie in lost {
            books.end(cookie, &Err(Error::Closed { fate: Fate::Unknown }), &Found::default());
        }
    }

    /// Checks what the storage holds when nothing is under way.
    pub(crate) fn check_content(&self, bytes: &[u8]) {
        let mut books = self.books.lock().unwrap();
        let found = Found::within(bytes, 0);
        books.history.check_content(&found.stamps);
        for (block, stamp) in found.torn {
            let mut other = found.stamps.clone();
            other[usize::try_from(block).unwrap()] = stamp;
            books.history.check_content(&other);
        }
    }

    /// Everything that was illegal, and every request that has not ended.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let books = self.books.lock().unwrap();
        let open = books.open.iter().map(|(cookie, entry)| format!("{cookie:?} never ended: {entry:?}"));
        open.chain(books.history.violations().iter().cloned()).collect()
    }

    /// How many requests of each kind ended in each way.
    pub(crate) fn tally(&self) -> BTreeMap<String, u64> {
        self.books.lock().unwrap().tally.clone()
    }
}

impl Books {
    fn end(&mut self, cookie: Cookie, result: &Result<(), Error>, found: &Found) {
        let Some((_, operation, _)) = self.open.remove(&cookie) else { panic!("{cookie:?} ended twice") };
        let end = result.as_ref().map_or_else(|error| format!("{:?}", error.class()), |()| "done".into());
        *self.tally.entry(format!("{operation} {end}")).or_default() += 1;
        if operation == Operation::Flush {
            return;
        }
        for &(block, stamp) in &found.torn {
            self.history.glimpsed(cookie, block, stamp);
        }
        self.history.ended(cookie, result, &found.stamps);
    }
}
