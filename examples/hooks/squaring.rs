//! The squaring hook in Rust, without a crate. Build it with `rustc -O squaring.rs`, then: target = "exec:./squaring"
//! A request comes on descriptor 3, one a line; its verdict goes to descriptor 4. println! goes to the log.
//!
//! A hook that needs more of the task than its message reads the line with serde_json.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::FromRawFd;

/// Return the text of a field. Quotation marks inside of texts are escaped, so the first match is the field's own.
fn text_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let begin = line.find(&format!("\"{name}\":\""))? + name.len() + 4;
    let size = line[begin..].find('"')?;
    Some(&line[begin..begin + size])
}

/// Return the square of a number of 256 bits, modulo 2**256. The eight limbs of 32 bits begin with the lowest.
fn square(number: [u32; 8]) -> [u32; 8] {
    let mut result = [0u32; 8];
    for i in 0..8 {
        let mut carry = 0u64;
        for j in 0..8 - i {
            let sum = u64::from(number[i]) * u64::from(number[j]) + u64::from(result[i + j]) + carry;
            result[i + j] = sum as u32;
            carry = sum >> 32;
        }
    }
    result
}

/// Return the verdict's fields.
fn respond(digits: &str) -> Result<String, std::num::ParseIntError> {
    if digits.len() != 64 {
        let size = digits.len() / 2;
        return Ok(format!(r#""verdict":"skip","reason":"the message is {size} bytes long, not 32""#));
    }
    let mut number = [0u32; 8];
    for (i, limb) in number.iter_mut().enumerate() {
        *limb = u32::from_str_radix(&digits[56 - 8 * i..64 - 8 * i], 16)?;
    }
    let response: String = square(number).iter().rev().map(|limb| format!("{limb:08x}")).collect();
    Ok(format!(r#""verdict":"answer","response":"0x{response}""#))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (requests, mut replies) = unsafe { (File::from_raw_fd(3), File::from_raw_fd(4)) };
    for line in BufReader::new(requests).lines() {
        let line = line?;
        let id = text_of(&line, "id").ok_or("a request without id")?;
        let message = text_of(&line, "message").ok_or("a request without message")?;
        let verdict = respond(message.trim_start_matches("0x"))?;
        writeln!(replies, r#"{{"version":1,"id":"{id}",{verdict}}}"#)?;
    }
    Ok(())
}
