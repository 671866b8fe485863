//! Append-only segment files with group commit: what the event log, the dead-letter log and the usage journal stand on.
//!
//! It promises: an entry is durable when its append returns; what was never acknowledged may vanish, whole; a torn tail is
//! cut at the next start, and damage anywhere else stops loudly instead of losing what lies behind it.
//!
//! ```text
//! folder/0000000000000001.seg      one file a segment, numbered without gaps
//!   magic "TGSEG\x01\0\0" | length u32 | CRC32C u32 | header        the owner's: what a reader needs to start here
//!   length u32 | CRC32C u32 | synced u64 | body                     a frame; repeated
//! ```
//!
//! Integers are little-endian. `synced` is how much of the file was durable when the frame was written: a broken frame
//! with a whole one behind it that knew it to be durable is damage, not a torn tail.

mod appender;
mod disk;
mod file;
mod image;
mod reader;

pub use appender::{AppendError, Appender, Encoder, OnItsWay, Options};
pub(crate) use disk::durably;
pub use disk::{Disk, DiskFile, Folder, RealDisk};
pub use file::{Recovered, header_of, list, read, recover, remove_before};
pub use image::{Damage, Frame, Image};
pub use reader::{Cursor, Item, Reader};
