//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::measure;

pub(crate) const HELP: &str = "\
Finds what a storage must not do: old data that comes back over newer data (ghost
writes), reads of data that was replaced, acknowledged writes that are lost, torn and
misplaced blocks. Many threads rewrite the same blocks with direct I/O, every block
carries the generation of its write, and each read is checked against what may be there.

Usage: verify [OPTIONS] DEVICE

DEVICE is a block device or a file; the portion that is used is OVERWRITTEN. A device that
is mounted or in use is refused, and data that is neither zeroes nor verify's own is only
overwritten with --destroy.

It assumes that the medium moves each block at least in whole sectors of 512 bytes, also
for a read that meets a write. A disk and a file system's direct I/O to a disk do. A file
in memory (tmpfs) behind more than one loop device does not, nor does buffered I/O, nor
memory that is written in steps of 64 bytes (pmem without BTT): there it tells of blocks
that hold what it did not write, and nothing is wrong.

Options:
  --seconds N         how long the load runs (default 30; 0: only write or check all blocks)
  --threads N         threads that read and write, 1 to 1024 (default 8)
  --offset BYTES      where the portion begins (default 0)
  --size BYTES        how long it is, up to 4194304 blocks (default: up to 64M)
  --blocks N          the same in blocks
  --block-size BYTES  what is written as a whole (default: the device's logical block, a
                      file's 4096)
  --max-io BYTES      longest read or write, up to 1M (default 64K)
  --seed N            of what is read and written where (default 1)
  --flush-every TIME  how often it flushes; none: at the end only (default 1s)
  --zero-percent N    how many of 100 writes write zeroes or discard (default 2)
  --atomic            a torn block is a mismatch even if each part may be there
  --patience TIME     a device that fails is opened again until it answers, for so long;
                      then everything is read, and nothing that was flushed may be missing.
                      0: the first error is the end (default 60s)
  --state FILE        keeps in FILE what another process needs to go on after a kill
  --resume            goes on with the run that FILE is of
  --destroy           overwrites data
  --json              the result as one line of JSON; all else goes to standard error
  --help              this text

TIME is like 500ms, 60s, 2m; BYTES like 4096, 64K, 1G.

Exit code: 0 if all was right, 1 if a mismatch was found, 2 if an option, the device or
the state file cannot be used, 3 if the device failed and did not come back.";

const LONGEST_IO: u64 = 1 << 20;

/// What the command line asks for.
pub(crate) enum Wish {
    Run(Options),
    Help,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) device: PathBuf,
    pub(crate) length: Duration,
    pub(crate) threads: u32,
    pub(crate) offset: Option<u64>,
    pub(crate) size: Option<u64>,
    pub(crate) blocks: Option<u64>,
    pub(crate) block_size: Option<u32>,
    pub(crate) max_io: u32,
    pub(crate) seed: u64,
    /// `None`: at the end only.
    pub(crate) flush_every: Option<Duration>,
    pub(crate) zero_percent: u32,
    pub(crate) patience: Duration,
    pub(crate) state: Option<PathBuf>,
    pub(crate) flags: Flags,
}

/// What is either said or not.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Flags {
    pub(crate) atomic: bool,
    pub(crate) resume: bool,
    pub(crate) destroy: bool,
    pub(crate) json: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong and what would not be.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
        let mut options = Self::default();
        let mut devices = Vec::new();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with('-') {
                devices.push(argument);
                continue;
            }
            if argument == "-h" || argument == "--help" {
                return Ok(Wish::Help);
            }
            if options.flags.set(&argument) {
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            options.set(&name, || value.or_else(|| arguments.next()))?;
        }
        match <[String; 1]>::try_from(devices) {
            Ok([device]) => options.device = device.into(),
            Err(none) if none.is_empty() => return Err("which device? None was named".to_owned()),
            Err(many) => return Err(format!("one device at a time, not {}", many.join(" and "))),
        }
        options.agree()?;
        Ok(Wish::Run(options))
    }

    fn set(&mut self, name: &str, value: impl FnOnce() -> Option<String>) -> Result<(), String> {
        let value = || value().ok_or_else(|| format!("{name} needs a value"));
        match name {
            "--seconds" => self.length = Duration::from_secs(number(name, &value()?, 0, 1 << 32)?),
            "--threads" => self.threads = narrow(number(name, &value()?, 1, 1024)?),
            "--offset" => self.offset = Some(size(name, &value()?)?),
            "--size" => self.size = Some(size(name, &value()?)?),
            "--blocks" => self.blocks = Some(number(name, &value()?, 1, 1 << 40)?),
            "--block-size" => self.block_size = Some(block_size(&value()?)?),
            "--max-io" => match size(name, &value()?)? {
                bytes @ 512..=LONGEST_IO => self.max_io = narrow(bytes),
                bytes => return Err(format!("--max-io {bytes} is not between 512 and 1M")),
            },
            "--seed" => self.seed = number(name, &value()?, 0, u64::MAX)?,
            "--flush-every" => {
                let value = value()?;
                self.flush_every = if value == "none" { None } else { Some(time(name, &value)?) };
            }
            "--zero-percent" => self.zero_percent = narrow(number(name, &value()?, 0, 100)?),
            "--patience" => self.patience = time(name, &value()?)?,
            "--state" => self.state = Some(value()?.into()),
            _ => return Err(format!("there is no option {name}")),
        }
        Ok(())
    }

    /// Refuses what contradicts itself.
    fn agree(&self) -> Result<(), String> {
        if self.size.is_some() && self.blocks.is_some() {
            return Err("--size and --blocks say the same: give one of them".to_owned());
        }
        if !self.flags.resume {
            return Ok(());
        }
        if self.state.is_none() {
            return Err("--resume needs --state FILE".to_owned());
        }
        let given = self.offset.is_some()
            || self.size.is_some()
            || self.blocks.is_some()
            || self.block_size.is_some();
        if given {
            let names = "--offset, --size, --blocks and --block-size";
            return Err(format!("{names} are in the state file: leave them out with --resume"));
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: PathBuf::new(),
            length: Duration::from_secs(30),
            threads: 8,
            offset: None,
            size: None,
            blocks: None,
            block_size: None,
            max_io: 1 << 16,
            seed: 1,
            flush_every: Some(Duration::from_secs(1)),
            zero_percent: 2,
            patience: Duration::from_mins(1),
            state: None,
            flags: Flags::default(),
        }
    }
}

impl Flags {
    /// Whether `argument` is one of them.
    fn set(&mut self, argument: &str) -> bool {
        let flag = match argument {
            "--atomic" => &mut self.atomic,
            "--resume" => &mut self.resume,
            "--destroy" => &mut self.destroy,
            "--json" => &mut self.json,
            _ => return false,
        };
        *flag = true;
        true
    }
}

fn number(name: &str, value: &str, least: u64, most: u64) -> Result<u64, String> {
    let number: u64 = value.parse().map_err(|_| format!("{name} needs a whole number, not {value:?}"))?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{name} {number} is not between {least} and {most}"))
    }
}

fn block_size(value: &str) -> Result<u32, String> {
    match size("--block-size", value)? {
        bytes @ 512..=LONGEST_IO if bytes.is_power_of_two() => Ok(narrow(bytes)),
        bytes => Err(format!("--block-size {bytes} is not a power of two between 512 and 1M")),
    }
}

fn size(name: &str, value: &str) -> Result<u64, String> {
    measure::size(value).ok_or_else(|| format!("{name} needs bytes, like 4096, 64K or 1G, not {value:?}"))
}

fn time(name: &str, value: &str) -> Result<Duration, String> {
    measure::duration(value)
        .ok_or_else(|| format!("{name} needs a time, like 500ms, 60s or 2m, not {value:?}"))
}

/// Of what was found small enough.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
