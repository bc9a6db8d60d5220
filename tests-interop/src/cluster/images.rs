//! Images that run: Debian's static busybox, and nothing else.

use landfall_testkit::image_builder::{BuiltImage, program_image};

/// Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// What a container does that waits to be told to end. The first process of a container ignores what it does not handle.
pub const WAIT: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 1000 & wait; done";

/// An image whose container waits; different names make different images that share their program.
#[must_use]
pub fn waiting_image(name: &str) -> BuiltImage {
    image(name, &["/bin/busybox", "sh", "-c", WAIT])
}

/// An image whose container succeeds at once.
#[must_use]
pub fn finishing_image(name: &str) -> BuiltImage {
    image(name, &["/bin/busybox", "true"])
}

fn image(name: &str, command: &[&str]) -> BuiltImage {
    let busybox = fs_err::read(BUSYBOX).expect("busybox-static (`make test` installs it)");
    program_image("bin/busybox", &busybox)
        .gzip_layer(&[("etc/image", name.as_bytes())])
        .command(command)
        .build()
}
