//! Whether a JPEG file is whole.
//!
//! The decoder completes a file that was cut off with grey; so its markers are walked first. Bytes behind the end
//! marker do no harm.

use anyhow::{Result, bail};

/// Scans of a picture, at most: a progressive file of more takes very long to decode and shows nothing else.
const MOST_SCANS: usize = 500;

/// Refuses a file without an image or without its end.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let (mut at, mut scans) = (2, 0);
    while let Some(rest) = bytes.get(at..)
        && let Some(found) = rest.iter().position(|byte| *byte == 0xff)
    {
        at += found + 1;
        match bytes.get(at) {
            // A byte of a scan, a restart, the beginning, or one more byte before a marker.
            None | Some(0xff) => continue,
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(0xd9) if scans == 0 => bail!("it is damaged: a JPEG without an image"),
            Some(0xd9) => return Ok(()),
            Some(marker) => {
                scans += usize::from(*marker == 0xda);
                if scans > MOST_SCANS {
                    bail!("it has more than {MOST_SCANS} scans, which no camera and no program writes");
                }
                let Some([high, low]) = bytes.get(at + 1..at + 3) else { break };
                at += 1 + usize::from(u16::from_be_bytes([*high, *low]));
            }
        }
    }
    bail!("it is cut off: a JPEG without its end marker")
}
