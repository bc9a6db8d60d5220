//! Bounds of sizes, durations, counts and addresses on the command line.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use landfall_core::listen::complete_listen_address;
use landfall_core::quantity::{ByteSize, Seconds};

/// Parses a size of at least one byte.
pub(crate) fn positive_size(text: &str) -> Result<NonZeroU64, String> {
    let size = text.parse::<ByteSize>().map_err(|error| error.to_string())?;
    NonZeroU64::new(size.bytes()).ok_or_else(|| "give a size of at least one byte".to_owned())
}

/// Returns a parser of sizes from `min` to `max` bytes.
pub(crate) fn size_in(min: u64, max: u64) -> impl Fn(&str) -> Result<ByteSize, String> + Clone {
    move |text| {
        let size = text.parse::<ByteSize>().map_err(|error| error.to_string())?;
        let [least, most] = [min, max].map(ByteSize::new);
        match (least..=most).contains(&size) {
            true => Ok(size),
            false => Err(format!("give a size from {least} to {most}")),
        }
    }
}

/// Returns a parser of durations from `min` to `max` seconds.
pub(crate) fn seconds_in(min: u64, max: u64) -> impl Fn(&str) -> Result<Seconds, String> + Clone {
    move |text| {
        let time = text.parse::<Seconds>().map_err(|error| error.to_string())?;
        let [least, most] = [min, max].map(Seconds::new);
        match (least..=most).contains(&time) {
            true => Ok(time),
            false if max == u64::MAX => Err(format!("give a duration of at least {least}")),
            false => Err(format!("give a duration from {least} to {most}")),
        }
    }
}

/// Parses a limit of at least 1: with 0, nothing would be done.
pub(crate) fn positive_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number of at least 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// Parses an address to listen on: `127.0.0.1:5000`, `localhost:5000`, `:5000` or `5000`.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    complete_listen_address(text)
        .parse()
        .map_err(|_reason| "give an IP address and a port, e.g. `127.0.0.1:5000`, `:5000` or `5000`".to_owned())
}
