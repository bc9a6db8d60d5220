//! (in work)
#[cfg(feature = "proto")]
mod proto;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        #[cfg(feature = "proto")]
        Some("proto") => proto::generate(std::path::Path::new(".")),
        _ => Ok(()),
    }
}
