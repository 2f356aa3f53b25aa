//! From the options to what the run needs: the device, the portion, the state of an earlier process.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::thread::park_timeout;
use std::time::Duration;

use mpio::{Pool, Tick};

use crate::block::Block;
use crate::device::{Device, Opened};
use crate::ledger::Ledger;
use crate::load::Start;
use crate::options::Options;
use crate::portion::{MOST_BLOCKS, Portion};
use crate::stamp;
use crate::state::Saved;
use crate::storage::Storage;

const DEFAULT_BYTES: u64 = 64 << 20;
/// What is looked at together.
const LOOK_BYTES: u32 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Setup {
    pub(crate) device: Device,
    pub(crate) opened: Opened,
    pub(crate) saved: Saved,
    pub(crate) ledger: Ledger,
    pub(crate) start: Start,
}

/// Opens and looks at everything; writes nothing.
///
/// # Errors
/// What cannot be used, and why.
pub(crate) fn set_up(options: &Options) -> Result<Setup, String> {
    match &options.state {
        Some(state) if options.flags.resume => resume(options, state),
        Some(state) if state.exists() => {
            let state = state.display();
            Err(format!(
                "the state file {state} exists: --resume goes on with its run; to begin anew, remove it"
            ))
        }
        _ => begin(options),
    }
}

fn begin(options: &Options) -> Result<Setup, String> {
    let mut device = Device::new(options.device.clone());
    let opened = device.open().map_err(|error| error.to_string())?;
    let portion = portion(options, &opened)?;
    device.needed = portion.end();
    look(options, &opened, &portion)?;
    let run = random().map_err(|error| format!("no random number from the kernel: {error}"))?;
    let durable = Vec::new();
    let saved = Saved { run, processes: 1, portion, ceiling: 0, durable };
    let ledger = Ledger::new((0..portion.blocks).map(|_| Block::untouched()));
    Ok(Setup { device, opened, saved, ledger, start: Start::Fill })
}

fn resume(options: &Options, state: &Path) -> Result<Setup, String> {
    let mut saved = Saved::read(state)?;
    saved.processes += 1;
    let mut device = Device::new(options.device.clone());
    device.needed = saved.portion.end();
    let opened = await_device(&device, options.patience)?;
    let (device_block, block) = (opened.least_block, saved.portion.block_size);
    if !block.is_multiple_of(device_block) {
        let name = options.device.display();
        return Err(format!("{name} has blocks of {device_block} bytes, and the run has blocks of {block}"));
    }
    // A bound may be above the ceiling where zeroes were found: see `Block`.
    let highest = saved.durable.iter().copied().max().unwrap_or(0).max(saved.ceiling);
    let blocks = (0..).zip(&saved.durable).map(|(block, &durable)| {
        let zeroed = if Portion::is_zeroable(block) { highest } else { 0 };
        Block::since(durable, highest, zeroed)
    });
    let ledger = Ledger::new(blocks);
    Ok(Setup { device, opened, saved, ledger, start: Start::Check })
}

/// The process that was killed may still have it open, and the device may not be there yet.
fn await_device(device: &Device, patience: Duration) -> Result<Opened, String> {
    let began = Tick::now();
    loop {
        match device.open() {
            Ok(opened) => return Ok(opened),
            Err(error) if Tick::now().since(began) >= patience => return Err(error.to_string()),
            Err(_) => park_timeout(PAUSE),
        }
    }
}

fn portion(options: &Options, opened: &Opened) -> Result<Portion, String> {
    let name = options.device.display();
    let block_size = options.block_size.unwrap_or(opened.block_size);
    if !block_size.is_multiple_of(opened.least_block) {
        let least = opened.least_block;
        return Err(format!("--block-size {block_size} is not a multiple of the {least} bytes of {name}"));
    }
    let (offset, unit) = (options.offset.unwrap_or(0), u64::from(block_size));
    if !offset.is_multiple_of(unit) {
        return Err(format!("--offset {offset} is not a multiple of the block size, {unit}"));
    }
    let room = opened.size.saturating_sub(offset) / unit;
    let wanted = match (options.blocks, options.size) {
        (Some(blocks), _) => blocks,
        (None, Some(size)) if size.is_multiple_of(unit) && size > 0 => size / unit,
        (None, Some(size)) => {
            return Err(format!("--size {size} is not a multiple of the block size, {unit}"));
        }
        (None, None) => room.min((DEFAULT_BYTES / unit).max(1)).max(1),
    };
    if wanted > room {
        let size = opened.size;
        return Err(format!(
            "{name} is too small: it has {size} bytes, and {wanted} blocks of {unit} bytes at offset {offset} are wanted"
        ));
    }
    if wanted > MOST_BLOCKS {
        return Err(format!(
            "{wanted} blocks are more than {MOST_BLOCKS}: make --size smaller or --block-size larger"
        ));
    }
    Ok(Portion { offset, block_size, blocks: wanted })
}

/// Finds whether the device can be read, and refuses to overwrite what somebody may miss.
fn look(options: &Options, opened: &Opened, portion: &Portion) -> Result<(), String> {
    let name = options.device.display();
    let pool = Pool::with_reserve(LOOK_BYTES, 1, 0).map_err(|error| error.to_string())?;
    let mut buffer = pool.take(LOOK_BYTES).ok_or("a pool of one gave none")?;
    let unit = u64::from(portion.block_size);
    // The beginning is where signatures are.
    let beginning = 0..u64::from(LOOK_BYTES).min(opened.size / unit * unit);
    let used =
        if options.flags.destroy { portion.at(0)..portion.at(1) } else { portion.at(0)..portion.end() };
    for Range { start, end } in [beginning, used] {
        let mut at = start;
        while at < end {
            let bytes = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = &mut buffer[..bytes];
            opened.read(bytes, at).map_err(|error| {
                format!("{name} cannot be read in blocks of {unit} bytes, at byte {at}: {error}")
            })?;
            let data = bytes.chunks(portion.block_size as usize).position(|block| !stamp::is_scratch(block));
            if let Some(place) = data.filter(|_| !options.flags.destroy) {
                let at = at + place as u64 * unit;
                return Err(format!("{name} holds data at byte {at}: give --destroy to overwrite it"));
            }
            at += bytes.len() as u64;
        }
    }
    Ok(())
}

/// Tells this run's stamps from those of all others.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
